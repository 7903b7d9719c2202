"""The reconciler's part in rules: which of them the launch function has to work on. Here nothing is read of their data.

A rule that may fire, or whose retraining stands still, goes onto the launch queue as one message, and once an hour for
the sweep of its source. A second message while the first is at work finds nothing left to do.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from itertools import islice
from zlib import crc32

from spotune.contracts.base import Seconds
from spotune.contracts.errors import VersionConflict
from spotune.contracts.rules import Retraining, RuleRecord
from spotune.retraining.due import Known, Wait, due
from spotune.service.apart import PASS, PartsFailed, apart, by_turns
from spotune.service.installation import Installation
from spotune.service.retraining.datasets import champion_of_rule, known_of
from spotune.service.retraining.retrain import living, note, queue_work
from spotune.service.retraining.rule_checks import cap_of
from spotune.service.retraining.sweep import CHECKING

HURRY: Seconds = 600
"""So long a rule that is due is queued in each pass, and then in one of ten."""
STEP: Seconds = 960
"""A delivery at work on a retraining is over by then: the launch function's time limit, and a minute."""
MOST_WAITING = 1000
"""Files that wait for a check are looked at in one pass, the oldest first."""
SWEEP_PASSES = 60
"""Each rule's files are swept in one pass of so many."""

logger = logging.getLogger(__name__)


def call_rules(here: Installation, more_time: Callable[[], bool]) -> int:
    """Have the launch function work on each rule for which there is something to do; how many.

    Where time is up the others have their turn in a later pass: each begins with another rule.
    """
    called, failed = 0, 0
    rules = by_turns("rules", list(here.store.active_rules()), here.clock())
    lost = _with_lost_checks(here)
    for rule in rules:
        if not more_time():
            logger.warning("rules are left to the next pass")
            break
        wanted = apart(f"rule {rule.id}", partial(_has_work, here, rule), rule=rule.id, tenant=rule.tenant)
        failed += wanted is None
        swept = _is_swept(here, rule)
        if wanted or swept:
            lost.discard(rule.id)
            queue_work(here, rule.id, sweep=swept)
            called += 1
    for rule_id in lost:
        queue_work(here, rule_id)
    if failed:
        raise PartsFailed(f"{failed} rules could not be looked at")
    return called + len(lost)


def _with_lost_checks(here: Installation) -> set[str]:
    """Rules, switched off ones and deleted ones too, with files whose check was begun and never ended."""
    now = here.clock()
    waiting = islice(here.store.waiting_arrivals(now - CHECKING), MOST_WAITING)
    return {one.rule_id for one in waiting if _is_turn(now - one.arrived_at)}


def _is_swept(here: Installation, rule: RuleRecord) -> bool:
    return (int(here.clock() // PASS) + crc32(rule.id.encode())) % SWEEP_PASSES == 0


def _has_work(here: Installation, rule: RuleRecord) -> bool:
    retraining = living(here, rule)
    if retraining is not None:
        return _stands_still(here, retraining)
    known = known_of(here, rule, champion_of_rule(here, rule)) if rule.pending_rows else Known()
    answer = due(rule, known, cap_of(here, rule.request), here.clock())
    if isinstance(answer, Wait):
        try:
            note(here, rule, answer)
        except VersionConflict:
            logger.info("rule %s changed just now", rule.id)
        return False
    waits = here.clock() - max(rule.last_arrival_at or 0, rule.updated_at) - rule.request.trigger.quiet_seconds
    return waits < HURRY or int(here.clock() // PASS) % 10 == crc32(rule.id.encode()) % 10


def _stands_still(here: Installation, retraining: Retraining) -> bool:
    if retraining.job_id is None:
        return _is_turn(here.clock() - retraining.updated_at)
    job = here.store.find_job(retraining.job_id)
    return job is not None and job.terminal and not job.open


def _is_turn(age: float) -> bool:
    """True in one pass of sixteen, the first after a minute: what is at work on it has its time."""
    return PASS <= age % STEP < 2 * PASS
