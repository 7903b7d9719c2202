"""What is refused when a rule is made: what could never work, and what could retrain on its own results."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from spotune import planner
from spotune.contracts.base import MicroUSD, dollars
from spotune.contracts.errors import RequestRefused, SpotuneError
from spotune.contracts.rules import RuleRequest
from spotune.retraining import schedule
from spotune.retraining.patterns import WILDCARDS, compiled
from spotune.retraining.template import job_request
from spotune.service.access.tenants import check_may_train
from spotune.service.access.trackers import check_integrations
from spotune.service.installation import Installation
from spotune.service.jobs.preparation import resolve_file
from spotune.service.market import current_market
from spotune.service.models.base_models import base_model, check_cut
from spotune.service.retraining.sources import own_prefixes


def cap_of(here: Installation, request: RuleRequest) -> MicroUSD:
    """What each of a rule's jobs may cost."""
    return request.job.constraints.budget or here.settings.default_budget


def check_rule(here: Installation, tenant: str, request: RuleRequest) -> None:
    """Refuse a rule that could not be carried out.

    Raises:
        RequestRefused: names the field, the rule and the way out.
        NotFound: a base model or a golden file that is not there.
    """
    check_source(here, tenant, request)
    check_schedule(request)
    check_money(here, request)
    check_job(here, tenant, request)


def check_source(here: Installation, tenant: str, request: RuleRequest) -> None:
    """Refuse data that is not the tenant's, and a pattern that what we write ourselves could match.

    Raises:
        RequestRefused: as above.
    """
    source = request.source
    pattern = compiled(source.uri)
    _check_place(here, tenant, pattern.beginning, source.uri, "source.uri")
    for own in own_prefixes(here, tenant):
        if pattern.reaches(own):
            raise RequestRefused(
                f"{source.uri} can match what the service itself writes below {own}: the rule would retrain on that.",
                code="source_matches_outputs",
                param="source.uri",
                remedy=f"Name a folder of its own, for example s3://{here.settings.data_bucket}/{tenant}/incoming/.",
            )
    if source.dvc_remote is not None:
        _check_remote(here, tenant, source.dvc_remote, source.uri)


def check_schedule(request: RuleRequest) -> None:
    """Refuse what is no schedule.

    Raises:
        RequestRefused: as above.
    """
    if request.trigger.schedule is None:
        return
    try:
        schedule.parse(request.trigger.schedule)
    except ValueError as error:
        raise RequestRefused(
            f"{request.trigger.schedule!r} is no schedule: {error}.",
            code="schedule_invalid",
            param="trigger.schedule",
            remedy="Write cron's five fields in UTC, for example '0 3 * * 1-5'.",
        ) from None


def check_money(here: Installation, request: RuleRequest) -> None:
    """Refuse a month's budget that no retraining fits into.

    Raises:
        RequestRefused: as above.
    """
    cap, month = cap_of(here, request), request.monthly_budget
    if month is not None and month < cap:
        raise RequestRefused(
            f"The month's budget, {dollars(month)}, is below that of one retraining, {dollars(cap)}.",
            code="monthly_budget_too_small",
            param="monthly_budget_usd",
            remedy="Raise it, or lower job.constraints.budget_usd.",
        )


def check_job(here: Installation, tenant: str, request: RuleRequest) -> None:
    """Refuse a template that no dataset could make a job of.

    Raises:
        SpotuneError: as a submission would refuse it, with the field's name in the rule.
    """
    made = job_request(request, "s3://dataset", "s3://frozen")
    check_may_train(here.settings, tenant)
    with _of_the_job():
        check_integrations(made, here.settings, tenant)
        model = base_model(here, made.model)
        if made.outputs.gguf is not None:
            check_cut(here, model.reference)
        if made.gate.golden_file is not None:
            resolve_file(here, tenant, made.gate.golden_file, "gate.golden_file")
        markets = [current_market(here, place.region) for place in here.places]
        planner.check_request(made, model.architecture, cap_of(here, request), markets, here.settings.bounds)


@contextmanager
def _of_the_job() -> Iterator[None]:
    """Refusals name the field as it is called in the rule."""
    try:
        yield
    except SpotuneError as error:
        error.param = None if error.param is None else f"job.{error.param}"
        raise


def _check_remote(here: Installation, tenant: str, remote: str, source: str) -> None:
    _check_place(here, tenant, remote, remote, "source.dvc_remote")
    if WILDCARDS & set(remote) or compiled(source).reaches(remote.rstrip("/") + "/"):
        raise RequestRefused(
            f"The DVC remote {remote} has wildcards, or lies where the source watches.",
            code="dvc_remote_invalid",
            param="source.dvc_remote",
            remedy="Name a folder that source.uri does not match: its files are reached through the .dvc files alone.",
        )


def _check_place(here: Installation, tenant: str, beginning: str, uri: str, param: str) -> None:
    """Whatever matches begins with `beginning`: that has to lie within what is open to the tenant."""
    home = f"s3://{here.settings.data_bucket}/{tenant}/"
    opened = [f"s3://{one.bucket}/{one.prefix}" for one in here.settings.sources if one.tenant == tenant]
    if not beginning.startswith((home, *opened)):
        raise RequestRefused(
            f"{uri} is not in your folder.",
            code="source_not_allowed",
            param=param,
            remedy=f"Name a folder below {' or '.join([home, *opened])}; "
            "the operator opens others (SourceTenants of the template).",
        )
