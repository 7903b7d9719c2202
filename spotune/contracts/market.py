"""Prices, interruption rates and quotas of one region at one time: what a refresh writes and a plan reads."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from spotune.contracts.base import Contract, Timestamp
from spotune.contracts.request import Market

HAZARDS = (0.01, 0.02, 0.04, 0.07, 0.12)
"""Interruptions an instance-hour for the advisor's buckets 0..4: a prior.

The advisor's percentages, read literally, mean thousands of hours between interruptions, while published traces of GPU
spot show mean up-times of 0.7 to 10 hours; the prior lies between them.
"""

Certainty = Literal["confirmed", "other_region", "computed", "none"]
"""Of a price: read in the region, read in another one, computed from EC2's, or unknown."""

SourceName = Literal["sagemaker_prices", "ec2_prices", "spot_prices", "advisor", "placement_scores", "quotas"]

Price = Annotated[int, Field(gt=0)]
"""Micro-dollars an instance-hour."""

Count = Annotated[int, Field(ge=0)]


class Quotas(Contract):
    """Instances of one type that the account may train on at a time; None where that is not known."""

    spot: Count | None = None
    on_demand: Count | None = None


class Quote(Contract):
    """What one instance type costs; None where it is not offered or not known."""

    on_demand: Price | None
    certainty: Certainty
    spot: Price | None = None
    """SageMaker publishes none: on-demand times EC2's spot price over EC2's on-demand price, or less the advisor's
    savings."""
    ec2_on_demand: Price | None = None
    ec2_spot: Price | None = None
    """Median over the region's zones of the newest prices."""
    interruption_bucket: Annotated[int, Field(ge=0, le=4)] | None = None
    placement_score: Annotated[int, Field(ge=1, le=10)] | None = None
    """EC2's guess of how likely a spot request is to be met, 10 the best."""
    quotas: Quotas = Quotas()

    @property
    def hazard(self) -> float:
        """Expected spot interruptions an instance-hour; the worst bucket's where none is known."""
        return HAZARDS[-1 if self.interruption_bucket is None else self.interruption_bucket]

    def quota(self, market: Market) -> int | None:
        """Instances that the account may run in this market; None where that is not known."""
        return self.quotas.spot if market == "spot" else self.quotas.on_demand


class Source(Contract):
    """Where values come from, and when they were last good."""

    name: SourceName
    as_of: Timestamp | None = None
    """None where it never answered; the bundled values stand in."""
    error: str = ""
    """Why the last try failed; empty where it did not."""


class MarketSnapshot(Contract):
    """One region's market."""

    version: Literal[2] = 2
    region: str
    as_of: Timestamp
    """When the on-demand prices were true."""
    spot_as_of: Timestamp
    quotes: dict[str, Quote]
    sources: tuple[Source, ...] = ()
    warnings: tuple[str, ...] = ()
    """What a plan on these prices must say."""


def quota_name(instance_type: str, market: Market) -> str:
    """What Service Quotas calls it, among SageMaker's quotas."""
    return f"{instance_type} for {'spot training' if market == 'spot' else 'training'} job usage"
