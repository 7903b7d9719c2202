"""`/v1/rules`: retraining when new data lands."""

from __future__ import annotations

from typing import Annotated, Any

from aws_lambda_powertools.event_handler.api_gateway import Router
from aws_lambda_powertools.event_handler.openapi.params import Body

from handlers.routes.paging import After, Limit, list_object, number_after
from spotune.contracts.api import ListObject
from spotune.contracts.rule_objects import ArrivalObject, DeletedRuleObject, RetrainingObject, RuleObject
from spotune.contracts.rules import ArrivalState, RuleRecord, RuleRequest
from spotune.service.installation import installation
from spotune.service.retraining import rules
from spotune.service.retraining.rule_views import arrival_object, retraining_object, rule_object

router = Router()
RULES = "/v1/rules"
RULE = RULES + "/<rule>"
NIGHTLY = {
    "name": "support",
    "source": {"uri": "s3://acme-data/acme/support/**/*.jsonl"},
    "job": {"model": "HuggingFaceTB/SmolLM2-135M-Instruct", "constraints": {"budget_usd": 5}},
    "trigger": {"min_rows": 500, "schedule": "0 3 * * 1-5"},
    "monthly_budget_usd": 60,
}
"""A rule as the document shows it."""


@router.post(RULES, tags=["rules"], summary="Have new data start the right retraining by itself")
def create(request: Annotated[RuleRequest, Body(examples=[NIGHTLY])]) -> RuleObject:
    """The same name and body a second time is the same rule."""
    return _shown(rules.create(installation(), router.context["tenant"], request, router.context["key"]))


@router.get(RULES, tags=["rules"], summary="List your tenant's rules, newest first")
def list_rules(after: After = None, limit: Limit = 20) -> ListObject[RuleObject]:
    """A page of rules."""
    page = rules.list_rules(installation(), router.context["tenant"], after=after, limit=limit)
    return list_object([_shown(rule) for rule in page.items], has_more=page.has_more)


@router.get(RULE, tags=["rules"], summary="One rule: what is pending, and what it waits for")
def retrieve(rule: str) -> RuleObject:
    """By its id or its name."""
    return _shown(rules.rule_of(installation(), router.context["tenant"], rule))


@router.patch(RULE, tags=["rules"], summary="Change a rule, or switch it on or off")
def change(rule: str, changes: Annotated[dict[str, Any], Body()]) -> RuleObject:
    """What is left out stays; null sets a field back to its default."""
    return _shown(rules.change(installation(), router.context["tenant"], rule, changes))


@router.delete(RULE, tags=["rules"], summary="Delete a rule; its models stay")
def delete(rule: str) -> DeletedRuleObject:
    """A retraining of it goes on to its end."""
    return DeletedRuleObject(id=rules.delete(installation(), router.context["tenant"], rule).id, deleted=True)


@router.post(RULE + "/fire", tags=["rules"], summary="Begin a retraining now, within the rule's limits")
def fire(rule: str) -> RetrainingObject:
    """Whatever its thresholds, its quiet window and its schedule say."""
    return retraining_object(rules.fire(installation(), router.context["tenant"], rule))


@router.get(RULE + "/arrivals", tags=["rules"], summary="What has landed, and what became of it, newest first")
def list_arrivals(
    rule: str, after: After = None, limit: Limit = 20, state: ArrivalState | None = None
) -> ListObject[ArrivalObject]:
    """A page of arrivals, or of those alone that are in this state."""
    here, tenant = installation(), router.context["tenant"]
    page = rules.list_arrivals(here, tenant, rule, after=after, limit=limit, state=state)
    return list_object([arrival_object(one) for one in page.items], has_more=page.has_more)


@router.get(RULE + "/retrainings", tags=["rules"], summary="A rule's retrainings, newest first")
def list_retrainings(rule: str, after: After = None, limit: Limit = 20) -> ListObject[RetrainingObject]:
    """A page of retrainings."""
    here, tenant = installation(), router.context["tenant"]
    page = rules.list_retrainings(here, tenant, rule, after=number_after(after, "/"), limit=limit)
    return list_object([retraining_object(one) for one in page.items], has_more=page.has_more)


@router.post(RULE + "/retrainings/<number>/release", tags=["rules"], summary="Train on rejected data after all")
def release(rule: str, number: int) -> RetrainingObject:
    """The data that was set aside with a rejected model counts as new again."""
    return retraining_object(rules.release(installation(), router.context["tenant"], rule, number))


def _shown(rule: RuleRecord) -> RuleObject:
    return rule_object(rule, installation().clock())
