"""All ways to run a job: machines x method x region x market, each with its fastest layout, timed and priced."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from spotune.contracts.base import MicroUSD
from spotune.contracts.market import MarketSnapshot
from spotune.contracts.money import worst_case
from spotune.contracts.request import Market
from spotune.planner.catalog import InstanceSpec
from spotune.planner.disk import needed_gb, room_gb
from spotune.planner.evaluation import Evaluations
from spotune.planner.interruptions import (
    BILLED_START_SECONDS,
    DOWNLOAD_BYTES_PER_SECOND,
    ON_DEMAND_HAZARD,
    Course,
    Save,
    Work,
    expected_course,
    kept_seconds,
    save_interval,
)
from spotune.planner.layouts import Fit, Layouts, Machines, Timed
from spotune.planner.memory import MOMENT_BYTES
from spotune.planner.span import Span
from spotune.planner.throughput import Speed
from spotune.planner.transfer import Carriage, carriage
from spotune.planner.workload import Workload

WEIGHT_BYTES, TRAINED_BYTES = 2, 4
"""A base model's parameter on its way to the machine, and a trained one's on its way back."""

MARKETS: tuple[Market, ...] = ("spot", "on_demand")


@dataclass(frozen=True, slots=True)
class Job:
    """What has to be done, whatever does it. Tokens count the whole run."""

    workloads: tuple[Workload, ...]
    """One a method that may be chosen."""
    checkpointing: tuple[bool, ...]
    training_tokens: int
    evaluations: Evaluations
    publication_seconds: int
    save_interval: int | None
    """The request's own, if any."""
    input_bytes: int = 0
    """Of the base model and the files, about."""
    judged_bytes: int = 0
    """Of them, the champion's and the golden prompts'."""
    whole_bytes: int = 0
    """Of the 16-bit weights that are published whole: a GPU or the machine's memory holds them when they are made."""
    resting_bytes: int = 0
    """On the disk, but for checkpoints."""
    to_copy: Mapping[str, int] = field(default_factory=dict)
    """Bytes that a region lacks of them; all of them where it is not named."""


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
    start_seconds: float
    calm_hours: float
    """Billed, without any interruption."""
    save_interval: int
    cost: Span
    """Micro-dollars, over all instances, the transfer included."""
    carriage: Carriage
    """To and from its region."""

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
        return worst_case(self.ceiling_price, self.count, self.needed_runtime) + self.carriage.cost

    @property
    def ends(self) -> bool:
        """False where restarts eat all progress."""
        return self.course.billed.high < math.inf

    @property
    def within_quota(self) -> bool:
        """True where the account may run this many, as far as is known."""
        return self.quota is None or self.quota >= self.count


def list_options(
    job: Job, machines: Machines, layouts: Layouts, snapshot: MarketSnapshot, *, home: str
) -> Iterator[Option]:
    """The options of these machines in the markets of one region that quote them.

    Args:
        layouts: the best one a method.
        home: the region where model and data lie.
    """
    quote = snapshot.quotes.get(machines.spec.instance_type)
    if quote is None:
        return
    name, region, corrector = machines.spec.instance_type, snapshot.region, layouts.corrector
    hazards = {"spot": corrector.hazard(name, region, quote.hazard), "on_demand": ON_DEMAND_HAZARD}
    spot = None if quote.spot is None else corrector.spot_price(name, region, quote.spot, quote.on_demand)
    for timed in layouts.best:
        if disk_needed(job, timed.fit.work) > room_gb(machines.spec):
            continue
        work = _work(job, timed, corrector.factor("start"))
        carried = _carriage(job, timed.fit.work, home, region)
        for market in MARKETS:
            price = spot if market == "spot" else quote.on_demand
            if price is not None:
                hazard = machines.count * hazards[market]
                kept = kept_seconds(_checkpoint_bytes(timed.fit.work), price * machines.count)
                interval = job.save_interval or save_interval(work.save, hazard, kept)
                course = expected_course(work, hazard=hazard, interval=interval)
                yield Option(
                    machines=machines,
                    region=region,
                    market=market,
                    price=price,
                    on_demand_price=quote.on_demand,
                    quota=quote.quota(market),
                    timed=timed,
                    course=replace(course, wall=course.wall.plus(carried.hours)),
                    start_seconds=work.start,
                    calm_hours=(work.start + work.training.mid) / 3600,
                    save_interval=interval,
                    cost=course.billed.times(price * machines.count).plus(carried.cost),
                    carriage=carried,
                )


def disk_needed(job: Job, work: Workload) -> int:
    """GB of each machine's disk, the image included."""
    return needed_gb(job.resting_bytes, _checkpoint_bytes(work))


def _carriage(job: Job, work: Workload, home: str, region: str) -> Carriage:
    """Model and data go there once, before the first start; what is trained comes back."""
    return carriage(home, region, job.to_copy.get(region, job.input_bytes), work.trainable_parameters * TRAINED_BYTES)


def _work(job: Job, timed: Timed, slower_start: float) -> Work:
    """Seconds of start, training with its evaluations and publication, and one checkpoint."""
    work, speed = timed.fit.work, timed.speed
    architecture = work.architecture
    other = job.evaluations.seconds(speed.forward, architecture) + job.publication_seconds
    downloaded = architecture.parameters * WEIGHT_BYTES + job.judged_bytes
    return Work(
        start=slower_start * (BILLED_START_SECONDS + downloaded / DOWNLOAD_BYTES_PER_SECOND),
        training=Span(
            job.training_tokens / speed.training.high,
            job.training_tokens / speed.training.mid,
            job.training_tokens / speed.training.low,
        ).plus(other),
        save=Save.of(_checkpoint_bytes(work)),
    )


def _checkpoint_bytes(work: Workload) -> float:
    """Of what is trained, and the optimizer's two moments of it."""
    return work.trainable_parameters * (TRAINED_BYTES + 2 * MOMENT_BYTES[work.optimizer])
