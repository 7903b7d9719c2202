"""What finished jobs took against what was forecast, and what later plans learn from it."""

from __future__ import annotations

import re
from typing import Literal

from spotune.contracts.base import Contract, MicroUSD, Seconds, Timestamp
from spotune.contracts.plan import Candidate
from spotune.contracts.request import Market

Quantity = Literal["speed", "memory", "start", "spot_price"]
"""What a factor corrects: tokens a second, bytes on a GPU, billed seconds of a start, spot's price."""


class Stay(Contract):
    """One attempt's time on its instances."""

    instance_type: str
    instance_count: int
    market: Market
    training_seconds: Seconds
    """Seconds that passed."""
    billable_seconds: Seconds
    """Those that are billed at the on-demand price: on spot fewer, by its discount."""
    on_demand_price: MicroUSD
    """Micro-dollars an instance-hour."""
    interruptions: int


class Actual(Contract):
    """What a job really took; None where nothing was measured."""

    cost: MicroUSD
    billed_hours: float
    """Seconds that passed on instances, whatever they were billed at."""
    wall_hours: float | None
    """From submission to the end; None where a person paused the job."""
    interruptions: int
    work_lost_hours: float | None
    tokens_per_second: float | None
    peak_memory_bytes: int | None
    """On one GPU, as the container's allocator counts it, without the CUDA context."""
    start_seconds: float | None
    """Billed, from an instance's first second to the end of loading."""
    device: str
    """As the container found it; empty where it left no report."""


def is_card(gpu: str, device: str) -> bool:
    """True where a driver's name ("NVIDIA A100-SXM4-80GB") is that of a catalog's card (A100-80).

    A size in the catalog's name has to be in the driver's; a driver that says none ("Tesla T4") is taken at its word.
    """
    words = re.split(r"[ -]", device.upper())
    kind, _, gigabytes = gpu.upper().partition("-")
    runs = ("".join(words[start:end]) for start in range(len(words)) for end in range(start + 1, len(words) + 1))
    return kind in runs and (not gigabytes or f"{gigabytes}GB" in words)


class FinishedRun(Contract):
    """A job that has ended after time on an instance: the chosen candidate of its plan, and what came of it."""

    id: str
    """The job's."""
    tenant: str
    created_at: Timestamp
    finished_at: Timestamp
    model: str
    completed: bool
    """A model was published; forecasts of time and money hold for such runs alone."""
    forecast: Candidate
    actual: Actual
    stays: tuple[Stay, ...]

    @property
    def elsewhere(self) -> bool:
        """It ran on another device than the planned card, as in embedded mode: its figures say nothing of the card."""
        return self.actual.device != "" and not is_card(self.forecast.gpu, self.actual.device)


class Factor(Contract):
    """By how much forecasts of one quantity were off, drawn towards 1 while few runs say so."""

    quantity: Quantity
    subject: str
    """Speed and memory: a card, or card and method; spot's price: type and region; a start: empty."""
    factor: float
    spread: float
    """Standard deviation of the runs' logarithms about the factor's."""
    runs: int


class SpotHistory(Contract):
    """What the installation's own jobs saw of one type's spot in one region."""

    instance_type: str
    region: str
    interruptions: int
    hours: float
    """Instance-hours."""


class Corrections(Contract):
    """What the newest finished runs teach the planner."""

    runs: int = 0
    """How many were looked at."""
    factors: tuple[Factor, ...] = ()
    spot: tuple[SpotHistory, ...] = ()
