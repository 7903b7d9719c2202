"""Looks at an account and an installation, and says what is missing. Only reads.

Each check is a probe, which asks AWS, and a judgement, which is pure. Without credentials nothing else is asked.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterator
from importlib.metadata import version

from spotune.deploy.doctor import probe_account, probe_image, probe_installation
from spotune.deploy.doctor.findings import Finding, unknown
from spotune.deploy.doctor.judge_account import (
    DEPLOYING,
    TRAINING,
    judge_budgets,
    judge_caller,
    judge_clock,
    judge_concurrency,
    judge_organization,
    judge_permissions,
    judge_region,
)
from spotune.deploy.doctor.judge_installation import (
    judge_address,
    judge_alarms,
    judge_answer,
    judge_image,
    judge_models,
    judge_stack,
    judge_version,
)
from spotune.deploy.doctor.judge_machine import judge_endpoints, judge_installer
from spotune.deploy.doctor.judge_network import judge_key, judge_network
from spotune.deploy.doctor.judge_quotas import judge_quotas, quota_names
from spotune.deploy.doctor.probing import look
from spotune.deploy.doctor.seen import Caller, Stack
from spotune.deploy.image_name import ImageName
from spotune.deploy.settings import FURTHER, Settings, parameters, stack_name
from spotune.planner.catalog import load_catalog


def examine(settings: Settings, *, code: str | None = None) -> Iterator[Finding]:
    """Every check, one after another: this machine, the account, the regions, the installation.

    Args:
        settings: of the installation.
        code: key of the code that a deployment from here would upload; None where that is not known.
    """
    yield judge_endpoints(os.environ)
    yield judge_installer(importlib.util.find_spec("pip") is not None or any(map(shutil.which, ("pip3", "pip", "uv"))))
    caller, clocks = probe_account.caller(settings.region)
    yield judge_caller(caller)
    yield judge_clock(clocks)
    if not isinstance(caller, Caller):
        yield unknown("account", "Nothing more was asked: AWS does not take the credentials, or does not answer.")
        return
    yield from _account(settings, caller)
    for region in (settings.region, *settings.further_regions):
        yield from _region(settings, region)
    yield from _network(settings)
    yield from _installation(settings, code)


def _account(settings: Settings, caller: Caller) -> Iterator[Finding]:
    region = settings.region
    yield judge_permissions(
        caller,
        look(lambda: probe_account.decisions(region, caller.policy_source, DEPLOYING) if caller.policy_source else ()),
    )
    yield judge_concurrency(region, look(lambda: probe_account.concurrency(region)))
    yield judge_budgets(caller.account, look(lambda: probe_account.budgets(region, caller.account)))


def _region(settings: Settings, region: str) -> Iterator[Finding]:
    yield judge_region(region, look(lambda: probe_account.region_state(settings.region, region)))
    types = _types(settings)
    yield from judge_quotas(
        region,
        types,
        look(lambda: probe_account.quotas(region, quota_names(types))),
        named=bool(settings.instance_types),
        max_runtime_hours=settings.max_runtime_hours,
    )
    if region != settings.region:
        further = stack_name(settings.stage, FURTHER)
        yield judge_stack(further, look(lambda: probe_installation.stack(region, further)), region)
    uri = settings.image
    seen = None if uri is None else look(lambda: probe_image.image(ImageName.of(uri), region))
    yield judge_image(uri, region, settings.region, seen, version("spotune"))


def _network(settings: Settings) -> Iterator[Finding]:
    region, vpc, key = settings.region, settings.vpc, settings.kms_key_arn
    if vpc.subnets:
        seen = look(lambda: probe_installation.network(region, vpc.subnets, vpc.security_groups))
        yield judge_network(region, vpc.subnets, vpc.security_groups, seen)
    if key:
        yield judge_key(key, look(lambda: probe_installation.key(region, key)))


def _installation(settings: Settings, code: str | None) -> Iterator[Finding]:
    region, name = settings.region, stack_name(settings.stage)
    stack = look(lambda: probe_installation.stack(region, name))
    yield judge_stack(name, stack)
    if not isinstance(stack, Stack) or not stack.outputs:
        return
    yield judge_version(stack, parameters(settings) | ({"CodeKey": code} if code else {}))
    yield judge_answer(stack.outputs["ApiUrl"], probe_installation.answer(stack.outputs["ApiUrl"]))
    models = stack.outputs["MirrorBucket"]
    yield judge_models(look(lambda: probe_installation.base_models(region, models)))
    yield from judge_alarms(look(lambda: probe_installation.alarms(region, name)))
    topic = stack.outputs["AlarmTopicArn"]
    yield judge_address(settings.alarm_email, look(lambda: probe_installation.subscriptions(region, topic)))
    training = stack.outputs["TrainingRoleArn"]
    yield judge_organization("TrainingRole", look(lambda: probe_account.decisions(region, training, TRAINING)))


def _types(settings: Settings) -> list[str]:
    """Instance types that jobs may use, cheapest first."""
    catalog = load_catalog().instances
    prices = {name: catalog[name].on_demand for name in settings.instance_types or catalog}
    return sorted(prices, key=lambda name: (prices[name] is None, prices[name] or 0))
