"""A rule's retrainings, from firing to their end.

    look       does the rule fire now? -> begun, in one transaction with the rule
    carry_on   the evaluation set, the dataset, the job by `submit` under the key `<rule id>/<number>`
    (retraining_ends) what the job came to: its data is trained on, given back, or set aside

Each step reads what is stored and goes on from there. It may come twice, beside itself, or after it was killed
anywhere: what is done already is found, and changes nothing. Whatever stands still is called again by the reconciler.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from spotune.aws.base import AwsRefused
from spotune.contracts.base import MicroUSD, Seconds, Timestamp, dollars
from spotune.contracts.errors import Conflict, NotFound, SpotuneError, Unavailable, VersionConflict
from spotune.contracts.job import PayingKey
from spotune.contracts.request import JobRequest
from spotune.contracts.rules import Cause, Frozen, Retraining, RuleRecord
from spotune.contracts.subject import know
from spotune.data.assembly.refusals import DatasetChanged, HashesDamaged
from spotune.retraining import course
from spotune.retraining.course import Ending
from spotune.retraining.due import Count, Fire, Wait, by_hand, due, noted
from spotune.retraining.template import job_request
from spotune.service.identifiers import job_id
from spotune.service.installation import Installation
from spotune.service.jobs.submit import ByRule, ChampionChanged, paying, plan, submit
from spotune.service.notifications.publication import tell_of_refusal
from spotune.service.retraining import datasets as datasets
from spotune.service.retraining.datasets import Champion
from spotune.service.retraining.ends import MOST_TRIES, contention, end, finish, tries
from spotune.service.retraining.rule_checks import cap_of
from spotune.service.retraining.settling import Gone, settle

Made = TypeVar("Made")

logger = logging.getLogger(__name__)

GIVE_UP: Seconds = 86_400
"""So long a retraining may be prepared, whatever stands in its way, before its data is the next one's."""
MOST_LOSSES = 3
"""How often a dataset is chosen anew since files that it was to be made of are gone."""


def look(here: Installation, rule_id: str) -> Retraining | None:
    """Begin a retraining where the rule fires now, counting its new rows where that is what it takes.

    Raises:
        Unavailable: the rule kept changing under us; look again.
    """
    for rule in tries(here, rule_id):
        champion = datasets.champion_of_rule(here, rule)
        known = datasets.known_of(here, rule, champion)
        cap, now = cap_of(here, rule.request), here.clock()
        try:
            match due(rule, known, cap, now):
                case Fire(cause=cause):
                    return _begin(here, rule, cause, cap, now)
                case Count(through=through):
                    rows = datasets.count_new_rows(here, rule, champion)
                    counted = course.counted(rule, known, through=through, rows=rows)
                    here.store.replace_rule(rule, counted)
                case Wait() as wait:
                    note(here, rule, wait)
                    return None
        except VersionConflict:
            continue
    return None


def fire(here: Installation, tenant: str, rule_id: str) -> Retraining:
    """Begin a retraining because a person asks for it, whatever its thresholds say.

    Raises:
        NotFound: the tenant has no such rule.
        Conflict: its limits, its money, or a retraining that has not ended are in the way, or there is no data.
    """
    for _ in range(MOST_TRIES):
        rule = _rule_of(here, tenant, rule_id)
        cap, now = cap_of(here, rule.request), here.clock()
        answer = by_hand(rule, cap, now)
        if isinstance(answer, Wait):
            raise Conflict(
                f"Rule {rule.request.name} cannot fire now; it waits for {answer.reason}.",
                code="rule_waits",
                param="rule",
                remedy=f"Try again then, or change what holds it back with PATCH /v1/rules/{rule_id}.",
                details=None if answer.until is None else {"not_before": answer.until},
            )
        try:
            begun = _begin(here, rule, answer.cause, cap, now)
        except VersionConflict:
            continue
        queue_work(here, rule_id)
        return begun
    raise contention(rule_id)


def carry_on(here: Installation, rule_id: str) -> None:
    """Take the rule's retraining one step after the other as far as it goes now.

    Raises:
        Unavailable: something does not answer; call again.
    """
    rule = here.store.find_rule(rule_id)
    retraining = None if rule is None else living(here, rule)
    if rule is None or retraining is None:
        return
    know(rule=rule.id, retraining=retraining.number, tenant=rule.tenant)
    if retraining.job_id is not None:
        job = here.store.find_job(retraining.job_id)
        if job is not None:
            end(here, job)
        return
    if here.clock() - retraining.created_at > GIVE_UP:
        _refuse(here, retraining, f"its job could not be submitted within {GIVE_UP // 3600} hours")
        return
    try:
        _advance(here, rule, retraining)
    except Unavailable:
        raise
    except SpotuneError as refused:
        _refuse(here, retraining, str(refused))


def living(here: Installation, rule: RuleRecord) -> Retraining | None:
    """The rule's retraining that has not ended."""
    return None if rule.live is None else here.store.get_retraining(rule.tenant, rule.id, rule.live)


def note(here: Installation, rule: RuleRecord, wait: Wait) -> None:
    """Keep in the rule what it waits for; where somebody changes the rule just now, the next look does."""
    waits = noted(rule, wait)
    if waits is not rule:
        here.store.replace_rule(rule, waits)


def queue_work(here: Installation, rule_id: str, *, sweep: bool = False) -> None:
    """Have the launch function work on a rule. Where the queue does not answer, the reconciler sees to it."""
    try:
        here.queue.send({"rule_id": rule_id, "sweep": sweep})
    except (AwsRefused, Unavailable) as error:
        logger.warning("rule %s is left to the reconciler: %s", rule_id, error)


def _begin(here: Installation, rule: RuleRecord, cause: Cause, cap: MicroUSD, now: Timestamp) -> Retraining:
    """At the moment for which its limits were looked at: another look at the clock may be before their end."""
    begun, retraining = course.begin(rule, cause, cap, now)
    here.store.begin_retraining(rule, begun, retraining)
    logger.info("rule %s fires: retraining %d, by %s", rule.id, retraining.number, cause)
    return retraining


def _advance(here: Installation, rule: RuleRecord, retraining: Retraining) -> None:
    """As far as its job, whose data was chosen against the very champion that it is compared with."""
    key = _paying_key(here, rule)
    frozen = rule.frozen or _with_frozen(here, retraining)
    for _ in range(MOST_TRIES):
        if _is_submitted(here, retraining):
            return
        champion = datasets.champion_of_rule(here, rule)
        retraining = _prepared(here, rule, retraining, frozen, champion)
        if retraining.state != "preparing" or retraining.manifest_uri is None:
            return
        manifest = datasets.read_manifest(here, retraining.manifest_uri)
        request = job_request(retraining.request, manifest.uri, frozen.uri)
        if retraining.request.dry_run:
            finish(here, retraining, Ending("planned", _planned(here, retraining, request)))
            return
        by_rule = ByRule(_name_of(retraining), champion.name, key)
        try:
            submit(here, retraining.tenant, request, by_rule.retraining, by_rule=by_rule)
        except ChampionChanged as changed:
            logger.info("the data of retraining %s is chosen anew: %s", by_rule.retraining, changed)
    raise contention(rule.id)


def _prepared(
    here: Installation, rule: RuleRecord, retraining: Retraining, frozen: Frozen, champion: Champion
) -> Retraining:
    """The retraining with a dataset that was chosen against this champion."""
    known_uri = datasets.known_uri_of(here, rule, champion)
    if retraining.manifest_uri == datasets.dataset_manifest(here, rule, retraining, known_uri):
        return retraining
    make = partial(datasets.make_dataset, here, rule, retraining, frozen, champion, known_uri)
    uri, rows = _of_what_is_there(here, retraining, make)
    return _moved(here, retraining, lambda one: course.prepared(one, uri, rows, here.clock()))


def _is_submitted(here: Installation, retraining: Retraining) -> bool:
    """Whether its job is there, by this delivery or another; the retraining then knows it."""
    job = here.store.get_job(retraining.tenant, job_id(here.settings.stage, retraining.tenant, _name_of(retraining)))
    if job is not None:
        _moved(here, retraining, lambda one: course.submitted(one, job.id, here.clock()))
    return job is not None


def _refuse(here: Installation, retraining: Retraining, why: str) -> None:
    """End a retraining that has no job, and tell its tenant, first. One whose job another delivery has just submitted
    goes on."""
    if _is_submitted(here, retraining):
        return
    tell_of_refusal(here, retraining, why)
    finish(here, retraining, Ending("refused", why))


def _name_of(retraining: Retraining) -> str:
    """Of its job too: the idempotency key."""
    return f"{retraining.rule_id}/{retraining.number}"


def _with_frozen(here: Installation, retraining: Retraining) -> Frozen:
    """The rule's evaluation set, carved where it has none."""
    for rule in tries(here, retraining.rule_id):
        if rule.frozen is not None:
            return rule.frozen
        frozen = _of_what_is_there(here, retraining, partial(datasets.carve_frozen, here, rule, retraining))
        try:
            here.store.replace_rule(rule, rule.with_(frozen=frozen))
        except VersionConflict:
            continue
        return frozen
    raise contention(retraining.rule_id)


def _of_what_is_there(here: Installation, retraining: Retraining, work: Callable[[], Made]) -> Made:
    """Do what reads the retraining's files; again without those that turn out to be gone, or with hashes made anew."""
    for left in range(MOST_LOSSES, -1, -1):
        try:
            return work()
        except DatasetChanged:
            missing = datasets.missing_of(here, retraining)
            if not missing or not left:
                raise
            settle(here, retraining.rule_id, [Gone(one) for one in missing])
        except HashesDamaged as damaged:
            if not left or not datasets.mend_hashes(here, retraining, damaged.uri):
                raise
    raise contention(retraining.rule_id)


def _moved(here: Installation, retraining: Retraining, move: Callable[[Retraining], Retraining]) -> Retraining:
    """The retraining, moved on by one step; where another delivery was quicker, as that has left it.

    Raises:
        Unavailable: as everywhere.
    """
    for _ in range(MOST_TRIES):
        moved = move(retraining)
        if moved is retraining:
            return retraining
        try:
            here.store.commit_retraining(retraining, moved)
        except VersionConflict:
            now = here.store.get_retraining(retraining.tenant, retraining.rule_id, retraining.number)
            retraining = now or retraining
            continue
        return moved.with_(version=retraining.version + 1)
    raise contention(retraining.rule_id)


def _paying_key(here: Installation, rule: RuleRecord) -> PayingKey | None:
    """The key that made the rule, revoked or not: what its jobs spend counts against the key's limit.

    Raises:
        Conflict: the key is forgotten, and the rule is of a version that did not keep its limit.
    """
    known = next((key for key, _ in here.store.list_keys(rule.tenant) if key.id == rule.key), None)
    if known is not None:
        return paying(known.id, known.monthly_limit)
    if rule.made_by is not None:
        return paying(rule.made_by.id, rule.made_by.monthly_limit)
    if not rule.key:
        return None
    raise Conflict(
        f"The API key {rule.key} that made the rule was revoked and is forgotten, and so is its monthly limit.",
        code="rule_key_forgotten",
        param="rule",
        remedy="Delete the rule and make it again with a key that pays for it: it goes on from where it was.",
    )


def _planned(here: Installation, retraining: Retraining, request: JobRequest) -> str:
    chosen = plan(here, retraining.tenant, request).plan.chosen
    return (
        f"dry run: {retraining.rows or 0:,} rows would be trained on with {chosen.instance_type} ({chosen.market}) "
        f"in {chosen.wall_hours.mid:.1f} h for {dollars(round(chosen.cost.mid))}"
    )


def _rule_of(here: Installation, tenant: str, rule_id: str) -> RuleRecord:
    rule = here.store.get_rule(tenant, rule_id)
    if rule is None:
        raise NotFound(
            f"No rule {rule_id!r}.",
            code="rule_not_found",
            param="rule",
            remedy="List yours with `spotune rules list` or GET /v1/rules.",
        )
    return rule
