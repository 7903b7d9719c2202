"""All ways to run a job: instance type x market x method, each with its fastest fitting micro-batch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from spotune.contracts.base import Interval, MicroUSD
from spotune.contracts.money import longest_runtime, worst_case
from spotune.contracts.plan import MemoryEstimate
from spotune.contracts.request import Market
from spotune.planner.catalog import Gpu, InstanceSpec, MarketSnapshot
from spotune.planner.cost import cost_interval
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
from spotune.planner.memory import BYTES_BF16, BYTES_FP32, OPTIMIZER_BYTES, estimate_memory
from spotune.planner.throughput import LAUNCH_SECONDS, Speed, estimate_speed
from spotune.planner.workload import Layout, Workload

LARGEST_MICRO_BATCH = 64
SPEED_TOLERANCE = 0.02
"""Of configurations within this share of the fastest, the one with the least memory is taken."""
GENERATION_BATCH = 16
GENERATED_TOKENS = 64
"""An answer's length, as the container generates."""


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
class Fit:
    """One configuration on one GPU, whether it fits or not."""

    work: Workload
    layout: Layout
    memory: MemoryEstimate

    @property
    def fits(self) -> bool:
        """By the 95 % value."""
        return self.memory.p95 <= self.memory.usable


@dataclass(frozen=True, slots=True)
class Option:
    """One way to run the job on one GPU."""

    spec: InstanceSpec
    market: Market
    price: MicroUSD
    on_demand_price: MicroUSD | None
    fit: Fit
    speed: Speed
    course: Course
    calm_hours: float
    """Billed, without any interruption."""
    save_interval: int
    cost: Interval

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
        return worst_case(self.ceiling_price, 1, self.needed_runtime)

    def startable(self, cap: MicroUSD) -> bool:
        """True where the cap covers the worst case of a time limit that is long enough."""
        return longest_runtime(self.ceiling_price, 1, cap) >= self.needed_runtime

    def on_time(self, hours: float | None) -> bool:
        """True where the forecast's 95 % value of wall time is within the deadline."""
        return hours is None or self.course.wall.high <= hours


def list_fits(job: Job, gpu: Gpu) -> Iterator[Fit]:
    """Every configuration, fitting or not."""
    for work in job.workloads:
        for micro_batch in _micro_batches(work.global_batch):
            for checkpointing in job.checkpointing:
                layout = Layout(micro_batch, checkpointing)
                yield Fit(work, layout, estimate_memory(work, layout, usable=gpu.usable_memory))


def best_fits(fits: list[Fit], gpu: Gpu) -> list[tuple[Fit, Speed]]:
    """For each method the fastest fitting configuration, or one nearly as fast that needs less memory."""
    by_method: dict[str, list[tuple[Fit, Speed]]] = {}
    for fit in fits:
        if fit.fits:
            speed = estimate_speed(fit.work, fit.layout, gpu)
            by_method.setdefault(fit.work.method, []).append((fit, speed))
    return [_least_memory(candidates) for candidates in by_method.values()]


def list_options(
    job: Job, spec: InstanceSpec, snapshot: MarketSnapshot, fits: list[tuple[Fit, Speed]]
) -> Iterator[Option]:
    """The options of one instance type in the markets that quote it."""
    quote = snapshot.quotes.get(spec.instance_type)
    if quote is None:
        return
    for fit, speed in fits:
        if quote.spot is not None:
            yield _option(job, spec, "spot", quote.spot, quote.on_demand, quote.hazard, fit, speed)
        if quote.on_demand is not None:
            yield _option(job, spec, "on_demand", quote.on_demand, quote.on_demand, ON_DEMAND_HAZARD, fit, speed)


def _option(
    job: Job,
    spec: InstanceSpec,
    market: Market,
    price: MicroUSD,
    on_demand_price: MicroUSD | None,
    hazard: float,
    fit: Fit,
    speed: Speed,
) -> Option:
    work = _work(job, fit, speed)
    interval = job.save_interval or save_interval(work.save, hazard)
    course = expected_course(work, hazard=hazard, interval=interval)
    return Option(
        spec=spec,
        market=market,
        price=price,
        on_demand_price=on_demand_price,
        fit=fit,
        speed=speed,
        course=course,
        calm_hours=(work.start + work.training.mid) / 3600,
        save_interval=interval,
        cost=cost_interval(price, 1, course.billed),
    )


def _work(job: Job, fit: Fit, speed: Speed) -> Work:
    """Seconds of start, training with its evaluations and publication, and one checkpoint."""
    work = fit.work
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


def _least_memory(candidates: list[tuple[Fit, Speed]]) -> tuple[Fit, Speed]:
    fastest = max(speed.training.mid for _, speed in candidates)
    near = [pair for pair in candidates if pair[1].training.mid >= fastest * (1 - SPEED_TOLERANCE)]
    return min(near, key=lambda pair: (pair[0].memory.p95, pair[0].layout.micro_batch))


def _micro_batches(global_batch: int) -> list[int]:
    """Divisors of the global batch, so that accumulation comes out even."""
    return [size for size in range(1, min(global_batch, LARGEST_MICRO_BATCH) + 1) if global_batch % size == 0]
