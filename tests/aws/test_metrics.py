"""Lines of the embedded metric format, read as CloudWatch reads them."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from spotune.aws.metrics import EmbeddedMetrics
from spotune.contracts.measures import METRICS, Measurement
from spotune.contracts.subject import about
from tests.factories import NOW


def lines_of(*measurements: Measurement) -> list[dict[str, Any]]:
    stream = io.StringIO()
    with about(job="ftjob-1", tenant="acme", attempt=2):
        EmbeddedMetrics("prod", lambda: NOW, stream).send(measurements)
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def read(line: dict[str, Any]) -> dict[tuple[str, tuple[tuple[str, str], ...]], list[float]]:
    """The values that CloudWatch takes from a line, by metric and dimensions."""
    found = {}
    for directive in line["_aws"]["CloudWatchMetrics"]:
        for names in directive["Dimensions"]:
            for metric in directive["Metrics"]:
                values = line[metric["Name"]]
                found[metric["Name"], tuple((name, line[name]) for name in names)] = values
    return found


def test_a_metric_is_kept_in_total_and_by_its_dimension() -> None:
    (line,) = lines_of(Measurement("Spend", 0.25, "spot"))
    assert read(line) == {
        ("Spend", (("stage", "prod"),)): [0.25],
        ("Spend", (("stage", "prod"), ("market", "spot"))): [0.25],
    }
    assert line["_aws"]["Timestamp"] == int(NOW * 1000)
    assert line["_aws"]["CloudWatchMetrics"][0]["Namespace"] == "Spotune"


def test_a_count_by_state_has_no_total_which_would_say_nothing() -> None:
    (line,) = lines_of(Measurement("Jobs", 3, "queued"))
    assert read(line) == {("Jobs", (("stage", "prod"), ("state", "queued"))): [3]}


def test_values_of_several_dimension_values_lie_in_lines_of_their_own() -> None:
    lines = lines_of(Measurement("Jobs", 3, "queued"), Measurement("Jobs", 1, "running"), Measurement("CapWarnings", 1))
    assert [line.get("state") for line in lines] == ["queued", "running", None]


def test_job_tenant_and_attempt_are_properties_and_never_dimensions() -> None:
    for name, metric in METRICS.items():
        (line,) = lines_of(Measurement(name, 1, "x" if metric.by else ""))
        assert (line["job"], line["tenant"], line["attempt"]) == ("ftjob-1", "acme", 2)
        for directive in line["_aws"]["CloudWatchMetrics"]:
            dimensions = {one for names in directive["Dimensions"] for one in names}
            assert dimensions <= {"stage", "state", "market", "outcome", "cause", "kind"}


def test_nothing_measured_is_no_line() -> None:
    assert lines_of() == []


def test_lines_go_to_stdout_where_no_stream_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    EmbeddedMetrics("prod", lambda: NOW).send([Measurement("CapWarnings", 1)])
    assert json.loads(capsys.readouterr().out)["CapWarnings"] == [1]
