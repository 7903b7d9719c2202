"""How a retraining ends: its data counts as trained on, is given back to the next, or is set aside until a person says.

The end is one transaction of rule and retraining. Data that is set aside is moved before it, some at a time, so that a
process that is killed between leaves a retraining that has not ended, whose end comes again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from itertools import islice

from spotune.contracts.base import Seconds
from spotune.contracts.errors import Unavailable, VersionConflict
from spotune.contracts.job import JobRecord
from spotune.contracts.rules import Arrival, Retraining, RuleRecord
from spotune.contracts.subject import know
from spotune.retraining import arrivals, course
from spotune.retraining.arrivals import Change
from spotune.retraining.course import Ending
from spotune.service.installation import Installation
from spotune.store.retraining import MOST_ARRIVALS

logger = logging.getLogger(__name__)

MOST_TRIES = 20
"""Of one step: each time somebody else has moved the rule on."""
REGISTERING: Seconds = 3600
"""So long an end waits for the model to be registered, so that the next retraining finds it as its champion."""


def end(here: Installation, job: JobRecord) -> bool:
    """Tell a job's retraining how the job ended.

    Returns:
        False where that is not known for good yet: call again.
    """
    rule_id, _, number = job.retraining.partition("/")
    retraining = here.store.get_retraining(job.tenant, rule_id, int(number)) if number.isdecimal() else None
    if retraining is None:
        return True
    if retraining.ended:
        _book(here, retraining, job)
        return True
    if not job.terminal or job.open or not _is_registered(here, job):
        return False
    know(rule=rule_id, retraining=retraining.number)
    finish(here, retraining, _ending(job), job_id=job.id)
    return True


def finish(here: Installation, retraining: Retraining, ending: Ending, *, job_id: str | None = None) -> None:
    """End a retraining; one that has ended stays as it is.

    Raises:
        Unavailable: the rule kept changing under us; say it again.
    """
    if ending.decision == "reject":
        change_claimed(here, retraining, lambda rule, some: arrivals.set_aside(rule, some, ending.reason))
    for rule in tries(here, retraining.rule_id):
        now = here.store.get_retraining(retraining.tenant, retraining.rule_id, retraining.number)
        if now is None or now.ended:
            return
        told = now if job_id is None else course.submitted(now, job_id, here.clock())
        claimed = here.store.accepted_arrivals(rule.id, after=now.after, through=now.through)
        changed, over = course.ended(rule, told, ending, claimed, here.clock())
        try:
            here.store.commit_retraining(now, over, (rule, changed))
        except VersionConflict:
            continue
        logger.info("retraining %s/%d: %s", rule.id, over.number, over.state)
        return


def _book(here: Installation, retraining: Retraining, job: JobRecord) -> None:
    """What the job was billed since its retraining ended."""
    for rule in tries(here, retraining.rule_id):
        now = here.store.get_retraining(retraining.tenant, retraining.rule_id, retraining.number) or retraining
        changed, booked = course.billed_since(rule, now, job.billed, here.clock())
        if booked is now:
            return
        try:
            here.store.commit_retraining(now, booked, (rule, changed))
        except VersionConflict:
            continue
        return


def change_claimed(
    here: Installation, retraining: Retraining, decide: Callable[[RuleRecord, list[Arrival]], Change]
) -> None:
    """Let something become of all arrivals that a retraining claimed, some in each transaction."""
    claimed = here.store.accepted_arrivals(retraining.rule_id, after=retraining.after, through=retraining.through)
    names = iter([(one.uri, one.version_id) for one in claimed])
    while some := list(islice(names, MOST_ARRIVALS)):
        for rule in tries(here, retraining.rule_id):
            found = [here.store.get_arrival(rule.id, *name) for name in some]
            change = decide(rule, [one for one in found if one is not None])
            try:
                if not change.empty:
                    here.store.commit_arrivals(rule, change.rule, change.arrivals)
            except VersionConflict:
                continue
            break


def tries(here: Installation, rule_id: str) -> Iterator[RuleRecord]:
    """The rule as it is, anew for each try of a change; none where there is no such rule.

    Raises:
        Unavailable: too many others have changed it each time.
    """
    for _ in range(MOST_TRIES):
        rule = here.store.find_rule(rule_id)
        if rule is None:
            return
        yield rule
    raise contention(rule_id)


def contention(rule_id: str) -> Unavailable:
    """Others change the rule all the time."""
    return Unavailable(f"Rule {rule_id} is being changed by others.", code="contention", remedy="Try again.")


def _ending(job: JobRecord) -> Ending:
    if job.state == "succeeded":
        verdict = job.verdict
        decision, reason = (None, job.gate_verdict) if verdict is None else (verdict.decision, verdict.reason)
        return Ending("succeeded", reason, decision, job.billed)
    if job.state == "cancelled":
        return Ending("cancelled", f"job {job.id} was cancelled", billed=job.billed)
    why = f"job {job.id} failed" if job.error is None else f"job {job.id} failed: {job.error.message}"
    return Ending("failed", why, billed=job.billed)


def _is_registered(here: Installation, job: JobRecord) -> bool:
    """Whether what the gate promoted is in the registry, or it is not to be waited for any longer."""
    if job.verdict is None or job.verdict.decision != "promote" or job.fine_tuned_model is None:
        return True
    known = here.store.find_version(job.tenant, job.fine_tuned_model) is not None
    return known or here.clock() - (job.finished_at or 0) > REGISTERING
