"""Contracts as tables for people. Nothing here decides anything."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from spotune.contracts.api import JobObject, PlanObject
from spotune.contracts.base import Interval, MicroUSD, dollars
from spotune.contracts.dataset import DatasetReport
from spotune.contracts.job import Attempt, ResolvedSetting
from spotune.contracts.plan import Candidate, Plan, Rung
from spotune.contracts.training import Progress, Scores, TrainingReport

Row = tuple[str, str]

_STATE_STYLES = {"succeeded": "green", "failed": "red", "cancelled": "yellow", "interrupted": "yellow"}
_MARKETS = {"spot": "spot", "on_demand": "on-demand"}


def plan(answer: PlanObject, *, now: float) -> RenderableType:
    """The whole plan: choice, ladder, alternatives, rejections, settings, warnings."""
    chosen = answer.plan
    parts: list[RenderableType] = [facts("Plan", choice_rows(chosen, now=now)), _ladder(chosen.rungs)]
    if chosen.alternatives:
        parts.append(_candidates("Alternatives that meet every constraint", chosen.alternatives))
    if chosen.rejections:
        parts.append(_rejections(chosen))
    parts.append(settings(answer.settings))
    reports = (answer.dataset.training, answer.dataset.validation)
    parts += [facts(report.uri, dataset_rows(report)) for report in reports if report is not None]
    parts += [Text(f"Note: {warning}", style="yellow") for warning in chosen.warnings]
    return Group(*parts)


def choice_rows(plan: Plan, *, now: float) -> list[Row]:
    """What was chosen, what it takes, and how old the prices are."""
    chosen = plan.chosen
    return [
        ("chosen", f"{machines(chosen)} ({_gpus(chosen)}), {market(chosen.market)}"),
        ("price", f"{dollars(chosen.price)} an instance-hour ({_age(now - plan.market_as_of)} old)"),
        ("done in", f"{hours(chosen.wall_hours)}, queue included"),
        ("billed", hours(chosen.billed_hours)),
        ("cost", f"{money(chosen.cost)}; on demand {dollars(plan.on_demand_cost)}"),
        ("worst case", f"{dollars(chosen.worst_case_cost)}, reserved while it runs"),
        ("interruptions", f"{chosen.interruptions:.2f} expected; saved every {duration(chosen.save_interval)}"),
        ("memory", f"{size(chosen.memory.p95)} of {size(chosen.memory.usable)} usable on a GPU (95 % quantile)"),
        ("fit", _fit(chosen)),
    ]


def job(answer: JobObject, *, now: float) -> RenderableType:
    """The record of one job."""
    parts: list[RenderableType] = [facts(answer.id, job_rows(answer, now=now))]
    if answer.spotune.attempts:
        parts.append(attempts(answer.spotune.attempts))
    if answer.spotune.settings:
        parts.append(settings(answer.spotune.settings))
    if answer.spotune.report is not None:
        parts.append(scores(answer.spotune.report))
    return Group(*parts)


def job_rows(answer: JobObject, *, now: float) -> list[Row]:
    """State, money, progress, result and error of a job, the lines that there is something to say about."""
    details = answer.spotune
    rows = [
        ("model", answer.model),
        ("state", state_words(answer)),
        ("created", f"{clock_time(answer.created_at)} ({_age(now - answer.created_at)} ago)"),
        ("money", _money_words(answer)),
    ]
    if details.plan is not None:
        rows.append(("planned", f"{machines(details.plan.chosen)}, {money(details.plan.chosen.cost)}"))
    if details.progress is not None and not details.report:
        rows.append(("progress", progress_words(details.progress)))
    rows += [
        (name, value) for name, value in (("gate", details.gate_verdict), ("adapter", details.output_uri)) if value
    ]
    if answer.fine_tuned_model:
        rows.append(("tuned model", answer.fine_tuned_model))
    if details.error is not None:
        error = details.error
        rows.append(("error", f"{error.message} [{error.code}]"))
        rows += [(name, value) for name, value in (("evidence", error.evidence), ("remedy", error.remedy)) if value]
    return rows


def jobs(answers: Sequence[JobObject], *, now: float) -> RenderableType:
    """A list of jobs, one a line."""
    listed = table("job", "model", "state", "age", "cost", "tuned model")
    for answer in answers:
        billed = dollars(answer.spotune.money.billed)
        age = _age(now - answer.created_at)
        state = Text(answer.spotune.state, style=_STATE_STYLES.get(answer.spotune.state, ""))
        listed.add_row(answer.id, answer.model, state, age, billed, answer.fine_tuned_model or "")
    return listed


def attempts(tried: Sequence[Attempt]) -> Table:
    """A job's attempts, one a line."""
    listed = table("attempt", "machines", "market", "status", "interruptions", "billed", "outcome", title="Attempts")
    for attempt in tried:
        listed.add_row(
            attempt.name,
            f"{attempt.instance_count} x {attempt.instance_type}",
            market(attempt.market),
            attempt.secondary_status or attempt.status or "requested",
            str(attempt.interruptions),
            f"{dollars(attempt.billed)} ({duration(attempt.billable_seconds)})",
            attempt.outcome or "",
        )
    return listed


def settings(resolved: Sequence[ResolvedSetting]) -> Table:
    """What became of every `auto`, and why."""
    listed = table("setting", "value", "why", title="Settings")
    for setting in resolved:
        listed.add_row(setting.name, setting.value, setting.reason)
    return listed


def scores(report: TrainingReport) -> Table:
    """Base against tuned on the held-out rows."""
    listed = table("held-out rows", "base", "tuned", title="Result")
    rows: list[tuple[str, Callable[[Scores], str]]] = [
        ("loss", lambda of: f"{of.eval_loss:.4f}"),
        ("perplexity", lambda of: f"{of.perplexity:.2f}"),
    ]
    if report.generated_rows:
        name = f"exact match ({report.generated_rows} answered)"
        rows.append((name, lambda of: "" if of.exact_match is None else f"{of.exact_match:.0%}"))
    for name, read in rows:
        listed.add_row(name, read(report.base), read(report.tuned))
    return listed


def dataset(report: DatasetReport) -> RenderableType:
    """A checked file: what it holds, and every fault that is listed."""
    parts: list[RenderableType] = [facts(report.uri, dataset_rows(report))]
    if report.faults:
        listed = table("line", "field", "rule", "what is wrong", "what to do", title="Faults")
        for fault in report.faults:
            line = str(fault.line) if fault.line else "file"
            listed.add_row(line, fault.field, fault.rule, fault.message, fault.remedy)
        parts.append(listed)
    if report.fault_count > len(report.faults):
        parts.append(Text(f"... and {report.fault_count - len(report.faults)} more."))
    parts += [Text(f"Note: {warning}", style="yellow") for warning in report.warnings]
    return Group(*parts)


def dataset_rows(report: DatasetReport) -> list[Row]:
    """Size, format, duplicates and lengths of a file."""
    rows = [
        ("rows", f"{report.rows:,} ({size(report.bytes)}), format {report.format or 'unknown'}"),
        ("faults", f"{report.fault_count:,}"),
        ("duplicates", f"{report.duplicate_rows:,}"),
    ]
    tokens = report.tokens
    if tokens is not None:
        rows += [
            ("tokens", f"{tokens.total:,}, of which {tokens.trained:,} carry loss"),
            (
                "lengths",
                f"mean {tokens.mean:.0f}, half under {tokens.p50}, 95 % under {tokens.p95}, to {tokens.longest}",
            ),
            ("truncated", f"{tokens.truncated_rows:,} rows, {tokens.untrainable_rows:,} of them to nothing"),
        ]
    if report.sampled < 1:
        rows.append(("sampled", f"{report.sampled:.1%} of the bytes"))
    return rows


def facts(title: str, rows: Sequence[Row]) -> Table:
    """Names and values, one a line."""
    made = Table(
        title=title, title_justify="left", title_style="bold", show_header=False, box=None, padding=(0, 2, 0, 0)
    )
    made.add_column(style="dim", no_wrap=True)
    made.add_column(overflow="fold")
    for name, value in rows:
        made.add_row(name, Text(value))
    return made


def table(*columns: str, title: str | None = None, gap: int = 0) -> Table:
    """An empty table in the CLI's one style; `gap` is lines between rows."""
    made = Table(
        title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 2, gap, 0)
    )
    for column in columns:
        made.add_column(column, overflow="fold", header_style="dim")
    return made


def state_words(answer: JobObject) -> str:
    """The job's state, with what it waits for."""
    details = answer.spotune
    return f"{details.state}, waiting for {details.waiting_for}" if details.waiting_for else details.state


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


def market(name: str) -> str:
    """A market as people say it."""
    return _MARKETS[name]


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
    seconds = max(running.billable_seconds, now - running.started_at)
    return answer.spotune.money.billed + round(running.price * running.instance_count * seconds / 3600)


def _money_words(answer: JobObject) -> str:
    amounts = answer.spotune.money
    words = f"{dollars(amounts.billed)} billed of {dollars(amounts.cap)} allowed"
    if amounts.reserved:
        words += f", {dollars(amounts.reserved)} reserved"
    if amounts.on_demand:
        words += f"; on demand {dollars(amounts.on_demand)}"
    return words


def _gpus(candidate: Candidate) -> str:
    return f"{candidate.gpus} x {candidate.gpu}"


def _fit(candidate: Candidate) -> str:
    words = [
        candidate.precision,
        f"micro-batch {candidate.micro_batch_size}",
        f"accumulation {candidate.gradient_accumulation}",
        f"gradient checkpointing {'on' if candidate.gradient_checkpointing else 'off'}",
    ]
    if candidate.sharding != "none":
        words.append(candidate.sharding)
    return ", ".join(words)


def _ladder(rungs: Sequence[Rung]) -> Table:
    listed = table("rung", "market", "instance types", "price an hour", "waits for capacity", title="Ladder")
    for number, rung in enumerate(rungs, start=1):
        types = ", ".join(rung.instance_types)
        listed.add_row(str(number), market(rung.market), types, dollars(rung.price), duration(rung.patience))
    return listed


def _candidates(title: str, candidates: Sequence[Candidate]) -> Table:
    listed = table("instance type", "market", "GPUs", "done in", "cost", "worst case", title=title)
    for one in candidates:
        cells = (machines(one), market(one.market), _gpus(one), hours(one.wall_hours), money(one.cost))
        listed.add_row(*cells, dollars(one.worst_case_cost))
    return listed


def _rejections(plan: Plan) -> Table:
    listed = table("instance type", "rule", "why not", title="Rejected")
    for rejection in plan.rejections:
        listed.add_row(rejection.instance_type, rejection.rule, rejection.reason)
    return listed


def _age(seconds: float) -> str:
    return duration(seconds) if seconds < 86_400 * 2 else f"{seconds / 86_400:.0f} days"
