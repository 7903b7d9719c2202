"""All ways to run a job: machines x method x region x market, each with its fastest layout, timed and priced."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from spotune.contracts.base import Interval, MicroUSD
from spotune.contracts.money import worst_case
from spotune.contracts.request import Market
from spotune.planner.catalog import InstanceSpec, MarketSnapshot
from spotune.planner.interruptions import (
    BILLED_START_SECONDS,
    DOWNLOAD_BYTES_PER_SECOND,
    ON_DEMAND_HAZARD,
    SAVE_BYTES_PER_SECOND,
    SAVE_SECONDS,
    Course,
    Work,
    expected_course,
    save_interval,
)
from spotune.planner.layouts import Fit, Machines, Timed
from spotune.planner.memory import BYTES_BF16, BYTES_FP32, OPTIMIZER_BYTES
from spotune.planner.throughput import LAUNCH_SECONDS, Speed
from spotune.planner.workload import Workload

GENERATION_BATCH = 16
GENERATED_TOKENS = 64
"""An answer's length, as the container generates."""

TRANSFER_PRICE = 20_000
"""Micro-dollars a gigabyte between regions: EC2's price list, us-east-1 to other regions of the country, 2026-11."""


@dataclass(frozen=True, slots=True)
class Job:
    """What has to be done, whatever does it. Tokens count the whole run."""

    workloads: tuple[Workload, ...]
    """One a method that may be chosen."""
    checkpointing: tuple[bool, ...]
    training_tokens: int
    evaluation_tokens: int
    generated_examples: int
    """Over both evaluations."""
    publication_seconds: int
    save_interval: int | None
    """The request's own, if any."""


@dataclass(frozen=True, slots=True)
class Option:
    """One way to run the job."""

    machines: Machines
    region: str
    market: Market
    price: MicroUSD
    """An instance-hour."""
    on_demand_price: MicroUSD | None
    quota: int | None
    """Instances of the type that the account may run in this market; None where that is not known."""
    timed: Timed
    course: Course
    calm_hours: float
    """Billed, without any interruption."""
    save_interval: int
    cost: Interval
    """Micro-dollars, over all instances."""

    @property
    def spec(self) -> InstanceSpec:
        """The instance type."""
        return self.machines.spec

    @property
    def count(self) -> int:
        """Instances."""
        return self.machines.count

    @property
    def fit(self) -> Fit:
        """Its layout and memory."""
        return self.timed.fit

    @property
    def speed(self) -> Speed:
        """Over all GPUs."""
        return self.timed.speed

    @property
    def ceiling_price(self) -> MicroUSD:
        """The most that an instance-hour can be billed: the on-demand price, on spot too."""
        return self.on_demand_price or self.price

    @property
    def needed_runtime(self) -> int:
        """Billed seconds that the time limit must allow: the forecast's 95 % value."""
        return math.ceil(self.course.billed.high * 3600)

    @property
    def needed_cap(self) -> MicroUSD:
        """The smallest cap that it may start under."""
        return worst_case(self.ceiling_price, self.count, self.needed_runtime)

    @property
    def within_quota(self) -> bool:
        """True where the account may run this many, as far as is known."""
        return self.quota is None or self.quota >= self.count


def list_options(
    job: Job, machines: Machines, best: tuple[Timed, ...], snapshot: MarketSnapshot, *, far: bool
) -> Iterator[Option]:
    """The options of these machines in the markets of one region that quote them.

    Args:
        best: one layout a method.
        far: the region is not the one where the data lies.
    """
    quote = snapshot.quotes.get(machines.spec.instance_type)
    if quote is None:
        return
    markets: list[tuple[Market, MicroUSD | None, float]] = [
        ("spot", quote.spot, quote.hazard),
        ("on_demand", quote.on_demand, ON_DEMAND_HAZARD),
    ]
    for timed in best:
        work = _work(job, timed)
        for market, price, hazard in markets:
            if price is not None:
                yield _option(
                    job, machines, snapshot.region, market, price, quote.on_demand, hazard, timed, work, far=far
                )


def _option(
    job: Job,
    machines: Machines,
    region: str,
    market: Market,
    price: MicroUSD,
    on_demand_price: MicroUSD | None,
    hazard: float,
    timed: Timed,
    work: Work,
    *,
    far: bool,
) -> Option:
    hazard *= machines.count
    interval = job.save_interval or save_interval(work.save, hazard)
    course = expected_course(work, hazard=hazard, interval=interval)
    return Option(
        machines=machines,
        region=region,
        market=market,
        price=price,
        on_demand_price=on_demand_price,
        quota=None,
        timed=timed,
        course=course,
        calm_hours=(work.start + work.training.mid) / 3600,
        save_interval=interval,
        cost=_cost(price * machines.count, course, transfer=_transfer(timed.fit.work, course) if far else 0),
    )


def _cost(rate: MicroUSD, course: Course, *, transfer: float) -> Interval:
    billed = course.billed
    return Interval(
        low=rate * billed.low + transfer, mid=rate * billed.mid + transfer, high=rate * billed.high + transfer
    )


def _transfer(work: Workload, course: Course) -> float:
    """Micro-dollars for carrying the base model to another region at each start, and what is trained back once."""
    carried = work.architecture.parameters * BYTES_BF16 * (1 + course.interruptions)
    return (carried + work.trainable_parameters * BYTES_FP32) / 1e9 * TRANSFER_PRICE


def _work(job: Job, timed: Timed) -> Work:
    """Seconds of start, training with its evaluations and publication, and one checkpoint."""
    work, speed = timed.fit.work, timed.speed
    architecture = work.architecture
    rounds = math.ceil(job.generated_examples / GENERATION_BATCH) * GENERATED_TOKENS
    other = (
        job.evaluation_tokens / speed.forward
        + rounds * architecture.layers * LAUNCH_SECONDS[work.method] / 3
        + job.publication_seconds
    )
    held = BYTES_FP32 + OPTIMIZER_BYTES[work.optimizer]
    return Work(
        start=BILLED_START_SECONDS + architecture.parameters * BYTES_BF16 / DOWNLOAD_BYTES_PER_SECOND,
        training=Interval(
            low=job.training_tokens / speed.training.high + other,
            mid=job.training_tokens / speed.training.mid + other,
            high=job.training_tokens / speed.training.low + other,
        ),
        save=SAVE_SECONDS + work.trainable_parameters * held / SAVE_BYTES_PER_SECOND,
    )
