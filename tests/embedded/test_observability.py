"""What the deployed functions write to their logs, and what watches over them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from spotune.contracts.measures import METRICS
from spotune.local.deployment import STACK, client
from spotune.local.state import StackState
from tests.polling import wait_for

pytestmark = pytest.mark.embedded


def physical(stack: StackState, logical: str) -> str:
    found = client("cloudformation", stack.emulator_url).describe_stack_resource(
        StackName=STACK, LogicalResourceId=logical
    )
    return str(found["StackResourceDetail"]["PhysicalResourceId"])


def lines(stack: StackState, group: str) -> Iterator[dict[str, Any]]:
    """The JSON lines of a function's log group."""
    logs = client("logs", stack.emulator_url)
    for event in logs.filter_log_events(logGroupName=physical(stack, group))["events"]:
        for line in event["message"].splitlines():
            if line.startswith("{"):
                yield json.loads(line)


def found_in(stack: StackState, key: str, value: object) -> dict[str, Any] | None:
    return next((line for line in lines(stack, "ReconcileLogs") if line.get(key) == value), None)


def test_a_pass_of_the_reconciler_leaves_figures_and_a_line_in_its_log(stack: StackState) -> None:
    client("lambda", stack.emulator_url).invoke(FunctionName=physical(stack, "ReconcileFunction"), Payload="{}")
    said = wait_for(lambda: found_in(stack, "message", "reconciled"), "the pass in the log")
    figures = wait_for(lambda: found_in(stack, "ReconcilerPasses", [1]), "figures in the log")
    assert (figures["stage"], figures["service"]) == ("local", "reconcile")
    (named,) = (directive["Metrics"] for directive in figures["_aws"]["CloudWatchMetrics"])
    assert {one["Name"] for one in named} <= set(METRICS)
    assert (said["level"], said["service"]) == ("INFO", "reconcile")
    assert said["function_request_id"]


def test_dashboard_alarms_and_topic_are_deployed_with_the_rest(stack: StackState) -> None:
    watch = client("cloudwatch", stack.emulator_url)
    body = watch.get_dashboard(DashboardName=physical(stack, "Dashboard"))["DashboardBody"]
    assert "${" not in body
    assert any(widget["properties"]["title"] == "Jobs by state" for widget in json.loads(body)["widgets"])
    alarms = {alarm["MetricName"]: alarm for alarm in watch.describe_alarms()["MetricAlarms"]}
    assert {"ReconcilerPasses", "Spend", "ApproximateNumberOfMessagesVisible"} <= set(alarms)
    assert alarms["Spend"]["AlarmActions"] == [physical(stack, "AlarmTopic")]
    assert alarms["Spend"]["Dimensions"] == [{"Name": "stage", "Value": "local"}]
