"""Deliberate bugs of retraining, which the histories of new data have to show."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, get_args

import spotune.data.assembly.choosing as choosing
import spotune.lifecycle.publication as publication
import spotune.lifecycle.registry as registry
import spotune.retraining.arrivals as arrivals
import spotune.retraining.due as due
import spotune.service.launch as launch
import spotune.service.retraining.arrivals as taking
import spotune.service.retraining.datasets as datasets
import spotune.service.retraining.ends as retraining_ends
import spotune.service.retraining.looks as looks
import spotune.service.retraining.retrain as retrain
import spotune.service.retraining.rules as rules
import spotune.service.retraining.settling as settling
import spotune.service.retraining.sweep as sweep
import spotune.service.work as work
import spotune.store.memory_retraining as memory
from spotune.contracts.errors import Unavailable
from spotune.contracts.models import VersionStatus
from spotune.contracts.rules import RuleRecord
from spotune.data.assembly.passes import Bits
from spotune.retraining.arrivals import Change
from spotune.retraining.course import Ending
from spotune.service.retraining.file_checks import Unfit

Patch = Callable[[], None]


def _count_each_event() -> None:
    def record(here: Any, arrival: Any) -> Any:
        return right(here, arrival.with_(version_id=f"{arrival.version_id}-{here.clock()}"))

    right = taking.record
    taking.record = record


def _never_sweep() -> None:
    work.sweep = lambda here, rule: 0  # type: ignore[attr-defined]


def _forget_a_check_that_was_cut_off() -> None:
    work.check_again = lambda here, rule: 0  # type: ignore[attr-defined]
    sweep.record = lambda here, arrival: None  # type: ignore[attr-defined]


def _believe_the_last_event() -> None:
    arrivals.later = lambda one, other: True


def _count_copies() -> None:
    settling._Known.of_bytes = lambda self, sha256: ()  # type: ignore[method-assign]


def _forget_deletions() -> None:
    arrivals.delete_object = lambda rule, *_: Change(rule)
    arrivals.delete_version = lambda rule, *_: Change(rule)


def _take_marks_for_data() -> None:
    taking.ignored = sweep.ignored = lambda uri, size: ""  # type: ignore[attr-defined]


def _quarantine_what_s3_did_not_hand_out() -> None:
    def check(here: Any, rule: Any, arrival: Any) -> Any:
        try:
            return right(here, rule, arrival)
        except Unavailable as error:
            raise Unfit(str(error)) from error

    right = looks.check_file  # type: ignore[attr-defined]
    looks.check_file = check  # type: ignore[attr-defined]


def _skip_the_rules_guard() -> None:
    memory._check = lambda before, body, name: None


def _within(**limits: Any) -> None:
    """Let a rule begin as if its limits were these."""

    def barred(rule: RuleRecord, cap: int, now: float) -> Any:
        trigger = rule.request.trigger.with_(**{name: limits[name] for name in limits if name != "budget"})
        request = rule.request.with_(trigger=trigger)
        return right(
            rule.with_(request=request.with_(monthly_budget_usd=limits.get("budget", rule.request.monthly_budget_usd))),
            cap,
            now,
        )

    right = due.barred
    due.barred = barred


def _train_on_the_evaluation_set() -> None:
    choosing.frozen_keys = lambda open, uri: choosing.NOTHING


def _take_rows_twice() -> None:
    def all_rows(sources: Any, *_: Any) -> list[Bits]:
        chosen = [Bits(source.rows) for source in sources]
        for bits in chosen:
            bits.add_all()
        return chosen

    choosing.first_of_each = all_rows


def _forget_what_the_champion_knows() -> None:
    right = datasets.choose_rows  # type: ignore[attr-defined]

    def choose(*arguments: Any, **named: Any) -> Any:
        return right(*arguments, **{**named, "known_uri": None})

    datasets.choose_rows = choose  # type: ignore[attr-defined]


def _leave_a_file_out() -> None:
    right = datasets._sources
    datasets._sources = lambda found: right(found)[: max(1, len(found) - 1)]


def _carve_the_evaluation_set_each_time() -> None:
    right = retrain._advance

    def advance(here: Any, rule: RuleRecord, one: Any) -> None:
        if rule.frozen is not None and one.manifest_uri is None:
            here.store.replace_rule(rule, rule.with_(frozen=datasets.carve_frozen(here, rule, one)))
            rule = here.store.find_rule(rule.id)
        right(here, rule, one)

    retrain._advance = advance


def _never_end() -> None:
    launch.end = retrain.end = lambda here, job: True  # type: ignore[attr-defined]


def _give_data_back_that_left_a_model() -> None:
    Ending.gives_back = True  # type: ignore[assignment, method-assign]


def _lose_the_data_of_what_failed() -> None:
    Ending.gives_back = False  # type: ignore[assignment, method-assign]


def _forget_what_a_retraining_cost() -> None:
    right = retraining_ends._ending
    retraining_ends._ending = lambda job: replace(right(job), billed=0)


def _submit_without_a_key() -> None:
    right = retrain.submit  # type: ignore[attr-defined]

    def submit(here: Any, tenant: str, request: Any, idempotency: str, **named: Any) -> Any:
        return right(here, tenant, request, f"{idempotency} {here.clock()}", **named)

    retrain.submit = submit  # type: ignore[attr-defined]


def _promote_whatever_the_gate_measured() -> None:
    right = publication.judge  # type: ignore[attr-defined]
    publication.judge = lambda *asked: right(*asked).with_(decision="promote")  # type: ignore[attr-defined]


def _let_anybody_be_promoted() -> None:
    registry.PROMOTABLE = frozenset(get_args(VersionStatus))  # type: ignore[assignment]


def _let_a_rule_watch_its_own_results() -> None:
    rules.check_rule = lambda here, tenant, request: None  # type: ignore[attr-defined]


MUTANTS: dict[str, Patch] = {
    "count each event": _count_each_event,
    "never sweep": _never_sweep,
    "forget a check that was cut off": _forget_a_check_that_was_cut_off,
    "believe the last event": _believe_the_last_event,
    "count copies": _count_copies,
    "forget deletions": _forget_deletions,
    "take marks for data": _take_marks_for_data,
    "quarantine what S3 did not hand out": _quarantine_what_s3_did_not_hand_out,
    "skip the rules' guard": _skip_the_rules_guard,
    "forget the day's limit": partial(_within, max_per_day=1000),
    "forget the interval": partial(_within, min_interval_seconds=0),
    "forget the month's budget": partial(_within, budget=None),
    "train on the evaluation set": _train_on_the_evaluation_set,
    "take rows twice": _take_rows_twice,
    "forget what the champion knows": _forget_what_the_champion_knows,
    "leave a file out": _leave_a_file_out,
    "carve the evaluation set each time": _carve_the_evaluation_set_each_time,
    "never end a retraining": _never_end,
    "give data back that left a model": _give_data_back_that_left_a_model,
    "lose the data of what failed": _lose_the_data_of_what_failed,
    "forget what a retraining cost": _forget_what_a_retraining_cost,
    "submit a retraining's job without a key": _submit_without_a_key,
    "promote whatever the gate measured": _promote_whatever_the_gate_measured,
    "let anybody be promoted": _let_anybody_be_promoted,
    "let a rule watch its own results": _let_a_rule_watch_its_own_results,
}
