"""Dashboard, alarms and their page: they name what the code sends, and nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, get_args

import pytest

from spotune.contracts.diagnosis import Cause
from spotune.contracts.job import TERMINAL, Outcome
from spotune.contracts.measures import METRICS, NAMESPACE
from spotune.contracts.request import Market
from spotune.lifecycle.measures import OPEN_STATES
from tests.infra.test_template import FUNCTIONS, RESOURCES, ROLES, TEMPLATE, actions, of_type

PAGE = (TEMPLATE.parents[1] / "docs" / "observability.md").read_text()
ALARMS = of_type("AWS::CloudWatch::Alarm")
STAGE = {"Ref": "Stage"}

VALUES = {
    ("JobsEnded", "outcome"): TERMINAL,
    ("JobsFailed", "cause"): frozenset(get_args(Cause)),
    ("AttemptsEnded", "outcome"): frozenset(get_args(Outcome)),
    ("TimeToStart", "market"): frozenset(get_args(Market)),
    ("Spend", "market"): frozenset(get_args(Market)),
    ("Jobs", "state"): frozenset(OPEN_STATES),
    ("Repairs", "kind"): frozenset(
        {"commands_queued", "jobs_changed", "orphans_adopted", "orphans_stopped", "counts_corrected"}
    ),
}
"""What a dimension beside `stage` can be."""


def check_sent(name: str, dimensions: dict[str, Any]) -> None:
    """A metric of ours in one of the dimension sets that are sent."""
    metric = METRICS[name]
    stage, *others = dimensions.items()
    assert stage in (("stage", STAGE), ("stage", "${Stage}"))
    if not others:
        assert metric.total or not metric.by, f"{name} has no total"
        return
    ((by, value),) = others
    assert (by, value in VALUES[name, by]) == (metric.by, True)


def dashboard() -> dict[str, Any]:
    """The body as CloudWatch gets it, but for the names that CloudFormation fills in."""
    text: str = RESOURCES["Dashboard"]["Properties"]["DashboardBody"]["Fn::Sub"]
    return dict(json.loads(text.replace("${DailySpendAlarmUsd}", "100")))


def drawn() -> Iterator[tuple[str, str, dict[str, str]]]:
    """Each line of each graph: namespace, metric, dimensions. `...` repeats the line before but for its end."""
    for widget in dashboard()["widgets"]:
        before: list[str] = []
        for line in widget["properties"]["metrics"]:
            words = [word for word in line if isinstance(word, str)]
            if not words:
                continue
            end = words[1:] if words[0] == "..." else words
            before = before[: len(before) - len(end)] + end if words[0] == "..." else words
            namespace, name, *rest = before
            yield namespace, name, dict(zip(rest[::2], rest[1::2], strict=True))


def test_each_alarm_on_a_metric_of_ours_is_on_one_that_is_sent() -> None:
    ours = [alarm for alarm in ALARMS.values() if alarm["Namespace"] == NAMESPACE]
    assert len(ours) >= 7
    for alarm in ours:
        check_sent(alarm["MetricName"], {one["Name"]: one["Value"] for one in alarm["Dimensions"]})


def test_each_line_of_the_dashboard_is_a_metric_that_is_sent_and_each_metric_is_a_line() -> None:
    lines = [(name, dimensions) for namespace, name, dimensions in drawn() if namespace == NAMESPACE]
    for name, dimensions in lines:
        check_sent(name, dimensions)
    searched = re.findall(r'MetricName=\\"(\w+)\\"', json.dumps(dashboard()))
    assert {name for name, _ in lines} | set(searched) == set(METRICS)


def test_every_other_line_and_alarm_is_on_something_of_this_template() -> None:
    named = [(namespace, dimensions) for namespace, _, dimensions in drawn() if namespace != NAMESPACE]
    for _, dimensions in named:
        for value in dimensions.values():
            assert value.strip("${}").partition(".")[0] in RESOURCES
    assert {namespace for namespace, _ in named} == {"AWS/SQS", "AWS/ApiGateway", "AWS/Lambda"}


def test_graphs_do_not_overlap() -> None:
    places = [(widget["x"], widget["y"]) for widget in dashboard()["widgets"]]
    assert len(set(places)) == len(places)
    assert all(x % 8 == 0 and x + 8 <= 24 and y % 6 == 0 for x, y in places)


@pytest.mark.parametrize("name", ALARMS)
def test_an_alarm_tells_the_topic_when_it_goes_off_and_when_it_is_over(name: str) -> None:
    alarm = ALARMS[name]
    assert alarm["AlarmActions"] == alarm["OKActions"] == [{"Ref": "AlarmTopic"}]
    assert alarm["Period"] * alarm["EvaluationPeriods"] <= 86_400
    assert alarm["TreatMissingData"] == ("breaching" if name == "ReconcilerSilentAlarm" else "notBreaching")


def test_every_function_has_an_alarm_on_its_errors() -> None:
    watched = {
        dimension["Value"]["Ref"]
        for alarm in ALARMS.values()
        if (alarm["Namespace"], alarm["MetricName"]) == ("AWS/Lambda", "Errors")
        for dimension in alarm["Dimensions"]
    }
    assert watched == set(FUNCTIONS)


def test_every_queue_that_takes_dead_letters_has_an_alarm() -> None:
    redrives = [queue["RedrivePolicy"] for queue in of_type("AWS::SQS::Queue").values() if "RedrivePolicy" in queue]
    dead = {redrive["deadLetterTargetArn"]["Fn::GetAtt"].partition(".")[0] for redrive in redrives}
    watched = {
        dimension["Value"]["Fn::GetAtt"].partition(".")[0]
        for alarm in ALARMS.values()
        if alarm["MetricName"] == "ApproximateNumberOfMessagesVisible" and alarm["Threshold"] == 0
        for dimension in alarm["Dimensions"]
    }
    assert dead <= watched


def test_every_function_sends_traces_and_nobody_else_may() -> None:
    from tests.infra.test_template import DOCUMENT

    assert DOCUMENT["Globals"]["Function"]["Tracing"] == "Active"
    functions = {body["Role"]["Fn::GetAtt"].partition(".")[0] for body in FUNCTIONS.values()}
    wanted = {"xray:PutTraceSegments", "xray:PutTelemetryRecords"}
    assert {role for role in ROLES if actions(role, "xray") == wanted} == functions


def test_the_page_has_each_metric_as_the_code_describes_it() -> None:
    for name, metric in METRICS.items():
        assert f"| `{name}` | {metric.by or '-'} | {metric.unit} | {metric.meaning} |" in PAGE, name
    assert len(re.findall(r"^\| `\w+` \| [-\w]+ \| (?:Count|Seconds|None) \|", PAGE, re.MULTILINE)) == len(METRICS)


def test_the_page_has_each_alarm_with_its_own_words() -> None:
    listed = dict(re.findall(r"^\| `(\w+Alarm)` \| ([^|]+) \|", PAGE, re.MULTILINE))
    assert listed == {name: alarm["AlarmDescription"] for name, alarm in ALARMS.items()}
