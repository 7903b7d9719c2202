"""The instance catalog as data: what SageMaker rents, what is in it, and what it costs.

`data/instances.csv` has prices with how certain each is, `data/gpus.csv` what was measured of the cards, and
`data/spot.json` a snapshot of the EC2 Spot Instance Advisor.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from spotune.contracts.base import MICRO, MicroUSD, Timestamp
from spotune.contracts.market import Certainty, MarketSnapshot, Quote, Source, SourceName

HOME_REGION = "us-east-1"
"""The region of the bundled on-demand prices."""

PRICES_AS_OF = datetime(2026, 11, 23, tzinfo=UTC).timestamp()
"""When the bundled on-demand prices were gathered."""

_MIB = 1024**2


@dataclass(frozen=True, slots=True)
class Gpu:
    """One card. `peak_share` is the share of the dense peak that long LoRA training reaches."""

    name: str
    usable_memory: int
    """Bytes."""
    dense_tflops: float
    """bf16, or fp16 where there is no bf16; without sparsity."""
    bandwidth: float
    """Bytes a second."""
    bf16: bool
    peak_share: float


@dataclass(frozen=True, slots=True)
class InstanceSpec:
    """One instance type."""

    instance_type: str
    gpu: Gpu
    gpus: int
    vcpus: int
    ram_gib: int
    nvme_gb: int
    link: float
    """Bytes a second and direction between two GPUs of one machine; zero where there is one GPU."""
    network: float
    """Bytes a second between machines: the published figure, a burst on the smaller sizes."""
    on_demand: MicroUSD | None
    """Micro-dollars an hour of SageMaker training in us-east-1; None where no price is public."""
    certainty: Certainty
    price_note: str


@dataclass(frozen=True, slots=True)
class Catalog:
    """All that is bundled."""

    instances: dict[str, InstanceSpec]
    advisor: dict[str, dict[str, tuple[int, int]]]
    """Region -> instance type -> (savings in per cent of on-demand, interruption bucket)."""
    advisor_as_of: Timestamp

    def __iter__(self) -> Iterator[InstanceSpec]:
        return iter(self.instances.values())

    def within(self, allowed: Collection[str]) -> Catalog:
        """Of these types alone; of all where none is named."""
        if not allowed:
            return self
        return replace(self, instances={name: spec for name, spec in self.instances.items() if name in allowed})

    def spot_price(self, instance_type: str, region: str = HOME_REGION) -> MicroUSD | None:
        """On-demand times (1 - savings); SageMaker publishes no spot price. None where the region has no spot."""
        return self._quote(instance_type, region).spot

    def hazard(self, instance_type: str, region: str = HOME_REGION) -> float:
        """Expected spot interruptions an instance-hour."""
        return self._quote(instance_type, region).hazard

    def market(self, region: str = HOME_REGION) -> MarketSnapshot:
        """The bundled snapshot of a region: the fallback where no fresher one is given."""
        warnings = []
        if region != HOME_REGION:
            warnings.append(f"On-demand prices are those of {HOME_REGION}; {region} may differ.")
        if region not in self.advisor:
            warnings.append(f"No spot data is bundled for {region}: only on-demand is planned.")
        return MarketSnapshot(
            region=region,
            as_of=PRICES_AS_OF,
            spot_as_of=self.advisor_as_of,
            quotes={name: self._quote(name, region) for name in self.instances},
            sources=tuple(Source(name=name, as_of=as_of) for name, as_of in self._ages(region).items()),
            warnings=tuple(warnings),
        )

    def _ages(self, region: str) -> dict[SourceName, Timestamp | None]:
        return {
            "sagemaker_prices": PRICES_AS_OF if region == HOME_REGION else None,
            "ec2_prices": None,
            "spot_prices": None,
            "advisor": self.advisor_as_of if region in self.advisor else None,
            "placement_scores": None,
            "quotas": None,
        }

    def _quote(self, instance_type: str, region: str) -> Quote:
        spec = self.instances[instance_type]
        savings, bucket = self.advisor.get(region, {}).get(instance_type, (None, None))
        spot = None
        if savings is not None and spec.on_demand is not None:
            spot = spec.on_demand * (100 - savings) // 100
        elsewhere = spec.certainty == "confirmed" and region != HOME_REGION
        certainty: Certainty = "other_region" if elsewhere else spec.certainty
        return Quote(on_demand=spec.on_demand, certainty=certainty, spot=spot, interruption_bucket=bucket)


@cache
def load_catalog() -> Catalog:
    """The bundled catalog, read once."""
    gpus = {row["gpu"]: _gpu(row) for row in _rows("gpus.csv")}
    instances = {row["instance_type"]: _instance(row, gpus) for row in _rows("instances.csv")}
    spot = json.loads(_text("spot.json"))
    advisor = {
        region: {name: (entry[0], entry[1]) for name, entry in types.items()}
        for region, types in spot["regions"].items()
    }
    as_of = datetime.fromisoformat(spot["as_of"]).replace(tzinfo=UTC).timestamp()
    return Catalog(instances=instances, advisor=advisor, advisor_as_of=as_of)


def _gpu(row: dict[str, str]) -> Gpu:
    return Gpu(
        name=row["gpu"],
        usable_memory=int(row["usable_mib"]) * _MIB,
        dense_tflops=float(row["dense_tflops"]),
        bandwidth=float(row["bandwidth_gbs"]) * 1e9,
        bf16=row["bf16"] == "yes",
        peak_share=float(row["peak_share"]),
    )


def _instance(row: dict[str, str], gpus: dict[str, Gpu]) -> InstanceSpec:
    price = row["on_demand_usd"]
    certainty: dict[str, Certainty] = {
        "confirmed": "confirmed",
        "other_region": "other_region",
        "computed": "computed",
        "none": "none",
    }
    return InstanceSpec(
        instance_type=row["instance_type"],
        gpu=gpus[row["gpu"]],
        gpus=int(row["gpus"]),
        vcpus=int(row["vcpus"]),
        ram_gib=int(row["ram_gib"]),
        nvme_gb=int(row["nvme_gb"]),
        link=float(row["link_gbs"] or 0) * 1e9,
        network=float(row["network_gbps"]) * 1e9 / 8,
        on_demand=round(float(price) * MICRO) if price else None,
        certainty=certainty[row["certainty"]],
        price_note=row["note"],
    )


def _rows(name: str) -> Iterator[dict[str, str]]:
    return csv.DictReader(_text(name).splitlines())


def _text(name: str) -> str:
    return Path(__file__).with_name("data").joinpath(name).read_text(encoding="utf-8")
