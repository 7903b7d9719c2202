"""Retraining rules of a tenant: made, changed, switched, deleted, fired by hand, and data of theirs released."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pydantic import ValidationError

from spotune.contracts.errors import Conflict, NotFound, VersionConflict
from spotune.contracts.identity import ApiKey
from spotune.contracts.refusal import refusal
from spotune.contracts.rules import Arrival, ArrivalState, MakingKey, Retraining, RuleRecord, RuleRequest
from spotune.retraining.arrivals import release as released_data
from spotune.service.identifiers import rule_id
from spotune.service.installation import Installation
from spotune.service.merging import merged
from spotune.service.retraining import retrain
from spotune.service.retraining.ends import change_claimed
from spotune.service.retraining.rule_checks import check_rule
from spotune.store.page import Page

MOST_RULES = 100
"""Of one tenant: each is looked at every minute. Two creations at the same moment may exceed it by one."""
TRIES = 10
"""Of a change, where arrivals change the rule at the same time."""
_DEEPEST = 5
"""Levels of names in a rule: `job.method.supervised.hyperparameters.n_epochs`."""


def create(here: Installation, tenant: str, request: RuleRequest, key: ApiKey) -> RuleRecord:
    """A new rule, or the one that is there where name and body are the same.

    One that was deleted goes on under its name from where it was: its numbers, what it has trained on, its evaluation
    set.

    Raises:
        RequestRefused: it could never work, or could retrain on its own results; see `rule_checks`.
        Conflict: the name stands for another rule, or the tenant has as many as it may.
    """
    new_id = rule_id(here.settings.stage, tenant, request.name)
    known = here.store.find_rule(new_id)
    if known is not None and known.deleted_at is None:
        return _same(known, request)
    check_rule(here, tenant, request)
    if len(here.store.list_rules(tenant, after=None, limit=MOST_RULES).items) == MOST_RULES:
        raise Conflict(f"A tenant has {MOST_RULES} rules at most.", code="too_many_rules", remedy="Delete one.")
    now = here.clock()
    if known is not None:
        return _revived(here, known, request, key)
    made = RuleRecord(
        id=new_id,
        tenant=tenant,
        request=request,
        created_at=now,
        updated_at=now,
        key=key.id,
        made_by=_making(key),
    )
    if here.store.create_rule(made):
        # What lies there already is found by a sweep.
        retrain.queue_work(here, made.id, sweep=True)
        return made.with_(version=1)
    return create(here, tenant, request, key)


def list_rules(here: Installation, tenant: str, *, after: str | None, limit: int) -> Page[RuleRecord]:
    """A page of a tenant's rules, newest first."""
    return here.store.list_rules(tenant, after=after, limit=limit)


def rule_of(here: Installation, tenant: str, name: str) -> RuleRecord:
    """A tenant's rule, by its id or its name.

    Raises:
        NotFound: there is none, for this tenant.
    """
    rule = here.store.get_rule(tenant, name) or here.store.get_rule(tenant, rule_id(here.settings.stage, tenant, name))
    if rule is None:
        raise NotFound(
            f"No rule {name!r}.",
            code="rule_not_found",
            param="rule",
            remedy="List yours with `spotune rules list` or GET /v1/rules.",
        )
    return rule


def change(here: Installation, tenant: str, name: str, changes: Mapping[str, object]) -> RuleRecord:
    """Change what is named, as a JSON merge patch (RFC 7396). What a retraining has begun with stays with it.

    Raises:
        NotFound: as `rule_of`.
        RequestRefused: what comes out is no rule, or one that `create` would refuse.
        Conflict: its name, its source, or an evaluation set that was carved would change.
    """

    def changed(rule: RuleRecord) -> RuleRecord:
        request = _patched(rule.request, changes)
        if request == rule.request:
            return rule
        _check_fixed(rule, request)
        _check_changed(here, tenant, rule.request, request)
        now = here.clock()
        again = not rule.request.enabled or request.trigger.schedule != rule.request.trigger.schedule
        moments = {"scheduled_at": now} if again else {}
        return rule.with_(request=request, updated_at=now, tried_through=0, waiting_for="", **moments)

    rule = _apply(here, tenant, name, changed)
    retrain.queue_work(here, rule.id)
    return rule


def delete(here: Installation, tenant: str, name: str) -> RuleRecord:
    """Stop a rule for good. A retraining of it goes on to its end; its models stay.

    Raises:
        NotFound: as `rule_of`.
    """
    now = here.clock()
    return _apply(here, tenant, name, lambda rule: rule.with_(deleted_at=now, updated_at=now, waiting_for="deleted"))


def fire(here: Installation, tenant: str, name: str) -> Retraining:
    """Begin a retraining now, within the rule's limits.

    Raises:
        NotFound: as `rule_of`.
        Conflict: there is no data, one lives, or a limit or the month's budget stands against it.
    """
    return retrain.fire(here, tenant, rule_of(here, tenant, name).id)


def release(here: Installation, tenant: str, name: str, number: int) -> Retraining:
    """Let the rule train on the data of a rejected retraining after all. A second time changes nothing.

    Raises:
        NotFound: there is no such rule or retraining, for this tenant.
        Conflict: nothing of it was set aside.
    """
    rule = rule_of(here, tenant, name)
    retraining = retraining_of(here, rule, number)
    if retraining.released:
        return retraining
    if retraining.decision != "reject" or not retraining.ended:
        raise Conflict(
            f"Nothing of retraining {number} of rule {rule.request.name} was set aside.",
            code="nothing_set_aside",
            remedy="Only the data of a retraining whose model the gate rejected can be released.",
        )
    change_claimed(here, retraining, lambda rule, some: released_data(rule, some, here.clock()))
    done = retraining.with_(released=True, updated_at=here.clock())
    try:
        here.store.commit_retraining(retraining, done)
    except VersionConflict:
        return retraining_of(here, rule, number)
    retrain.queue_work(here, rule.id)
    return done.with_(version=retraining.version + 1)


def retraining_of(here: Installation, rule: RuleRecord, number: int) -> Retraining:
    """One retraining of a rule.

    Raises:
        NotFound: there is none of this number.
    """
    found = here.store.get_retraining(rule.tenant, rule.id, number)
    if found is None:
        raise NotFound(
            f"Rule {rule.request.name} has no retraining {number}.",
            code="retraining_not_found",
            param="number",
            remedy=f"List them with `spotune rules retrainings {rule.request.name}`.",
        )
    return found


def list_retrainings(here: Installation, tenant: str, name: str, *, after: int, limit: int) -> Page[Retraining]:
    """A page of a rule's retrainings, newest first."""
    return here.store.list_retrainings(tenant, rule_of(here, tenant, name).id, after=after, limit=limit)


def list_arrivals(
    here: Installation, tenant: str, name: str, *, after: str | None, limit: int, state: ArrivalState | None = None
) -> Page[Arrival]:
    """A page of a rule's arrivals, newest first; with `state` of those alone that are in it."""
    rule = rule_of(here, tenant, name)
    return here.store.list_arrivals(tenant, rule.id, after=after, limit=limit, state=state)


def _same(known: RuleRecord, request: RuleRequest) -> RuleRecord:
    if known.request == request:
        return known
    raise Conflict(
        f"A rule {request.name!r} is there, with another body.",
        code="rule_exists",
        param="name",
        remedy=f"Change it with PATCH /v1/rules/{known.id}, or take another name.",
    )


def _revived(here: Installation, known: RuleRecord, request: RuleRequest, key: ApiKey) -> RuleRecord:
    _check_fixed(known, request)
    now = here.clock()
    rule = known.with_(
        request=request,
        key=key.id,
        made_by=_making(key),
        updated_at=now,
        deleted_at=None,
        scheduled_at=now,
        tried_through=0,
        waiting_for="",
    )
    try:
        here.store.replace_rule(known, rule)
    except VersionConflict:
        return create(here, known.tenant, request, key)
    retrain.queue_work(here, rule.id, sweep=True)
    return rule.with_(version=known.version + 1)


def _making(key: ApiKey) -> MakingKey:
    return MakingKey(id=key.id, monthly_limit=key.monthly_limit)


def _patched(request: RuleRequest, changes: Mapping[str, object]) -> RuleRequest:
    try:
        return RuleRequest.model_validate(merged(request.model_dump(mode="json"), changes, levels=_DEEPEST))
    except ValidationError as error:
        raise refusal(error.errors()) from None


def _check_fixed(rule: RuleRecord, request: RuleRequest) -> None:
    """What a rule's data and its evaluation set hang on does not change."""
    was = rule.request
    fixed = {"name": (was.name, request.name), "source.uri": (was.source.uri, request.source.uri)}
    if rule.frozen is not None:
        fixed["frozen"] = (str(was.frozen), str(request.frozen))
    for field, (before, after) in fixed.items():
        if before != after:
            raise Conflict(
                f"{field} of rule {was.name} cannot change: its data and its evaluation set hang on it ({before}).",
                code="rule_field_fixed",
                param=field,
                remedy="Make a rule of another name; it may name the same job.registry.group.",
            )


def _check_changed(here: Installation, tenant: str, before: RuleRequest, after: RuleRequest) -> None:
    """Whatever stands against a rule, it can be switched off."""
    if not after.enabled and after == before.with_(enabled=False):
        return
    check_rule(here, tenant, after)


def _apply(here: Installation, tenant: str, name: str, changed: Callable[[RuleRecord], RuleRecord]) -> RuleRecord:
    for _ in range(TRIES):
        before = rule_of(here, tenant, name)
        after = changed(before)
        if after == before:
            return before
        try:
            here.store.replace_rule(before, after)
        except VersionConflict:
            continue
        return after.with_(version=before.version + 1)
    raise _contention(name)


def _contention(name: str) -> Conflict:
    return Conflict(f"Rule {name} is changed by others all the time.", code="contention", remedy="Try again.")
