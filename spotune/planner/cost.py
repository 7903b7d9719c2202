"""What machines cost: the price of an hour turned into that of a million tokens."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from spotune.contracts.base import Interval, MicroUSD
from spotune.contracts.estimate import Rent
from spotune.contracts.market import MarketSnapshot
from spotune.contracts.request import Market
from spotune.planner.layouts import Machines
from spotune.planner.span import Span

_TOKENS = 1e6


def list_rents(machines: Iterable[Machines], speed: Span, market: MarketSnapshot) -> list[Rent]:
    """What a million tokens cost on each of these machines, in each market that quotes them, cheapest first."""
    rents = (rent for one in machines for rent in _rents(one, speed, market))
    return sorted(rents, key=lambda rent: rent.million_tokens.mid)


def _rents(machines: Machines, speed: Span, market: MarketSnapshot) -> Iterator[Rent]:
    quote = market.quotes.get(machines.spec.instance_type)
    if quote is None:
        return
    prices: tuple[tuple[Market, MicroUSD | None], ...] = (("spot", quote.spot), ("on_demand", quote.on_demand))
    for name, price in prices:
        if price is not None:
            yield Rent(
                instance_type=machines.spec.instance_type,
                instance_count=machines.count,
                market=name,
                price=price,
                million_tokens=_million_tokens(price * machines.count, speed),
            )


def _million_tokens(price: MicroUSD, speed: Span) -> Interval:
    low, mid, high = (price * _TOKENS / (tokens * 3600) for tokens in (speed.high, speed.mid, speed.low))
    return Interval(low=low, mid=mid, high=high)
