"""What CloudFormation says about a stack's last operation, and which of it was the cause."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from spotune.deploy.account import AwsSaysNo, call, pages

_STACK = "AWS::CloudFormation::Stack"
_BEGINNINGS = ("CREATE_IN_PROGRESS", "UPDATE_IN_PROGRESS", "DELETE_IN_PROGRESS", "IMPORT_IN_PROGRESS")


def newest(client: Any, stack: str) -> list[dict[str, Any]]:
    """The newest events, newest first; none where there is no stack."""
    try:
        return list(call(client.describe_stack_events, StackName=stack)["StackEvents"])
    except AwsSaysNo:
        return []


def first_failure(client: Any, stack: str) -> str:
    """The first thing that went wrong in a stack's last operation, and why, in CloudFormation's words."""
    failed = [event for event in _last_operation(client, stack) if event["ResourceStatus"].endswith("_FAILED")]
    resources = [event for event in failed if event["ResourceType"] != _STACK]
    if resources:
        first = resources[-1]
        return f"{first['LogicalResourceId']} ({first['ResourceType']}): {_reason(first)}"
    return _invalid(client, stack) or next((_reason(event) for event in reversed(failed)), "") or "no reason given"


def _last_operation(client: Any, stack: str) -> Iterator[dict[str, Any]]:
    """Its events, newest first: more than one page of them where many resources were rolled back."""
    for page in pages(client, "describe_stack_events", StackName=stack):
        for event in page["StackEvents"]:
            yield event
            if event["ResourceType"] == _STACK and event["ResourceStatus"] in _BEGINNINGS:
                return


def _invalid(client: Any, stack: str) -> str:
    """What CloudFormation's look before the first change found; it is not among the stack's events."""
    try:
        events = call(client.describe_events, StackName=stack, Filters={"FailedEvents": True})["OperationEvents"]
    except AwsSaysNo:
        return ""
    faults = [event for event in events if event["EventType"] == "VALIDATION_ERROR"]
    return "; ".join(f"{event['LogicalResourceId']}: {event['ValidationStatusReason']}" for event in faults[:5])


def _reason(event: dict[str, Any]) -> str:
    return str(event.get("ResourceStatusReason") or "")
