"""Judges the quotas of training, which AWS starts at zero for every GPU, and writes the requests to make. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

from spotune.contracts.market import quota_name
from spotune.contracts.request import Market
from spotune.deploy.doctor.findings import Finding, fail, not_seen, ok, unknown, warn
from spotune.deploy.doctor.seen import Quota, Quotas, Seen, Unseen
from spotune.deploy.settings import partition

ASKED_FOR = 1
"""Instances that a request for a quota of zero asks for: enough for a job, and small enough to be granted."""
SHOWN = 5
"""Types that a person is shown; programs get all."""

LONGEST_RUN = "Longest run time for a training job"
"""Service Quotas' name of it; in seconds."""

_WORDS: dict[Market, str] = {"spot": "spot", "on_demand": "on demand"}
_OTHER: dict[Market, Market] = {"spot": "on_demand", "on_demand": "spot"}


def quota_names(types: Sequence[str]) -> frozenset[str]:
    """What has to be looked up for `judge_quotas`."""
    return frozenset(quota_name(name, market) for name in types for market in _WORDS) | {LONGEST_RUN}


def judge_quotas(
    region: str, types: Sequence[str], seen: Seen[Quotas], *, named: bool, max_runtime_hours: float
) -> list[Finding]:
    """Whether jobs get any instance, in each market, and as long as the settings let them run.

    Args:
        region: where they run.
        types: instance types that they may use, cheapest first.
        seen: what Service Quotas says.
        named: the settings name the types, so that each of them is wanted.
        max_runtime_hours: the longest that the settings let a training job run.
    """
    if isinstance(seen, Unseen):
        return [not_seen(f"quotas in {region}", seen, "servicequotas:ListServiceQuotas")]
    markets = [_judge(region, types, seen, market, named=named) for market in _WORDS]
    longest = seen.get(LONGEST_RUN)
    return markets if longest is None else [*markets, _judge_longest(region, longest, max_runtime_hours)]


def request_command(region: str, quota: Quota, instances: int = ASKED_FOR) -> str:
    """The command that asks AWS for a quota."""
    return (
        "aws service-quotas request-service-quota-increase --service-code sagemaker "
        f"--quota-code {quota.code} --desired-value {instances} --region {region}"
    )


def console_link(region: str, quota: Quota) -> str:
    """Where the same is asked for by hand."""
    hosts = {"aws-cn": "console.amazonaws.cn", "aws-us-gov": "console.amazonaws-us-gov.com"}
    host = hosts.get(partition(region), "console.aws.amazon.com")
    return f"https://{host}/servicequotas/home/services/sagemaker/quotas/{quota.code}?region={region}"


def _judge(region: str, types: Sequence[str], quotas: Quotas, market: Market, *, named: bool) -> Finding:
    check = f"{_WORDS[market]} quotas in {region}"
    known = _known(types, quotas, market)
    if not known:
        return unknown(check, "Service Quotas lists none of the allowed instance types; they may not be offered there.")
    open_ = [(name, quota) for name, quota in known if quota.value >= 1]
    shut = [(name, quota) for name, quota in known if quota.value < 1]
    details = {"types": [_details(region, name, quota) for name, quota in known]}
    remedy = _remedy(region, shut)
    if not open_:
        elsewhere = any(quota.value >= 1 for _, quota in _known(types, quotas, _OTHER[market]))
        says = f"0 for all {len(shut)} allowed types, so nothing trains {_WORDS[market]}.{_asked(shut)}"
        return (warn if elsewhere else fail)(check, says, remedy, **details)
    says = f"{len(open_)} of {len(known)} allowed types: {_shown([f'{name} ({q.value:g})' for name, q in open_])}."
    if shut and named:
        return warn(check, f"{says} 0 for {_shown([name for name, _ in shut])}.{_asked(shut)}", remedy, **details)
    return ok(check, says, **details)


def _known(types: Sequence[str], quotas: Quotas, market: Market) -> list[tuple[str, Quota]]:
    named = ((name, quotas.get(quota_name(name, market))) for name in types)
    return [(name, quota) for name, quota in named if quota is not None]


def _judge_longest(region: str, quota: Quota, wanted_hours: float) -> Finding:
    check, hours = f"longest run in {region}", quota.value / 3600
    if hours >= wanted_hours:
        return ok(check, f"A training job may run for {hours:g} h; the settings allow {wanted_hours:g} h.")
    return warn(
        check,
        f"AWS ends a training job after {hours:g} h; the settings allow {wanted_hours:g} h.",
        f"`{request_command(region, quota, math.ceil(wanted_hours * 3600))}`, or a smaller max_runtime_hours",
    )


def _remedy(region: str, shut: Sequence[tuple[str, Quota]]) -> str:
    to_ask = [(name, quota) for name, quota in shut if quota.asked is None]
    if not to_ask:
        return "Wait for AWS's answer; it comes by e-mail and takes hours to days."
    shown = [f"{name}: `{request_command(region, quota)}`" for name, quota in to_ask[:SHOWN]]
    if len(to_ask) > SHOWN:
        shown.append(f"and {len(to_ask) - SHOWN} more (--json has them)")
    return "\n".join([*shown, f"or by hand: {console_link(region, to_ask[0][1])}"])


def _asked(quotas: Sequence[tuple[str, Quota]]) -> str:
    asked = [f"{name} ({quota.asked:g})" for name, quota in quotas if quota.asked is not None]
    return f" Asked for and not answered yet: {_shown(asked)}." if asked else ""


def _shown(words: Sequence[str]) -> str:
    more = f" and {len(words) - SHOWN} more" if len(words) > SHOWN else ""
    return ", ".join(words[:SHOWN]) + more


def _details(region: str, name: str, quota: Quota) -> dict[str, object]:
    return {
        "instance_type": name,
        "quota": quota.name,
        "quota_code": quota.code,
        "value": quota.value,
        "asked": quota.asked,
        "command": request_command(region, quota, max(ASKED_FOR, int(quota.value) + 1)),
        "link": console_link(region, quota),
    }
