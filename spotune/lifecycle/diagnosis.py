"""Reads a job's record for the one cause of its state. Pure: what lies in S3 is handed in."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from spotune.contracts.base import MICRO, Timestamp, dollars
from spotune.contracts.diagnosis import Cause, Diagnosis
from spotune.contracts.job import Attempt, JobError, JobRecord, LogEvent
from spotune.contracts.lines import is_quota_line
from spotune.contracts.market import quota_name
from spotune.contracts.plan import Candidate, Plan
from spotune.contracts.verdict import Verdict
from spotune.lifecycle.causes import cause_of, expected, interruptions
from spotune.lifecycle.gate import condition_words

STALLED_INTERVALS = 3
"""Save intervals without a new checkpoint in S3 after which its upload is taken to hang."""

_IN_USE = re.compile(r"this process has ([\d.]+) (GiB|MiB) memory in use")
"""CUDA's own words where its memory ends."""


def diagnose(
    job: JobRecord,
    newest_checkpoint: Timestamp | None,
    now: Timestamp,
    *,
    damaged: Sequence[str] = (),
    peak_memory: int | None = None,
    log: Sequence[LogEvent] = (),
) -> Diagnosis:
    """The cause of the job's state.

    Args:
        newest_checkpoint: when the newest complete checkpoint in S3 was made; None where there is none.
        damaged: checkpoints in S3 that are newer than that one and do not verify, each with what is wrong.
        peak_memory: bytes on a GPU that the container last told of.
        log: lines of the job's log, newest first.
    """
    said = tuple(_said(job, log))
    if job.error is not None:
        return _failed(job, job.error, (*damaged, *said), peak_memory)
    if job.plan is not None and is_quota_line(job.waiting_for):
        return _short_of_quota(job, job.plan, said)
    if job.line:
        return _in_line(job, now)
    if damaged and not job.terminal:
        return _checkpoint_damaged(job, damaged)
    if job.waiting_for.startswith("capacity") or job.state == "interrupted":
        return _waiting_for_capacity(job, said)
    if _stalled(job, newest_checkpoint, now):
        return _sync_stalled(job, newest_checkpoint, now)
    if job.state in ("paused", "cancelled"):
        return _ended_by_a_person(job)
    if job.verdict is not None and job.verdict.decision != "promote":
        return _judged(job, job.verdict)
    return Diagnosis(job_id=job.id, cause="well", message=f"Nothing is wrong: the job {_doing(job)}.")


def _doing(job: JobRecord) -> str:
    if job.waiting_for:
        return f"is waiting for {job.waiting_for}"
    return "has succeeded" if job.state == "succeeded" else f"is {job.state}"


def _judged(job: JobRecord, verdict: Verdict) -> Diagnosis:
    """A job that succeeded, and whose model is not in its place."""
    decisive = [one for one in verdict.conditions if one.met is not True]
    held, group = verdict.decision == "hold", job.request.registry.group
    waits = f"Approve or reject its version in group {group}." if group else "Look at its report before you use it."
    return Diagnosis(
        job_id=job.id,
        cause="gate_held" if held else "gate_rejected",
        message=f"The job succeeded; its gate {'holds the model for a person' if held else 'rejected the model'}.",
        evidence=tuple(condition_words(one) for one in decisive),
        remedy=waits if held else "Train with other data or settings, or ask for less in `gate`.",
        command=f"spotune models versions {group}" if held and group else f"spotune show {job.id}",
    )


def _said(job: JobRecord, log: Sequence[LogEvent]) -> Iterator[str]:
    """The newest line of the log that warns of something, where the error does not say the same."""
    known = job.error.message if job.error is not None else ""
    warning = next((line for line in log if line.level != "info" and line.message != known), None)
    if warning is not None:
        yield f"Log line {warning.sequence}: {warning.message}"


def _failed(job: JobRecord, error: JobError, seen: Sequence[str], peak_memory: int | None) -> Diagnosis:
    cause = cause_of(job, error)
    evidence = [f"{error.code}: {error.message}", *([error.evidence] if error.evidence else [])]
    remedy = error.remedy
    if cause == "out_of_memory":
        evidence += _memory_evidence(job, error, peak_memory)
        roomier = _roomier(job)
        if roomier is not None:
            remedy = f"{remedy} The nearest that has more room: {roomier.instance_type} ({roomier.gpu})."
    elif cause == "bad_data":
        evidence += _bad_rows(job)
    elif cause == "interrupted_too_often":
        evidence.append(f"{interruptions(job)} interruptions; {expected(job):.2f} were expected.")
        remedy = "Retry it with constraints.market on_demand, or with a type whose bucket in `spotune catalog` is low."
    elif cause in ("money_ran_out", "time_ran_out"):
        evidence.append(f"{dollars(job.billed)} of {dollars(job.cap)} billed; {_trained(job)} s on instances.")
    evidence += seen
    return Diagnosis(
        job_id=job.id,
        cause=cause,
        message=error.message,
        evidence=tuple(evidence),
        remedy=remedy,
        command=_command(job, cause),
    )


def _command(job: JobRecord, cause: Cause) -> str:
    """What carries the remedy out, where one command can; else what shows more."""
    match cause:
        case "bad_data":
            return f"spotune data check FILE --model {job.model.name}"
        case "out_of_memory":
            return _more_room(job)
        case "interrupted_too_often" | "capacity":
            return _retry(job, "constraints.market=on_demand")
        case "money_ran_out":
            return _more_money(job)
        case "time_ran_out":
            return _more_time(job)
        case "loss_not_finite" if job.config is not None:
            return _retry(job, f"training.learning_rate={job.config.optimization.learning_rate / 2:g}")
        case "missing_permission" | "checkpoint_invalid":
            return _retry(job)
    return f"spotune logs {job.id}"


def _more_room(job: JobRecord) -> str:
    """A larger card goes on from the checkpoint; shorter rows begin anew."""
    if (roomier := _roomier(job)) is not None:
        return _retry(job, f"constraints.instance_types='[\"{roomier.instance_type}\"]'")
    if job.config is None:
        return f"spotune logs {job.id}"
    return _retry(job, f"training.max_sequence_length={job.config.data.max_sequence_length // 2}")


def _more_money(job: JobRecord) -> str:
    """A tenant's limit is raised elsewhere; then the same is asked for again."""
    if job.error is not None and job.error.code == "monthly_limit_reached":
        return _retry(job)
    return _retry(job, f"constraints.budget_usd={2 * job.cap / MICRO:g}")


def _more_time(job: JobRecord) -> str:
    hours = job.request.constraints.finish_within_hours
    return _retry(job) if hours is None else _retry(job, f"constraints.finish_within_hours={2 * hours:g}")


def _retry(job: JobRecord, change: str = "") -> str:
    return f"spotune retry {job.id}" + (f" --set {change}" if change else "")


def _memory_evidence(job: JobRecord, error: JobError, peak_memory: int | None) -> Iterator[str]:
    """The forecast beside what was in use: CUDA's words of the moment, else the container's last figure."""
    if job.plan is not None:
        memory = job.plan.chosen.memory
        yield (
            f"Forecast: {memory.mid / 2**30:.1f} GiB, 95 % under {memory.p95 / 2**30:.1f}, "
            f"of {memory.usable / 2**30:.1f} usable on {job.plan.chosen.gpu}."
        )
    in_use = _IN_USE.search(error.evidence)
    if in_use is not None:
        yield f"Peak: {in_use[1]} {in_use[2]} in use when it failed."
    elif peak_memory:
        yield f"Peak: {peak_memory / 2**30:.1f} GiB before it failed."


def _roomier(job: JobRecord) -> Candidate | None:
    """The cheapest alternative of the plan on a card with more memory."""
    if job.plan is None:
        return None
    chosen = job.plan.chosen
    more = (one for one in job.plan.alternatives if one.memory.usable > chosen.memory.usable)
    return min(more, key=lambda one: one.cost.mid, default=None)


def _bad_rows(job: JobRecord) -> Iterator[str]:
    for report in (job.training, job.validation):
        for fault in report.faults[:5] if report is not None else ():
            yield f"{report.uri if report else ''} line {fault.line}, {fault.field or 'row'}: {fault.message}"


def _short_of_quota(job: JobRecord, plan: Plan, said: Sequence[str]) -> Diagnosis:
    """With what a request for more has to say: service, name, value and region; its code is looked up by the name."""
    rung = plan.rungs[job.rung]
    name, count = quota_name(rung.instance_types[0], rung.market), rung.instance_count
    region = plan.chosen.region or "us-east-1"
    aws = f"--region {region} --service-code sagemaker"
    return Diagnosis(
        job_id=job.id,
        cause="quota",
        message=f"SageMaker's quota {name!r} is used up or zero; the job stands in line and is ordered by itself.",
        evidence=(
            f"Waiting for {job.waiting_for}.",
            f"To ask for: service code sagemaker, quota name {name}, region {region}, at least {count}.",
            *said,
        ),
        remedy="Ask for more with the command below, or at "
        f"https://{region}.console.aws.amazon.com/servicequotas/home/services/sagemaker/quotas, "
        "or allow other instance types.",
        command=f"aws service-quotas request-service-quota-increase {aws} --desired-value {count} --quota-code "
        f'"$(aws service-quotas list-service-quotas {aws} '
        f'--query "Quotas[?QuotaName==\'{name}\'].QuotaCode" --output text)"',
    )


def _in_line(job: JobRecord, now: Timestamp) -> Diagnosis:
    since = now - (job.in_line_since or now)
    return Diagnosis(
        job_id=job.id,
        cause="in_line",
        message="As many jobs run as may at a time; this one is called when its turn comes.",
        evidence=(f"Waiting for {job.waiting_for}, for {since:.0f} s so far.",),
        remedy="Wait, cancel a job that matters less, or have the limit raised (Jobs, JobsPerTenant of the template).",
        command="spotune list",
    )


def _checkpoint_damaged(job: JobRecord, damaged: Sequence[str]) -> Diagnosis:
    return Diagnosis(
        job_id=job.id,
        cause="checkpoint_invalid",
        message="The newest checkpoint in S3 does not verify: an interruption now would go back to the one before it.",
        evidence=tuple(damaged),
        remedy="Nothing need be done: what does not verify is never resumed from, and the next save makes a new one. "
        "If that one is damaged too, pause the job and resume it.",
        command=f"spotune watch {job.id}",
    )


def _waiting_for_capacity(job: JobRecord, said: Sequence[str]) -> Diagnosis:
    return Diagnosis(
        job_id=job.id,
        cause="capacity",
        message="There is no capacity now; SageMaker looks again, and the ladder goes on when its time comes.",
        evidence=(
            f"Waiting for {job.waiting_for or 'an instance after an interruption'}.",
            *_last_status(job.attempt),
            *said,
        ),
        remedy="Wait, or allow more instance types or the on-demand market.",
        command=f"spotune watch {job.id}",
    )


def _last_status(attempt: Attempt | None) -> Iterator[str]:
    if attempt is not None:
        yield f"{attempt.name}: {attempt.status or 'requested'}, {attempt.secondary_status or '-'}."


def _stalled(job: JobRecord, newest: Timestamp | None, now: Timestamp) -> bool:
    attempt = job.attempt
    if job.state != "running" or attempt is None or job.config is None or attempt.started_at is None:
        return False
    start = job.plan.chosen.start_seconds if job.plan is not None else 0.0
    since = max(newest or 0.0, attempt.started_at + start)
    return now - since > STALLED_INTERVALS * job.config.checkpoint.interval_seconds


def _sync_stalled(job: JobRecord, newest: Timestamp | None, now: Timestamp) -> Diagnosis:
    interval = job.config.checkpoint.interval_seconds if job.config is not None else 0
    age = f"{now - newest:.0f} s old" if newest is not None else "missing"
    return Diagnosis(
        job_id=job.id,
        cause="sync_stalled",
        message="The job trains, but no new checkpoint arrives in S3: an interruption now would cost all of that work.",
        evidence=(f"The newest manifest is {age}; one is due every {interval} s.",),
        remedy="Look for a full disk or missing S3 permissions in the container's log; pause it to force a checkpoint.",
        command=f"spotune logs {job.id} --container",
    )


def _ended_by_a_person(job: JobRecord) -> Diagnosis:
    paused = job.state == "paused"
    return Diagnosis(
        job_id=job.id,
        cause="paused" if paused else "cancelled",
        message="The job was paused; its checkpoints are kept." if paused else "The job was cancelled.",
        remedy=f"Resume it with POST /v1/fine_tuning/jobs/{job.id}/resume."
        if paused
        else "Retry it: it goes on from its newest checkpoint where the settings allow it.",
        command=f"spotune resume {job.id}" if paused else _retry(job),
    )


def _trained(job: JobRecord) -> int:
    return sum(attempt.training_seconds for attempt in job.attempts)
