"""The demo's end: what came out, what it cost, and the bounds that it has to keep."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from rich.console import RenderableType
from rich.text import Text

from spotune.cli import blocks, render, words
from spotune.cli.screen import Screen
from spotune.contracts.api import JobObject, PlanObject
from spotune.contracts.base import dollars
from spotune.contracts.training import TrainingReport

JOB_SECONDS = 5 * 60
DEMO_SECONDS = 7 * 60
FRESH_DEMO_SECONDS = 12 * 60
"""From a fresh clone, installation included."""
INSTALLATION_SECONDS = 15
"""A start that lies further back than this had something to install first."""
MEMORY_BYTES = 4_000_000_000
BASE_EXACT_MATCH = 0.10
TUNED_EXACT_MATCH = 0.80
GENERATED_ROWS = 40
BAR_MISSED = 1
SHOWN_ANSWERS = 3


@dataclass(frozen=True, slots=True)
class Outcome:
    """What happened, as the demo saw it. Times in seconds since the epoch."""

    job: JobObject
    plan: PlanObject
    adapter: Path
    set_up_at: float
    """When `make demo` began, installation included; `began_at` without make."""
    began_at: float
    ended_at: float
    peak_bytes: int
    interruption_wanted: bool
    interrupted_at_step: int | None
    stack_is_up: bool
    system_message: str
    """The first message of every row of the dataset."""


@dataclass(frozen=True, slots=True)
class Bar:
    """A figure and the bound that it has to keep."""

    name: str
    figure: str
    bound: str
    kept: bool


def close(outcome: Outcome, screen: Screen) -> int:
    """Show everything; 0 where every bar is kept, else 1."""
    report = outcome.job.spotune.report
    bars = bars_of(outcome)
    kept = all(bar.kept for bar in bars)
    screen.emit(_document(outcome, bars, kept=kept))
    screen.say()
    if report is not None:
        for table in (*render.scores(report), _answers(report), _receipt(outcome, report)):
            screen.show(table)
            screen.say()
    screen.show(_bars(bars))
    if not kept:
        screen.say("\nThe job is done and its adapter is yours; what failed is a bound that this demo sets itself.")
    screen.say()
    screen.show(blocks.facts("Next", _next_commands(outcome)))
    return 0 if kept else BAR_MISSED


def bars_of(outcome: Outcome) -> list[Bar]:
    """Every bound of the demo, measured."""
    job, report = outcome.job, outcome.job.spotune.report
    job_seconds = (job.finished_at or outcome.ended_at) - job.created_at
    fresh = outcome.began_at - outcome.set_up_at > INSTALLATION_SECONDS
    demo_seconds = outcome.ended_at - outcome.set_up_at
    demo_bound = FRESH_DEMO_SECONDS if fresh else DEMO_SECONDS
    name = "demo, installation included" if fresh else "demo"
    bars = [
        _at_most("job", job_seconds, JOB_SECONDS),
        _at_most(name, demo_seconds, demo_bound),
        Bar(
            "peak memory, all processes",
            words.size(outcome.peak_bytes),
            f"under {words.size(MEMORY_BYTES)}",
            0 < outcome.peak_bytes < MEMORY_BYTES,
        ),
    ]
    if report is not None:
        bars += _score_bars(report)
        if outcome.interruption_wanted:
            bars.append(_resume_bar(outcome, report))
    return bars


def _at_most(name: str, seconds: float, bound: int) -> Bar:
    return Bar(name, words.duration(seconds), f"under {bound // 60} min", seconds < bound)


def _score_bars(report: TrainingReport) -> list[Bar]:
    base, tuned, answered = report.base.exact_match, report.tuned.exact_match, report.generated_rows
    return [
        Bar("exact match of the base", _share(base), "under 10 %", base is not None and base < BASE_EXACT_MATCH),
        Bar("exact match of the tuned", _share(tuned), "over 80 %", tuned is not None and tuned > TUNED_EXACT_MATCH),
        Bar("answers scored", str(answered), f"{GENERATED_ROWS} or more", answered >= GENERATED_ROWS),
    ]


def _resume_bar(outcome: Outcome, report: TrainingReport) -> Bar:
    taken = sum(attempt.interruptions for attempt in outcome.job.spotune.attempts)
    figure = f"{taken} taken, {len(report.resumes)} resumed"
    return Bar("spot interruption", figure, "1 taken and resumed", taken == 1 and len(report.resumes) == 1)


def _share(value: float | None) -> str:
    return "not scored" if value is None else f"{value:.1%}"


def _answers(report: TrainingReport) -> RenderableType:
    listed = blocks.table("prompt", "wanted", "base", "tuned", gap=1)
    for sample in report.samples[:SHOWN_ANSWERS]:
        texts = (sample.prompt, sample.reference, sample.base, sample.tuned)
        blocks.add_row(listed, *map(_short, texts))
    return blocks.titled("Answers", listed)


def _short(text: str, limit: int = 240) -> str:
    words = " ".join(text.split())
    return words if len(words) <= limit else f"{words[: limit - 3]}..."


def _receipt(outcome: Outcome, report: TrainingReport) -> RenderableType:
    details = outcome.job.spotune
    money, chosen = details.money, outcome.plan.plan.chosen
    seconds = sum(attempt.training_seconds for attempt in details.attempts)
    rows = [
        ("billed", f"{dollars(money.billed)} for {words.duration(seconds)}, of {dollars(money.cap)} allowed"),
        ("forecast for AWS", f"{words.money(chosen.cost)} for {words.hours(chosen.billed_hours)}"),
    ]
    if money.on_demand is not None:
        rows.append(("on demand", f"{dollars(money.on_demand)} for the same seconds"))
    rows += [
        ("what that means", f"seconds of this machine's CPU at the price of {words.machines(chosen)}: an example"),
        ("work lost", _lost(outcome, report)),
        ("gate", details.gate_verdict),
        ("adapter", details.output_uri or ""),
        ("downloaded", str(outcome.adapter)),
    ]
    return blocks.facts("Receipt", rows)


def _lost(outcome: Outcome, report: TrainingReport) -> str:
    if not report.resumes:
        return "nothing: there was no interruption"
    came_back = ", ".join(f"step {resume.step}" for resume in report.resumes)
    taken = "" if outcome.interrupted_at_step is None else f"interrupted at step {outcome.interrupted_at_step}, "
    return f"{report.lost_steps} steps, {words.duration(report.lost_seconds)} ({taken}resumed from {came_back})"


def _bars(bars: list[Bar]) -> RenderableType:
    listed = blocks.table("", "measured", "bound", "")
    for bar in bars:
        verdict = Text("pass", style="green") if bar.kept else Text("FAIL", style="bold red")
        blocks.add_row(listed, bar.name, bar.figure, bar.bound, verdict)
    return blocks.titled("Bounds", listed)


def _next_commands(outcome: Outcome) -> list[blocks.Row]:
    job_id = outcome.job.id
    commands: list[blocks.Row] = []
    if shutil.which("spotune") is None:
        commands.append((f'export PATH="{Path(sys.executable).parent}:$PATH"', "so that your shell finds spotune"))
    commands.append((f'spotune chat {job_id} --system "{outcome.system_message}"', "hand it tickets of your own"))
    if not outcome.stack_is_up:
        commands.append(("spotune up", "the service again; the ones below need it"))
    return [
        *commands,
        (f"spotune show {job_id}", "settings with their reasons, attempts, money"),
        (f"spotune logs {job_id}", "what happened, line by line"),
        ("spotune list", "all jobs"),
        ("spotune submit job.yaml", "a job of your own; see examples/support_routing/job.yaml"),
    ]


def _document(outcome: Outcome, bars: list[Bar], *, kept: bool) -> dict[str, object]:
    return {
        "kept": kept,
        "bars": [{"name": bar.name, "figure": bar.figure, "bound": bar.bound, "kept": bar.kept} for bar in bars],
        "seconds": round(outcome.ended_at - outcome.set_up_at, 1),
        "peak_memory_bytes": outcome.peak_bytes,
        "interrupted_at_step": outcome.interrupted_at_step,
        "adapter": str(outcome.adapter),
        "plan": outcome.plan.model_dump(mode="json"),
        "job": outcome.job.model_dump(mode="json"),
    }
