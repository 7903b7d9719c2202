"""What the handlers write to stdout: JSON lines with what they are about, and none of what nobody may read."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
from typing import Any

import pytest

from handlers import logs
from spotune.contracts.subject import about, know, subject
from tests.in_process import Context


@pytest.fixture(scope="module")
def process() -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.handlers.run_a_job"], capture_output=True, text=True, check=True, timeout=120
    )


@pytest.fixture(scope="module")
def lines(process: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in process.stdout.splitlines()]


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    stream = io.StringIO()
    monkeypatch.setattr(logs.logger.registered_handler, "stream", stream)
    return stream


def last(written: io.StringIO) -> dict[str, Any]:
    line: dict[str, Any] = json.loads(written.getvalue().splitlines()[-1])
    return line


def test_every_line_is_json_and_says_which_function_and_invocation_it_belongs_to(lines: list[dict[str, Any]]) -> None:
    functions = {"api", "launch", "training_changed", "data_arrived", "reconcile", "deliver", "keys"}
    assert {line["service"] for line in lines} == functions
    assert all(line["function_request_id"] == "request-1" for line in lines)


def test_every_line_of_a_job_has_job_tenant_and_attempt(lines: list[dict[str, Any]]) -> None:
    nobodys = [line for line in lines if "job" not in line and line["service"] not in ("data_arrived", "deliver")]
    assert {line.get("message", "figures").partition(":")[0] for line in nobodys} == {
        "figures",
        "reconciled",
        "audit",  # of calls that came to no job
        "nobody who is known",
        "the command failed and is delivered again",  # a message that names no job
    }
    of_jobs = [line for line in lines if "job" in line]
    assert len({line["job"] for line in of_jobs}) == 1
    assert {line["tenant"] for line in of_jobs} == {"acme"}
    assert {line["attempt"] for line in of_jobs} == {1, 2}


def test_every_line_of_an_arrival_has_its_rule(lines: list[dict[str, Any]]) -> None:
    settled = [line for line in lines if line.get("message", "").startswith(("arrivals: ", "rule.file_quarantined"))]
    assert [line["rule"] for line in settled] == ["rule-support"] * 3


def test_service_modules_lines_come_out_as_the_handlers_do(lines: list[dict[str, Any]]) -> None:
    (line,) = (line for line in lines if "cannot be read" in line.get("message", ""))
    assert (line["level"], line["location"].partition(":")[0], line["attempt"]) == ("ERROR", "_with_results", 1)
    assert "samples.0.base" in line["message"]


def test_a_failed_delivery_is_logged_with_its_job_even_where_the_record_cannot_be_read(
    lines: list[dict[str, Any]],
) -> None:
    failed = [line for line in lines if line.get("exception_name") == "Unavailable"]
    assert [(line["attempt"], line["tenant"]) for line in failed] == [(2, "acme")]
    assert "store does not answer" in failed[0]["exception"]


def test_no_line_holds_a_row_a_prompt_or_a_key(process: subprocess.CompletedProcess[str]) -> None:
    secrets = json.loads(process.stderr.rpartition("secrets: ")[2])
    assert len(secrets) == 5
    written = process.stdout + process.stderr.rpartition("secrets: ")[0]
    assert [secret for secret in secrets if secret in written] == []


def test_what_one_invocation_learnt_is_not_in_the_next_ones_lines(written: io.StringIO) -> None:
    @logs.invocation("first")
    def first(event: dict[str, Any], context: Any) -> None:
        know(job="ftjob-1", tenant="acme", attempt=3)
        logging.getLogger("spotune.anywhere").info("seen")

    @logs.invocation("second")
    def second(event: dict[str, Any], context: Any) -> None:
        logging.getLogger("spotune.anywhere").info("seen")

    first({}, Context())
    assert (last(written)["job"], last(written)["tenant"], last(written)["attempt"]) == ("ftjob-1", "acme", 3)
    second({}, Context())
    assert not {"job", "tenant", "attempt"} & set(last(written))
    assert last(written)["service"] == "second"
    assert subject() == {}


def test_an_invocation_that_fails_says_what_it_was_about_and_forgets_it(written: io.StringIO) -> None:
    @logs.invocation("failing")
    def fails(event: dict[str, Any], context: Any) -> None:
        know(job="ftjob-1")
        raise RuntimeError("broken")

    with pytest.raises(logs.InvocationFailed):
        fails({}, Context())
    assert (last(written)["level"], last(written)["job"]) == ("ERROR", "ftjob-1")
    assert last(written)["exception_name"] == "RuntimeError"
    assert subject() == {}


def test_a_lines_own_keys_come_before_the_subjects(written: io.StringIO) -> None:
    with about(job="ftjob-1"):
        logs.logger.info("seen", extra={"job": "ftjob-2"})
    assert last(written)["job"] == "ftjob-2"
