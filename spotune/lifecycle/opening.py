"""A job's beginning: it is recorded, its files are found good, and its first attempt is ordered."""

from __future__ import annotations

from typing import Literal

from spotune.contracts.base import Timestamp, dollars
from spotune.contracts.commands import CarryCheckpoint, CheckDataset
from spotune.contracts.events import Prepared
from spotune.contracts.job import Decision, JobRecord
from spotune.lifecycle.attempts import begin_attempt
from spotune.lifecycle.draft import Draft


def open_job(job: JobRecord, now: Timestamp) -> Decision:
    """The first decision of a job whose dataset is still to be read."""
    draft = Draft(job, now)
    draft.say(f"Job created{_retry_words(job)}; its files are being checked.")
    draft.command(CheckDataset())
    return draft.decision()


def open_prepared(job: JobRecord, event: Prepared, now: Timestamp, *, full_line: str = "") -> Decision:
    """The first decision of a job whose dataset was read within the request; `full_line` as in `decide`."""
    draft = Draft(job, now, full_line=full_line)
    draft.say(f"Job created{_retry_words(job)}.")
    prepared(draft, event)
    return draft.decision()


def prepared(draft: Draft, event: Prepared) -> bool:
    """Take over what was found and planned, and order the first attempt."""
    draft.set(
        training=event.training,
        validation=event.validation,
        golden=event.golden,
        settings=event.settings,
        config=event.config,
        plan=event.plan,
        resumption=event.resumption,
    )
    draft.say(
        f"Files checked: {event.training.rows} training rows"
        + (f", {event.validation.rows} validation rows" if event.validation else "")
        + (f", {event.golden.prompts} golden prompts." if event.golden else ".")
    )
    if event.leaked:
        draft.say(
            f"{event.leaked} rows of the validation file are also trained on: its scores will be better than "
            f"new data's. See them with `spotune data quality {draft.job.id}`.",
            level="warn",
        )
    _say_champion(draft)
    if event.resumption is not None:
        level: Literal["info", "warn"] = "info" if event.resumption.used else "warn"
        draft.say(
            event.resumption.message, level=level, **event.resumption.model_dump(mode="json", exclude={"message"})
        )
    chosen = event.plan.chosen
    draft.say(
        f"Planned: {chosen.instance_count} x {chosen.instance_type} ({chosen.gpu}), {chosen.market.replace('_', '-')}, "
        f"{chosen.billed_hours.mid:.2f} h, {dollars(round(chosen.cost.mid))} "
        f"({dollars(round(chosen.cost.low))} to {dollars(round(chosen.cost.high))}).",
    )
    begin_attempt(draft, rung=0)
    if draft.job.goes_on and not draft.job.attempts and not draft.job.terminal:
        draft.command(CarryCheckpoint())
    return True


def _retry_words(job: JobRecord) -> str:
    return f": a retry of {job.retry_of}" if job.retry_of else ""


def _say_champion(draft: Draft) -> None:
    """What the model of a group's job starts from and competes with."""
    choice, champion = draft.job.request.registry, draft.job.champion
    if choice.group is None:
        return
    if champion is None:
        start = " Training starts from the base model." if choice.start_from == "champion" else ""
        draft.say(f"Group {choice.group} has no champion yet.{start}")
    elif champion.obstacle:
        words = f"{champion.name}, the champion of group {choice.group}, cannot be measured here: {champion.obstacle}."
        draft.say(f"{words} The gate will hold the tuned model for a person.", level="warn")
    else:
        start = "Training goes on from" if champion.start else "The tuned model is compared with"
        draft.say(f"{start} {champion.name}, the champion of group {choice.group}.")
