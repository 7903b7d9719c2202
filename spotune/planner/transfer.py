"""What it costs to carry a job's model and data to another region, and its results back.

AWS charges for a gigabyte by the region that it leaves (`data/transfer.csv`, with sources); what arrives is free.
"""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from spotune.contracts.base import MICRO, MicroUSD

GIGABYTE = 10**9
"""The price is taken for this many bytes; if AWS counts 2**30, the estimate is 7 % high."""

COPY_BYTES_PER_SECOND = 100e6
"""Of a copy between two regions' buckets, in parts at once: a working guess."""

COPY_FIXED_SECONDS = 60
"""What is copied in slices waits for the next one."""

ANY = "*"


@dataclass(frozen=True, slots=True)
class Carriage:
    """What another region asks of a job, before and after it trains there."""

    inward: int
    """Bytes to be copied there first."""
    cost: MicroUSD
    """Of that, and of the results on their way back."""
    hours: float
    """That copying takes."""


NONE = Carriage(inward=0, cost=0, hours=0.0)
"""Of a job that runs where its data lies."""


def carriage(home: str, region: str, inward: int, back: int) -> Carriage:
    """What a region costs that is not the home of model and data.

    Args:
        home: where they lie.
        region: where the job would train.
        inward: bytes to be copied there.
        back: bytes of results.
    """
    if region == home:
        return NONE
    cost = inward * gigabyte_price(home, region) + back * gigabyte_price(region, home)
    hours = (COPY_FIXED_SECONDS + inward / COPY_BYTES_PER_SECOND) / 3600 if inward else 0.0
    return Carriage(inward=inward, cost=math.ceil(cost / GIGABYTE), hours=hours)


def gigabyte_price(source: str, target: str) -> MicroUSD:
    """Micro-dollars a gigabyte from one region to another; the dearest published one where theirs is not known."""
    prices = _prices()
    known = ((source, target), (source, ANY), (ANY, ANY))
    return next(prices[pair] for pair in known if pair in prices)


@cache
def _prices() -> dict[tuple[str, str], MicroUSD]:
    text = Path(__file__).with_name("data").joinpath("transfer.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(text.splitlines())
    return {(row["from"], row["to"]): round(float(row["usd_per_gb"]) * MICRO) for row in rows}
