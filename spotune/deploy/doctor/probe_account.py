"""Looks at the account: who asks, the clock, quotas, permissions, budgets. Only reads."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from email.utils import parsedate_to_datetime
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError, ConnectionError, HTTPClientError

from spotune.aws.clients import client
from spotune.deploy.doctor.probing import look, paged
from spotune.deploy.doctor.seen import Budget, Caller, Clocks, Decision, Quota, Quotas, Refused, Unseen

_OPEN = ("PENDING", "CASE_OPENED")
"""States of a quota request that AWS has not answered yet."""


def caller(region: str) -> tuple[Caller | Refused | Unseen, Clocks | None]:
    """Who asks, and what time it is at AWS, which even a refusal says; None where nothing was answered."""
    try:
        answer = client("sts", region).get_caller_identity()
    except ClientError as error:
        code, said = error.response["Error"]["Code"], error.response["Error"].get("Message", "")
        return Refused(code, said), _clocks(error.response)
    except (ConnectionError, HTTPClientError) as error:
        return Unseen(str(error)), None
    except BotoCoreError as error:
        return Refused(type(error).__name__, str(error)), None
    arn = str(answer["Arn"])
    source = look(lambda: _policy_source(arn, region))
    return Caller(str(answer["Account"]), arn, source if isinstance(source, str) else ""), _clocks(answer)


def region_state(home: str, region: str) -> str:
    """Whether the account may use a region: `opted-in`, `opt-in-not-required`, `not-opted-in`; empty for none such.

    Asked at home: a region that is not enabled takes no credentials.
    """
    answer = client("ec2", home).describe_regions(AllRegions=True)
    return next((str(one["OptInStatus"]) for one in answer["Regions"] if one["RegionName"] == region), "")


def quotas(region: str, names: Collection[str]) -> Quotas:
    """SageMaker's quotas of these names, with the requests that are not answered yet."""
    service = client("service-quotas", region)
    seen = look(lambda: _asked(service))
    asked = seen if isinstance(seen, dict) else {}
    return {
        one["QuotaName"]: Quota(one["QuotaName"], one["QuotaCode"], float(one["Value"]), asked.get(one["QuotaCode"]))
        for one in paged(service, "list_service_quotas", "Quotas", ServiceCode="sagemaker")
        if one["QuotaName"] in names
    }


def concurrency(region: str) -> int:
    """Lambda functions that may run at a time, over all of the account's functions in the region."""
    return int(client("lambda", region).get_account_settings()["AccountLimit"]["ConcurrentExecutions"])


def decisions(region: str, policy_source: str, actions: Sequence[str], resource: str = "*") -> tuple[Decision, ...]:
    """What IAM would say to these actions of a user or role, by its own policies and the organization's."""
    listed = paged(
        client("iam", region),
        "simulate_principal_policy",
        "EvaluationResults",
        PolicySourceArn=policy_source,
        ActionNames=list(actions),
        ResourceArns=[resource],
    )
    return tuple(
        Decision(
            action=one["EvalActionName"],
            allowed=one["EvalDecision"] == "allowed",
            organization=not one.get("OrganizationsDecisionDetail", {}).get("AllowedByOrganizations", True),
        )
        for one in listed
    )


def budgets(region: str, account: str) -> tuple[Budget, ...]:
    """The account's budgets of costs."""
    service = client("budgets", region)
    return tuple(
        Budget(
            name=one["BudgetName"],
            limit=" ".join(str(part) for part in one.get("BudgetLimit", {}).values()),
            warned=_warns(service, account, one["BudgetName"]),
        )
        for one in paged(service, "describe_budgets", "Budgets", AccountId=account)
        if one["BudgetType"] == "COST"
    )


def _policy_source(arn: str, region: str) -> str:
    """The user or role whose policies hold; empty for root. A session's ARN leaves out the path of its role."""
    kind, _, name = arn.split(":", 5)[5].partition("/")
    if kind != "assumed-role":
        return arn if kind in ("user", "role") else ""
    return str(client("iam", region).get_role(RoleName=name.partition("/")[0])["Role"]["Arn"])


def _asked(service: Any) -> dict[str, float]:
    """Values that were asked for and are not answered yet, by the quota's code."""
    operation = "list_requested_service_quota_change_history"
    return {
        one["QuotaCode"]: float(one["DesiredValue"])
        for status in _OPEN
        for one in paged(service, operation, "RequestedQuotas", ServiceCode="sagemaker", Status=status)
    }


def _warns(service: Any, account: str, name: str) -> bool:
    listed = paged(service, "describe_notifications_for_budget", "Notifications", AccountId=account, BudgetName=name)
    return any(True for _ in listed)


def _clocks(answer: dict[str, Any]) -> Clocks | None:
    said = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
    return None if said is None else Clocks(ours=time.time(), theirs=parsedate_to_datetime(said).timestamp())
