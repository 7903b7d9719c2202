"""What interruptions do to a run: how often to save, and the billed and the wall time that remain to be expected."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

from spotune.contracts.checkpoint import WRITES_APART, stretched
from spotune.planner.span import Span

BILLED_START_SECONDS = 482
"""Image pull, download and loading, as one published attempt was billed for them. Every start pays it."""

_START_LOW, _START_HIGH = 0.7, 1.5
"""The interval about a start: one attempt was published, so it is wide."""

FREE_START_SECONDS = 80
"""What the same attempt waited without being billed."""

DOWNLOAD_BYTES_PER_SECOND = 250e6
"""Of a base model beyond the fixed start."""

WRITE_BYTES_PER_SECOND = 500e6
WRITE_SECONDS = 2.0
"""Fixed part of writing a checkpoint."""
WAITED_SHARE = 0.05
"""Of a write, what the steps beside it are longer by: 0.04 with LoRA and nothing with full fine-tuning where
`make bench-resume` measured it, on a CPU."""
KEPT_DAYS = 2
"""That the artifacts bucket keeps a superseded checkpoint after it was deleted: one, from midnight on."""
KEPT_PRICE = 0.023e6 / 1e9 / 30
"""Micro-dollars a byte and day: S3 Standard, the first 50 TB a month in us-east-1."""

QUEUE_SECONDS = Span(low=60, mid=600, high=3480)
"""Waiting for capacity at the start: 28 to 58 minutes were measured on-demand in 2026; the mid is a working guess."""

RESTART_SECONDS = 600
"""Waiting for capacity after an interruption, as the spot simulations take it."""

ON_DEMAND_HAZARD = 0.0005
"""Failures of hardware and host, an instance-hour: a working guess."""

MIN_PERIOD, MAX_PERIOD = 30, 1800
"""Seconds from one checkpoint to the next."""

PRIOR_INTERRUPTIONS = 2.0
"""What a prior weighs: as much as having seen this many interruptions.

The rates of the seven published traces differ as a gamma distribution of shape 2 does: mean squared over variance,
which `make bench-spot` prints.
"""

_NORMAL_95 = 1.645
"""The 95 % quantile of the normal distribution."""


@dataclass(frozen=True, slots=True)
class Hazard:
    """What is known of how often an instance of one type is interrupted in one region: a gamma distribution."""

    interruptions: float
    """Counted, the prior's included."""
    hours: float
    """Instance-hours over which they were counted."""

    @property
    def rate(self) -> float:
        """Expected interruptions an instance-hour."""
        return self.interruptions / self.hours

    def seen(self, interruptions: int, hours: float) -> Hazard:
        """After more history of the same type and region: the posterior of a Poisson count, in closed form."""
        return Hazard(self.interruptions + interruptions, self.hours + hours)


def prior_hazard(rate: float) -> Hazard:
    """Before any history of our own: this many interruptions an instance-hour, as the advisor's bucket has it.

    It weighs 17 instance-hours at 0.12 an hour and 200 at 0.01, so the worse the bucket, the sooner history rules.
    """
    return Hazard(interruptions=PRIOR_INTERRUPTIONS, hours=PRIOR_INTERRUPTIONS / rate)


@dataclass(frozen=True, slots=True)
class Save:
    """What one checkpoint takes, in seconds. It is written beside training, and costs less than it takes."""

    write: float
    """From its copy until it is whole. What is trained meanwhile is not in it."""
    waited: float
    """That training waits for it: what the steps beside it are longer by."""

    @classmethod
    def of(cls, size: float) -> Save:
        """One of so many bytes, as a forecast has it."""
        write = WRITE_SECONDS + size / WRITE_BYTES_PER_SECOND
        return cls(write, WAITED_SHARE * write)

    def period(self, interval: float) -> float:
        """From one checkpoint to the next: each is whole before the one before it is an interval old, and one is
        written at a time."""
        return max(stretched(interval, self.write) - self.write, self.write)

    def lost(self, interval: float, training: float) -> float:
        """Training that an interruption takes back on average: half a period, and what was trained beside a write; of
        a run that ends before it has saved, half of all."""
        return min(self.period(interval) / 2 + self.write, training / 2)


@dataclass(frozen=True, slots=True)
class Work:
    """A run without interruptions, in seconds. `start` is billed and is paid again by every restart."""

    start: float
    training: Span
    save: Save


@dataclass(frozen=True, slots=True)
class Course:
    """The same run with interruptions, in hours."""

    billed: Span
    wall: Span
    interruptions: float
    """Expected number."""
    work_lost: float
    """Expected hours of training that are done again."""

    def on_time_probability(self, hours: float) -> float:
        """Probability that the wall time is at most this: lognormal on either side of the mid value.

        The 95 % value has 0.95 exactly. From the median on, a simulation in the tests agrees within 0.07, and is
        seldom later.
        """
        if hours <= 0 or math.isinf(self.wall.mid):
            return 0.0
        tail = self.wall.high if hours >= self.wall.mid else self.wall.low
        spread = abs(math.log(tail / self.wall.mid)) / _NORMAL_95
        return _normal((math.log(hours) - math.log(self.wall.mid)) / spread)

    def hours_at(self, probability: float) -> float:
        """Hours within which it ends with this probability, above 0 and below 1: the inverse of the above."""
        deviations = _deviations(probability)
        tail = self.wall.high if deviations >= 0 else self.wall.low
        if math.isinf(tail):
            return tail
        return float(self.wall.mid * (tail / self.wall.mid) ** (abs(deviations) / _NORMAL_95))


def save_interval(save: Save, hazard: float, kept: float = 0.0) -> int:
    """Seconds of training that an interruption takes back at most, where checkpoints cost least together with it.

    From one checkpoint to the next sqrt(2 x cost x mean time between interruptions), from 30 s to half an hour: Young
    (1974), as refined by Daly (2006). Their cost is a write for which training stands still; here it is what training
    waits for, and what keeping the checkpoint costs. The write itself is lost once an interruption, however often one
    is saved, so that it shifts the interval and does not stretch it.

    Args:
        hazard: interruptions an hour.
        kept: seconds of the machines' price that storage takes for one checkpoint.
    """
    best = math.sqrt(2 * (save.waited + kept) * 3600 / hazard)
    period = min(max(best, MIN_PERIOD), MAX_PERIOD)
    return round(max(period + save.write, WRITES_APART * save.write))


def kept_seconds(size: float, price: float) -> float:
    """Seconds of machines at `price` micro-dollars an hour that storage takes for one checkpoint of `size` bytes."""
    return KEPT_DAYS * KEPT_PRICE * size / max(price, 1) * 3600


def expected_course(work: Work, *, hazard: float, interval: int) -> Course:
    """Billed and wall time with a hazard per hour and a save interval in seconds.

    Billed time B solves B = start + training x (1 + waited / period) + B x hazard x (start + period / 2 + write): each
    interruption loses half a period with a write, and pays the start again. The high end takes the interruptions' 95 %
    quantile. Where restarts eat all progress, the times are infinite.
    """
    lost = work.save.lost(interval, work.training.mid)
    loss = work.start + lost
    rate = hazard / 3600
    if rate * loss >= 1:
        never = Span(low=math.inf, mid=math.inf, high=math.inf)
        return Course(billed=never, wall=never, interruptions=math.inf, work_lost=math.inf)
    saving = 1 + work.save.waited / work.save.period(interval)
    billed_mid, count = _settle(work.start + work.training.mid * saving, loss, rate)
    slow, slow_count = _settle(work.start * _START_HIGH + work.training.high * saving, loss, rate)
    billed_high = slow + (_poisson_95(slow_count) - slow_count) * loss
    billed_low = work.start * _START_LOW + work.training.low * saving
    pauses = FREE_START_SECONDS + RESTART_SECONDS
    wall_mid = billed_mid + FREE_START_SECONDS + count * pauses + QUEUE_SECONDS.mid
    late = math.hypot(
        billed_high - billed_mid + (_poisson_95(slow_count) - count) * pauses, QUEUE_SECONDS.high - QUEUE_SECONDS.mid
    )
    return Course(
        billed=_hours(billed_low, billed_mid, billed_high),
        wall=_hours(billed_low + FREE_START_SECONDS + QUEUE_SECONDS.low, wall_mid, wall_mid + late),
        interruptions=count,
        work_lost=count * lost / 3600,
    )


def _settle(work: float, loss: float, rate: float) -> tuple[float, float]:
    """Billed seconds and interruptions that are expected of this much work."""
    billed = work / (1 - rate * loss)
    return billed, billed * rate


def _poisson_95(mean: float) -> float:
    """The 95 % quantile of a Poisson count, smoothed (normal with the skew's correction), never below the mean."""
    return mean + _NORMAL_95 * math.sqrt(mean) + 0.28 * min(1.0, mean)


def _normal(deviations: float) -> float:
    return (1 + math.erf(deviations / math.sqrt(2))) / 2


@lru_cache(maxsize=64)
def _deviations(probability: float) -> float:
    """The normal distribution's quantile, by bisection; rounded up, so that it is never less than asked for."""
    low, high = -9.0, 9.0
    while high - low > 1e-9:
        middle = (low + high) / 2
        low, high = (middle, high) if _normal(middle) < probability else (low, middle)
    return high


def _hours(low: float, mid: float, high: float) -> Span:
    return Span(low=low / 3600, mid=mid / 3600, high=high / 3600)
