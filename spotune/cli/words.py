"""Figures and states in the words of the CLI."""

from __future__ import annotations

import time

from spotune.contracts.api import JobObject
from spotune.contracts.base import Interval, MicroUSD, dollars
from spotune.contracts.plan import Candidate
from spotune.contracts.training import Progress
from spotune.contracts.verdict import GateDecision

_MARKETS = {"spot": "spot", "on_demand": "on-demand"}
DECISIONS: dict[GateDecision, str] = {"promote": "passed", "hold": "held for a person", "reject": "rejected"}
"""A gate's decision as people say it."""


def state_words(answer: JobObject) -> str:
    """The job's state, with what it waits for."""
    details = answer.spotune
    return f"{details.state}, waiting for {details.waiting_for}" if details.waiting_for else details.state


def trackers_words(answer: JobObject) -> str:
    """Where a job's trackers have it: a server's address, or the folder of their own files once it is published."""
    folder, places = answer.spotune.output_uri, []
    for one in answer.integrations or ():
        server = one.get("mlflow")
        if isinstance(server, dict):
            places.append(f"mlflow at {server['tracking_uri']}")
        elif folder:
            places.append(f"{one['type']} in {folder}trackers/{one['type']}/")
    return ", ".join(places)


def progress_words(progress: Progress) -> str:
    """One line: phase, step, loss, speed, time left."""
    words = [progress.phase.replace("_", " ")]
    if progress.total_steps:
        words.append(f"step {progress.step}/{progress.total_steps}")
    if progress.loss is not None:
        words.append(f"loss {progress.loss:.3f}")
    if progress.tokens_per_second:
        words.append(f"{progress.tokens_per_second:,.0f} tokens/s")
    if progress.eta_seconds is not None:
        words.append(f"{duration(progress.eta_seconds)} left")
    return ", ".join(words)


def machines(candidate: Candidate) -> str:
    """`1 x ml.g5.xlarge`."""
    return f"{candidate.instance_count} x {candidate.instance_type}"


def met(condition: bool | None) -> str:
    """Whether a condition is met."""
    return {True: "yes", False: "no", None: "a person decides"}[condition]


def fit(candidate: Candidate) -> str:
    """How a step is laid out on a GPU."""
    said = [
        candidate.precision,
        f"micro-batch {candidate.micro_batch_size}",
        f"accumulation {candidate.gradient_accumulation}",
        f"gradient checkpointing {'on' if candidate.gradient_checkpointing else 'off'}",
    ]
    if candidate.sharding != "none":
        said.append(candidate.sharding)
    return ", ".join(said)


def market(name: str) -> str:
    """A market as people say it."""
    return _MARKETS[name]


def place(candidate: Candidate) -> str:
    """`spot`; `spot in eu-west-1` where that is not the home of model and data."""
    name = market(candidate.market)
    return f"{name} in {candidate.region}" if candidate.transfer else name


def transfer(candidate: Candidate) -> str:
    """What a candidate of another region pays for the way there and back."""
    return (
        f"{dollars(candidate.transfer)} of the cost: {size(candidate.transfer_bytes)} are copied to {candidate.region} "
        f"first, and the results come back from there"
    )


def money(interval: Interval) -> str:
    """Micro-dollars with their interval."""
    low, mid, high = (dollars(round(value)) for value in (interval.low, interval.mid, interval.high))
    return f"{mid} ({low} to {high})"


def hours(interval: Interval) -> str:
    """Hours with their interval, in the unit that reads best."""
    low, mid, high = (duration(value * 3600) for value in (interval.low, interval.mid, interval.high))
    return f"{mid} ({low} to {high})"


def duration(seconds: float) -> str:
    """`42 s`, `7 min 05 s`, `3 h 20 min`, `2 d 4 h`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86_400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3600} h"


def size(count: int) -> str:
    """Bytes in the unit that reads best."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def clock_time(at: float) -> str:
    """A moment in local time."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


def cost_so_far(answer: JobObject, *, now: float) -> MicroUSD:
    """What is billed, and what the running attempt has come to by the clock."""
    running = answer.spotune.attempts[-1] if answer.spotune.attempts else None
    if running is None or running.ended_at is not None or running.started_at is None or running.billed:
        return answer.spotune.money.billed
    hours = (now - running.started_at) / 3600
    return answer.spotune.money.billed + round(running.price * running.instance_count * hours)


def gpus(candidate: Candidate) -> str:
    """`1 x A10G`."""
    return f"{candidate.gpus} x {candidate.gpu}"


def age(seconds: float) -> str:
    """A duration, in days alone where there are many."""
    return duration(seconds) if seconds < 86_400 * 2 else f"{seconds / 86_400:.0f} days"
