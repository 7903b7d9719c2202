"""Contracts as tables for people. Nothing here decides anything."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from rich.console import RenderableType
from rich.text import Text

from spotune.cli import words
from spotune.cli.blocks import Row, add_row, facts, notes, paragraphs, table, titled
from spotune.cli.outcome import compare
from spotune.cli.scores import ScoreLine, champion_lines, golden_line, score_lines
from spotune.contracts.api import JobObject, PlanObject
from spotune.contracts.base import dollars
from spotune.contracts.dataset import DatasetReport, Fault
from spotune.contracts.history import FinishedRun
from spotune.contracts.job import Attempt, ResolvedSetting
from spotune.contracts.plan import Candidate, Plan, Rung
from spotune.contracts.receipt import Receipt
from spotune.contracts.training import TrainingReport
from spotune.contracts.verdict import Verdict

SHOWN_DEARER = 6
"""Rejected types that only cost more, of which the plan shows this many."""

_STATE_STYLES = {"succeeded": "green", "failed": "red", "cancelled": "yellow", "interrupted": "yellow"}
_MET_STYLES = {True: "green", False: "red", None: "yellow"}


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
    parts += notes(chosen.warnings)
    return paragraphs(parts)


def choice_rows(plan: Plan, *, now: float) -> list[Row]:
    """What was chosen, what it takes, and how old the prices are."""
    chosen = plan.chosen
    saved = f"saved every {words.duration(chosen.save_interval)}"
    lost = f"{words.duration(round(chosen.work_lost_hours * 3600))} of work lost"
    return [
        ("chosen", f"{words.machines(chosen)} ({words.gpus(chosen)}), {words.place(chosen)}"),
        ("price", f"{dollars(chosen.price)} an instance-hour ({words.age(now - plan.market_as_of)} old)"),
        ("done in", f"{words.hours(chosen.wall_hours)}, queue included"),
        *_deadline_rows(plan, now),
        ("billed", words.hours(chosen.billed_hours)),
        ("cost", f"{words.money(chosen.cost)}; on demand {dollars(plan.on_demand_cost)}"),
        *([("transfer", words.transfer(chosen))] if chosen.transfer else []),
        ("worst case", f"{dollars(chosen.worst_case_cost)}, reserved while it runs"),
        ("interruptions", f"{chosen.interruptions:.2f} expected, {lost}; {saved}"),
        (
            "memory",
            f"{words.size(chosen.memory.p95)} of {words.size(chosen.memory.usable)} usable on a GPU (95 % quantile)",
        ),
        ("fit", words.fit(chosen)),
    ]


def _deadline_rows(plan: Plan, now: float) -> list[Row]:
    if plan.chosen.on_time_probability is None:
        return []
    sure = f"{min(plan.chosen.on_time_probability, 0.999):.1%} on these machines; {plan.confidence:.1%} asked for"
    if plan.fallback is None:
        return [("on time", sure)]
    left = words.duration(max(round(plan.fallback.by - now), 0))
    return [("on time", sure), ("last safe moment", f"on-demand must be ordered within {left}")]


def job(answer: JobObject, *, now: float) -> RenderableType:
    """The record of one job."""
    parts: list[RenderableType] = [facts(answer.id, job_rows(answer, now=now))]
    if answer.spotune.attempts:
        parts.append(attempts(answer.spotune.attempts))
    if answer.spotune.settings:
        parts.append(settings(answer.spotune.settings))
    if answer.spotune.report is not None:
        parts += [*scores(answer.spotune.report), *notes(answer.spotune.report.warnings)]
    if answer.spotune.verdict is not None:
        parts.append(verdict(answer.spotune.verdict))
    if answer.spotune.receipt is not None and answer.spotune.receipt.attempts:
        parts.append(facts("Receipt", receipt_rows(answer.spotune.receipt)))
    if answer.spotune.run is not None:
        parts.append(outcome(answer.spotune.run))
    return paragraphs(parts)


def job_rows(answer: JobObject, *, now: float) -> list[Row]:
    """State, money, progress, result and error of a job, the lines that there is something to say about."""
    details = answer.spotune
    rows = [
        ("model", answer.model),
        ("state", words.state_words(answer)),
        ("created", f"{words.clock_time(answer.created_at)} ({words.age(now - answer.created_at)} ago)"),
        ("money", _money_words(answer)),
    ]
    if details.retry_of is not None:
        rows.append(("retry of", details.retry_of))
    if details.resumption is not None:
        rows.append(("checkpoint", details.resumption.message))
    if details.plan is not None:
        rows.append(("planned", f"{words.machines(details.plan.chosen)}, {words.money(details.plan.chosen.cost)}"))
    if details.money.transfer:
        rows.append(
            ("region", f"{details.region}; {dollars(details.money.transfer)} billed for carrying its data there")
        )
    if details.progress is not None and not details.report:
        rows.append(("progress", words.progress_words(details.progress)))
    left = {"gate": details.gate_verdict, "adapter": details.output_uri, "trackers": words.trackers_words(answer)}
    left |= {"tuned model": answer.fine_tuned_model}
    rows += [(name, value) for name, value in left.items() if value]
    if details.error is not None:
        error = details.error
        rows.append(("error", f"{error.message} [{error.code}]"))
        rows += [(name, value) for name, value in (("evidence", error.evidence), ("remedy", error.remedy)) if value]
    return rows


def jobs(answers: Sequence[JobObject], *, now: float) -> RenderableType:
    """A list of jobs, one a line."""
    listed = table("job", "model", "state", "age", "billed", "reserved", "tuned model")
    for answer in answers:
        money = answer.spotune.money
        amounts = (dollars(money.billed), dollars(money.reserved) if money.reserved else "")
        age = words.age(now - answer.created_at)
        state = Text(answer.spotune.state, style=_STATE_STYLES.get(answer.spotune.state, ""))
        add_row(listed, answer.id, answer.model, state, age, *amounts, answer.fine_tuned_model or "")
    return listed


def attempts(tried: Sequence[Attempt]) -> RenderableType:
    """A job's attempts, one a line."""
    listed = table("attempt", "machines", "market", "status", "interruptions", "billed", "outcome")
    for attempt in tried:
        add_row(
            listed,
            attempt.name,
            f"{attempt.instance_count} x {attempt.instance_type}",
            words.market(attempt.market),
            attempt.secondary_status or attempt.status or "requested",
            str(attempt.interruptions),
            f"{dollars(attempt.billed)} ({words.duration(attempt.billable_seconds)})",
            attempt.outcome or "",
        )
    return titled("Attempts", listed)


def settings(resolved: Sequence[ResolvedSetting]) -> RenderableType:
    """What became of every `auto`, and why."""
    listed = table("setting", "value", "why")
    for setting in resolved:
        add_row(listed, setting.name, setting.value, setting.reason)
    return titled("Settings", listed)


def scores(report: TrainingReport) -> list[RenderableType]:
    """Tuned against base, and against the champion, on the held-out rows, each difference with its interval."""
    parts = [_score_table("Result", "base", score_lines(report))]
    if against := list(champion_lines(report)):
        parts.append(_score_table("Against the champion", "champion", against))
    if golden := golden_line(report):
        parts.append(Text(golden))
    return parts


def _score_table(title: str, other: str, lines: Iterable[ScoreLine]) -> RenderableType:
    listed = table("held-out rows", other, "tuned", "difference, 95 %")
    for line in lines:
        add_row(listed, *line)
    return titled(title, listed)


def verdict(judged: Verdict) -> RenderableType:
    """The gate's table, a condition a line."""
    listed = table("condition", "of", "wanted", "measured", "met")
    for one in judged.conditions:
        met = Text(words.met(one.met), style=_MET_STYLES[one.met])
        add_row(listed, one.name, one.subject, one.wanted, one.measured, met)
    return titled(f"Gate: {words.DECISIONS[judged.decision]}", listed)


def receipt_rows(receipt: Receipt) -> list[Row]:
    """What a job cost, lost and saved."""
    seconds = (
        f"{words.duration(receipt.training_seconds)} on instances, {words.duration(receipt.billable_seconds)} billable"
    )
    rows = [
        ("attempts", f"{receipt.attempts}, {receipt.interruptions} interruptions"),
        ("time", seconds),
        ("billed", dollars(receipt.billed)),
        ("saved", f"{dollars(receipt.saved)} against {dollars(receipt.on_demand)} on demand"),
    ]
    if receipt.work_lost_seconds is not None:
        rows.append(("work lost", f"{receipt.steps_lost} steps, {words.duration(receipt.work_lost_seconds)} run again"))
    if receipt.decision is not None:
        rows.append(("gate", words.DECISIONS[receipt.decision]))
    if receipt.forecast is not None:
        rows.append(("forecast", words.money(receipt.forecast)))
    return rows


def outcome(run: FinishedRun) -> RenderableType:
    """Forecast against outcome."""
    listed = table("forecast and outcome", "forecast", "outcome", "off by")
    for line in compare(run):
        off = "" if line.error is None else f"{line.error:+.0%}{'' if line.within else ', outside'}"
        add_row(listed, line.name, line.forecast, line.actual, off)
    return titled("Accuracy", listed)


def dataset(report: DatasetReport) -> RenderableType:
    """A checked file: what it holds, and every fault that is listed."""
    parts: list[RenderableType] = [facts(report.uri, dataset_rows(report))]
    if report.faults:
        parts.append(faults(report.faults))
    if report.fault_count > len(report.faults):
        parts.append(Text(f"... and {report.fault_count - len(report.faults)} more."))
    parts += notes(report.warnings)
    return paragraphs(parts)


def faults(found: Sequence[Fault]) -> RenderableType:
    """What is wrong with a file, line by line."""
    listed = table("line", "field", "rule", "what is wrong", "what to do")
    for fault in found:
        line = str(fault.line) if fault.line else "file"
        add_row(listed, line, fault.field, fault.rule, fault.message, fault.remedy)
    return titled("Faults", listed)


def dataset_rows(report: DatasetReport) -> list[Row]:
    """Size, format, duplicates and lengths of a file."""
    rows = [
        ("rows", f"{report.rows:,} ({words.size(report.bytes)}), format {report.format or 'unknown'}"),
        ("faults", f"{report.fault_count:,}"),
        ("duplicates", f"{report.duplicate_rows:,}"),
    ]
    tokens = report.tokens
    if tokens is not None:
        rows += [
            ("tokens", f"{tokens.total:,}, of which {tokens.trained:,} ({tokens.coverage:.1%}) carry loss"),
            (
                "lengths",
                f"mean {tokens.mean:.0f}, half under {tokens.p50}, 95 % under {tokens.p95}, to {tokens.longest}",
            ),
            ("truncated", f"{tokens.truncated_rows:,} rows, {tokens.untrainable_rows:,} of them to nothing"),
        ]
    if report.sampled < 1:
        rows.append(("sampled", f"{report.sampled:.1%} of the bytes"))
    return rows


def _money_words(answer: JobObject) -> str:
    amounts = answer.spotune.money
    said = f"{dollars(amounts.billed)} billed of {dollars(amounts.cap)} allowed"
    if amounts.reserved:
        said += f", {dollars(amounts.reserved)} reserved"
    if amounts.on_demand:
        said += f"; on demand {dollars(amounts.on_demand)}"
    return said


def _ladder(rungs: Sequence[Rung]) -> RenderableType:
    listed = table("rung", "market", "instance types", "price an hour", "waits for capacity")
    for number, rung in enumerate(rungs, start=1):
        types = ", ".join(rung.instance_types)
        add_row(
            listed, str(number), words.market(rung.market), types, dollars(rung.price), words.duration(rung.patience)
        )
    return titled("Ladder", listed)


def _candidates(title: str, candidates: Sequence[Candidate]) -> RenderableType:
    listed = table("instance type", "market", "GPUs", "done in", "cost", "worst case")
    for one in candidates:
        cells = (
            words.machines(one),
            words.place(one),
            words.gpus(one),
            words.hours(one.wall_hours),
            words.money(one.cost),
        )
        add_row(listed, *cells, dollars(one.worst_case_cost))
    return titled(title, listed)


def _rejections(plan: Plan) -> RenderableType:
    """Types with one reason share a line; of those that only cost more, the cheapest few."""
    by_reason: dict[tuple[str, str], list[str]] = defaultdict(list)
    for rejection in plan.rejections:
        by_reason[rejection.rule, rejection.reason].append(rejection.instance_type)
    dearer = [one for one in by_reason.items() if one[0][0] == "cost"]
    listed = table("rule", "why not", "instance types")
    for (rule, reason), types in [one for one in by_reason.items() if one not in dearer] + dearer[:SHOWN_DEARER]:
        add_row(listed, rule, reason, ", ".join(types))
    if len(dearer) > SHOWN_DEARER:
        add_row(
            listed,
            "cost",
            f"and {len(dearer) - SHOWN_DEARER} more that cost more than the chosen (--json has them)",
            "",
        )
    return titled("Rejected", listed)
