"""Deliberate bugs of the control plane, which the histories of jobs have to show."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from typing import Any

import spotune.lifecycle.attempts as attempts
import spotune.lifecycle.observed as observed
import spotune.lifecycle.rungs as rungs
import spotune.service.jobs.changes as changes
import spotune.service.jobs.control as control
import spotune.service.jobs.inputs as copies
import spotune.service.jobs.pruning as pruning
import spotune.service.jobs.resumption as resumption
import spotune.service.jobs.submit as submit
import spotune.service.launch as launch
import spotune.service.turns as turns
import spotune.store.memory as memory
import tests.faults.history as history
from spotune.aws.base import NameTaken, TrainingJobRefused
from spotune.contracts.errors import Unavailable
from spotune.contracts.events import AttemptRefused, CopyStarted, ResumeRequested
from spotune.contracts.job import ENDED, LedgerChange
from spotune.contracts.money import LONGEST_RUNTIME
from spotune.lifecycle.draft import Draft
from spotune.service.identifiers import job_id
from spotune.service.installation import Installation
from spotune.service.jobs.changes import apply
from spotune.service.reconcile import Repairs
from spotune.store.records import Change, _entries

deciding: Any = import_module("spotune.lifecycle.decide")
"""The package has a function of this name."""

Patch = Callable[[], None]


def _skip_the_version_guard() -> None:
    memory._guard = lambda job: (0, job.tenant)


def _settle_twice() -> None:
    def again(draft: Draft, attempt: Any, billed: int) -> Any:
        return settle(draft, settle(draft, attempt, billed), billed)

    settle = Draft.settle
    Draft.settle = again  # type: ignore[method-assign]


def _look_at_an_ended_attempt_again() -> None:
    def observe(draft: Draft, seen: Any) -> bool:
        attempt = next((one for one in draft.job.attempts if one.name == seen.name), None)
        if attempt is None:
            return False
        if seen.status in ENDED:
            observed._finish(draft, attempt.with_(outcome=None), seen)
            return True
        return observed._move(draft, attempt, seen)

    deciding.observe = observe  # type: ignore[attr-defined]


def _take_stopped_for_success() -> None:
    def classify(attempt: Any, seen: Any) -> Any:
        if seen.status == "Stopped":
            return "completed", None
        return right(attempt, seen)

    def publish(draft: Draft, seen: Any) -> None:
        draft.finish("succeeded")

    right = observed.classify  # type: ignore[attr-defined]
    observed.classify = classify  # type: ignore[attr-defined]
    observed.publish = publish


def _drop_the_outbox() -> None:
    memory.MemoryStore.pending_commands = lambda self, created_before: iter(())  # type: ignore[method-assign]


def _ready(here: Any, job: Any, attempt: Any) -> Any:
    """What CreateTrainingJob is asked for, with the config that it reads; None where its data is not there yet."""
    job, attempt = launch._with_checkpoint(here, job, attempt)
    inputs = launch.inputs_in_region(here, job, attempt)
    if inputs is None:
        return None
    folder = here.job_folder(job)
    spec = launch._spec(here, job, attempt, folder, launch.layout.config_uri(folder, attempt.name), inputs)
    here.objects.write(spec.config_uri + "training.json", b"{}")
    return spec


def _start_on_conflict_instead_of_adopting() -> None:
    def start(here: Any, job: Any, attempt: Any) -> bool:
        if (spec := _ready(here, job, attempt)) is None:
            return False
        training_jobs = here.place(job.region).training_jobs
        try:
            training_jobs.create(spec)
        except (NameTaken, Unavailable):
            training_jobs.create(replace(spec, name=f"{job.id}-9{attempt.number}"))
        launch._adopt(here, job, attempt.name)
        return True

    launch.start_attempt = start


def _forget_to_release() -> None:
    def settle(self: Draft, attempt: Any, billed: int) -> Any:
        self.set(billed=self.job.billed + billed)
        self._move(attempt, settle=billed)
        return attempt.with_(billed=attempt.billed + billed)

    Draft.settle = settle  # type: ignore[method-assign]


def _reserve_nothing_in_the_ledger() -> None:
    def reserve(self: Draft, attempt: Any) -> None:
        self.set(reserved=self.job.reserved + attempt.reserved)

    Draft.reserve = reserve  # type: ignore[method-assign]


def _let_an_attempt_run_longer_than_the_cap_pays() -> None:
    def runtime(job: Any, rung: Any, now: float) -> tuple[int, str]:
        return min(LONGEST_RUNTIME, 7200), "money"

    attempts.affordable_runtime = runtime
    attempts.worst_case = lambda *_: 1  # type: ignore[attr-defined]


def _bill_at_the_spot_price() -> None:
    observed.billed_cost = lambda attempt, seconds: attempt.price * attempt.instance_count * seconds // 3600  # type: ignore[attr-defined]


def _never_reconcile() -> None:
    history.reconcile = lambda here: Repairs()  # type: ignore[attr-defined]


def _forget_the_idempotency_key() -> None:
    submit.job_id = lambda stage, tenant, key: job_id(stage, tenant, None)  # type: ignore[attr-defined]


def _climb_without_waiting_for_the_stop() -> None:
    def due(draft: Draft) -> bool:
        job, attempt = draft.job, draft.job.attempt
        following = rungs.next_rung(job, draft.now) if attempt is not None and job.plan is not None else None
        if attempt is None or job.state not in ("starting", "running") or following is None:
            return right(draft)
        deciding._close(draft, attempt.with_(outcome="capacity"))
        runtime, _ = attempts.affordable_runtime(draft.job, draft.job.plan.rungs[following], draft.now)  # type: ignore[union-attr]
        if runtime > 0:
            attempts._order(draft, following, runtime)
        return True

    right = deciding._rung_due
    deciding._rung_due = due


def _cancel_without_stopping() -> None:
    def stop(draft: Draft, why: str) -> None:
        deciding._close(draft, draft.job.attempt.with_(outcome="stopped_by_user", status="Stopped"))
        draft.finish("cancelled")

    deciding.stop = stop


def _skip_a_number_in_the_log() -> None:
    def say(self: Draft, message: str, **more: Any) -> None:
        right(self, message, **more)
        if message.startswith("Interrupted"):
            self._log.pop()

    right = Draft.say
    Draft.say = say  # type: ignore[method-assign]
    memory.change_of = _unchecked  # type: ignore[attr-defined]


def _unchecked(before: Any, decision: Any) -> Any:
    job = decision.job.with_(version=1 if before is None else before.version + 1)
    return Change(job, decision.log, _entries(job, decision), decision.run)


def _show_other_tenants_jobs() -> None:
    memory.MemoryStore.get_job = lambda self, tenant, job_id: self.find_job(job_id)  # type: ignore[method-assign]


def _keep_places_after_the_end() -> None:
    def keep(draft: Draft, attempt: Any, billed: int) -> Any:
        return settle(draft, attempt, billed).with_(held=attempt.held)

    settle = Draft.settle
    Draft.settle = keep  # type: ignore[method-assign]


def _let_more_run_than_may() -> None:
    changes.places = submit.places = lambda here, decision, **_: {}  # type: ignore[attr-defined]


def _never_leave_the_line() -> None:
    right = memory.MemoryStore._moved_line

    def moved(self: Any, change: Any, places: int | None) -> Any:
        return right(self, change.with_(waiting=0) if change.waiting < 0 else change, places)

    memory.MemoryStore._moved_line = moved  # type: ignore[method-assign]


def _call_who_came_last() -> None:
    right = turns.in_turn
    turns.in_turn = lambda line, active: reversed(list(right(line, active)))  # type: ignore[attr-defined]


def _pay_from_another_ledger() -> None:
    right = memory.MemoryStore._moved_ledger

    def moved(self: Any, job: Any, money: LedgerChange, key: str, limit: int) -> Any:
        return right(self, job, money.with_(settle=money.settle + 1) if money.settle else money, key, limit)

    memory.MemoryStore._moved_ledger = moved  # type: ignore[method-assign]


def _resume_what_has_ended() -> None:
    def decide(job: Any, event: Any, now: float, **more: str) -> Any:
        if isinstance(event, ResumeRequested) and job.terminal:
            job = job.with_(state="paused", cancel_requested=False)
        return right(job, event, now, **more)

    right = deciding.decide
    changes.decide = decide  # type: ignore[attr-defined]
    control.resume = lambda here, tenant, job_id: apply(here, job_id, ResumeRequested())  # type: ignore[assignment]


def _believe_a_refusal_while_the_training_job_lives() -> None:
    """And give up for good what was given up: either alone is mended by the other."""
    observed._observe_left_over = lambda draft, attempt, seen: False
    deciding.take_back = lambda draft, attempt: None

    def start(here: Any, job: Any, attempt: Any) -> bool:
        if attempt.outcome is None and not job.terminal:
            if (spec := _ready(here, job, attempt)) is None:
                return False
            try:
                here.place(job.region).training_jobs.create(spec)
            except (NameTaken, Unavailable, TrainingJobRefused):
                apply(here, job.id, AttemptRefused(name=attempt.name, reason="capacity", message="it seems"))
                return True
        launch._adopt(here, job, attempt.name)
        return True

    launch.start_attempt = start


def _retry_without_the_checkpoint() -> None:
    launch.carry_over = resumption.carry_over = lambda here, job, taken: None


def _copy_the_manifest_first() -> None:
    def copy(here: Any, source: str, target: str, there: Any) -> None:
        if here.objects.head(target + "manifest.json") is None:
            here.objects.copy(source + "manifest.json", target + "manifest.json")
            right(here, source, target, there)

    right = resumption._copy_checkpoint
    resumption._copy_checkpoint = copy


def _prune_all_but_the_newest() -> None:
    pruning.superseded = lambda steps, whole, newest: tuple(sorted(set(steps) - {max(whole, default=0)}))  # type: ignore[attr-defined]


def _prune_while_sagemaker_fetches() -> None:
    """By what the record says: an earlier look's."""
    pruning._may_delete = lambda here, job: job.attempt.secondary_status not in pruning.RESTORING


def _tell_nobody() -> None:
    """As a process that is killed on the way, and takes the command off first."""
    launch.notify = lambda here, job, command: None  # type: ignore[attr-defined]


def _run_everything_at_home() -> None:
    Installation.place = lambda self, region: self.home  # type: ignore[method-assign]


def _carry_without_paying() -> None:
    copies._is_booked = lambda here, job, attempt: True  # type: ignore[assignment]


def _pay_for_each_attempt_again() -> None:
    right = deciding._copy_started

    def copy_started(draft: Draft, event: Any) -> bool:
        draft.set(transfer=None)
        return right(draft, event)

    def is_booked(here: Any, job: Any, attempt: Any) -> bool:
        return apply(here, job.id, CopyStarted(name=attempt.name)) is not None

    deciding._copy_started = copy_started
    copies._is_booked = is_booked


MUTANTS: dict[str, Patch] = {
    "start a retry without its checkpoint": _retry_without_the_checkpoint,
    "copy a checkpoint's manifest first": _copy_the_manifest_first,
    "prune all checkpoints but the newest": _prune_all_but_the_newest,
    "prune while SageMaker fetches": _prune_while_sagemaker_fetches,
    "skip the version guard": _skip_the_version_guard,
    "settle an attempt twice": _settle_twice,
    "look at an ended attempt again": _look_at_an_ended_attempt_again,
    "take Stopped for success": _take_stopped_for_success,
    "drop the outbox": _drop_the_outbox,
    "start on conflict instead of adopting": _start_on_conflict_instead_of_adopting,
    "forget to release a reservation": _forget_to_release,
    "reserve nothing in the ledger": _reserve_nothing_in_the_ledger,
    "run longer than the cap pays": _let_an_attempt_run_longer_than_the_cap_pays,
    "bill at the spot price": _bill_at_the_spot_price,
    "never reconcile": _never_reconcile,
    "forget the idempotency key": _forget_the_idempotency_key,
    "climb without waiting for the stop": _climb_without_waiting_for_the_stop,
    "cancel without stopping": _cancel_without_stopping,
    "leave a gap in the log": _skip_a_number_in_the_log,
    "show other tenants' jobs": _show_other_tenants_jobs,
    "keep places after the end": _keep_places_after_the_end,
    "let more run than may": _let_more_run_than_may,
    "count those who have left a line": _never_leave_the_line,
    "book a micro-dollar too much": _pay_from_another_ledger,
    "call who came last": _call_who_came_last,
    "resume what has ended": _resume_what_has_ended,
    "take a notification off the outbox unsent": _tell_nobody,
    "believe a refusal while the training job lives": _believe_a_refusal_while_the_training_job_lives,
    "run everything at home": _run_everything_at_home,
    "carry to a region without paying": _carry_without_paying,
    "pay for the copy with each delivery": _pay_for_each_attempt_again,
}
