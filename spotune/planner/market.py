"""What fetched values do to the last good snapshot: absurd ones are refused, missing ones keep what was known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from spotune.contracts.base import MicroUSD, Timestamp
from spotune.contracts.market import Certainty, MarketSnapshot, Price, Quotas, Quote, Source, SourceName

LARGEST_JUMP = 10
"""A price that moves by more than this factor against the last good one is taken for a fault of the source."""
_WEEK = 7 * 24 * 3600


@dataclass(frozen=True)
class Fetched:
    """What the sources answered; None where one failed, with why in `errors`. By SageMaker's names of the types."""

    sagemaker_prices: Mapping[str, MicroUSD] | None = None
    ec2_prices: Mapping[str, MicroUSD] | None = None
    spot_prices: Mapping[str, MicroUSD] | None = None
    advisor: Mapping[str, tuple[int, int]] | None = None
    """Savings in per cent of on-demand, and the interruption bucket."""
    placement_scores: Mapping[str, int] | None = None
    quotas: Mapping[str, Quotas] | None = None
    errors: Mapping[SourceName, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Merged:
    """The new snapshot, and what was refused on the way to it, in words."""

    snapshot: MarketSnapshot
    refused: tuple[str, ...]


def merge(previous: MarketSnapshot, fetched: Fetched, now: Timestamp) -> Merged:
    """Take what is plausible into the last good snapshot.

    A source that failed keeps its values and their age. A type that a source does not name keeps its value. A price
    of zero or less, one that jumped more than tenfold, and spot above on-demand are refused, for that type alone.
    """
    refused: list[str] = []
    quotes = {name: _quote(name, quote, fetched, refused) for name, quote in previous.quotes.items()}
    sources = tuple(_source(source, fetched, now) for source in previous.sources)
    ages = {source.name: source.as_of for source in sources}
    snapshot = MarketSnapshot(
        region=previous.region,
        as_of=ages["sagemaker_prices"] or previous.as_of,
        spot_as_of=ages["spot_prices"] or ages["advisor"] or previous.spot_as_of,
        quotes=quotes,
        sources=sources,
        warnings=tuple(_warnings(previous, sources, now)),
    )
    return Merged(snapshot, tuple(refused))


def _quote(name: str, old: Quote, fetched: Fetched, refused: list[str]) -> Quote:
    sagemaker = _price(name, "on-demand", old.on_demand, fetched.sagemaker_prices, refused)
    listed = fetched.sagemaker_prices is not None and sagemaker == fetched.sagemaker_prices.get(name)
    certainty: Certainty = "confirmed" if listed else old.certainty
    ec2 = _price(name, "EC2 on-demand", old.ec2_on_demand, fetched.ec2_prices, refused)
    ec2_spot = _price(name, "EC2 spot", old.ec2_spot, fetched.spot_prices, refused)
    if ec2 is not None and ec2_spot is not None and ec2_spot > ec2:
        refused.append(f"{name}: EC2 spot price {ec2_spot} is above on-demand {ec2}")
        ec2_spot = old.ec2_spot if old.ec2_spot is not None and old.ec2_spot <= ec2 else None
    savings, bucket = (fetched.advisor or {}).get(name, (None, old.interruption_bucket))
    if bucket is not None and not 0 <= bucket <= 4:
        refused.append(f"{name}: interruption bucket {bucket} is none of 0 to 4")
        bucket = old.interruption_bucket
    return Quote(
        on_demand=sagemaker,
        certainty=certainty,
        spot=_spot(name, sagemaker, ec2, ec2_spot, savings, old, refused),
        ec2_on_demand=ec2,
        ec2_spot=ec2_spot,
        interruption_bucket=bucket,
        placement_score=_score(name, old, fetched, refused),
        quotas=(fetched.quotas or {}).get(name, old.quotas),
    )


def _price(
    name: str, what: str, old: Price | None, prices: Mapping[str, MicroUSD] | None, refused: list[str]
) -> Price | None:
    new = (prices or {}).get(name)
    if new is None:
        return old
    if new <= 0:
        refused.append(f"{name}: {what} price {new} is not above zero")
        return old
    if old is not None and not old / LARGEST_JUMP <= new <= old * LARGEST_JUMP:
        refused.append(f"{name}: {what} price {new} jumped more than tenfold from {old}")
        return old
    return new


def _spot(
    name: str,
    on_demand: Price | None,
    ec2: Price | None,
    ec2_spot: Price | None,
    savings: int | None,
    old: Quote,
    refused: list[str],
) -> Price | None:
    """SageMaker's on-demand price at EC2's discount; without EC2's prices, at the advisor's; else what was known."""
    if on_demand is None:
        return None
    if ec2 is not None and ec2_spot is not None:
        return max(on_demand * ec2_spot // ec2, 1)
    if savings is not None:
        if 0 <= savings < 100:
            return max(on_demand * (100 - savings) // 100, 1)
        refused.append(f"{name}: savings of {savings} per cent are none of 0 to 99")
    return old.spot if old.spot is not None and old.spot <= on_demand else None


def _score(name: str, old: Quote, fetched: Fetched, refused: list[str]) -> int | None:
    score = (fetched.placement_scores or {}).get(name, old.placement_score)
    if score is not None and not 1 <= score <= 10:
        refused.append(f"{name}: placement score {score} is none of 1 to 10")
        return old.placement_score
    return score


def _source(source: Source, fetched: Fetched, now: Timestamp) -> Source:
    if getattr(fetched, source.name) is None:
        return source.with_(error=fetched.errors.get(source.name, "gave no answer"))
    return Source(name=source.name, as_of=now)


def _warnings(previous: MarketSnapshot, sources: tuple[Source, ...], now: Timestamp) -> Iterator[str]:
    for source in sources:
        if source.name == "sagemaker_prices" and source.as_of is None:
            yield from (warning for warning in previous.warnings if warning.startswith("On-demand prices"))
        if source.error and (source.as_of is None or now - source.as_of > _WEEK):
            yield f"{source.name} could not be refreshed: {source.error}."
