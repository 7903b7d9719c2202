"""Whatever fails, wherever it fails, and whatever it says: no log line quotes a row, a prompt or a key.

Lambda itself writes what a function raises to the function's log, so that counts as logged, too.
"""

from __future__ import annotations

import io
import json
import traceback
from typing import Any, NoReturn

import pytest
from botocore.exceptions import ClientError, ParamValidationError
from pydantic import BaseModel

import handlers.api
import handlers.data_arrived
import handlers.deliver
import handlers.keys
import handlers.launch
import handlers.reconcile
import handlers.refresh_market
import handlers.training_changed
from handlers import logs
from handlers.exceptions import LEFT_OUT, told, words
from spotune.contracts.errors import RequestRefused, Unavailable
from tests.handlers.test_jobs import JOBS
from tests.in_process import Client, Context, World, http_event, sqs_record

CANARY = "canary-of-a-row"
BATCH = {"Records": [sqs_record("m-1", "{}")]}


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    stream = io.StringIO()
    monkeypatch.setattr(logs.logger.registered_handler, "stream", stream)
    return stream


def bad_day(*_: object, **__: object) -> NoReturn:
    """An error that nobody foresaw, and that came of another one."""
    try:
        json.loads(f"[{CANARY}")
    except ValueError as error:
        raise KeyError(CANARY, str(error)) from LookupError(CANARY)


FUNCTIONS: dict[str, tuple[Any, str, dict[str, Any]]] = {
    "api": (handlers.api.jobs.control, "list_jobs", {}),
    "launch": (handlers.launch, "run_message", BATCH),
    "deliver": (handlers.deliver, "_deliver", BATCH),
    "data_arrived": (handlers.data_arrived, "take", BATCH),
    "training_changed": (handlers.training_changed, "observe", {"detail": {"TrainingJobName": "ftjob-1-1"}}),
    "reconcile": (handlers.reconcile, "reconcile", {}),
    "refresh_market": (handlers.refresh_market, "refresh_all", {}),
    "keys": (handlers.keys, "issue_key", {"tenant": "acme"}),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_an_error_that_nobody_foresaw_leaves_its_kind_and_frames_in_the_log_and_not_its_words(
    world: World, client: Client, written: io.StringIO, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    place, function, event = FUNCTIONS[name]
    if name == "api":
        event = http_event("GET", JOBS, "", {"authorization": f"Bearer {client.key}"}, b"")
    monkeypatch.setattr(place, function, bad_day)
    try:
        answered = json.dumps(getattr(handlers, name).handler(event, Context()))
    except logs.InvocationFailed as raised:
        answered = "".join(traceback.format_exception(raised))
    lines = written.getvalue()
    assert CANARY not in lines + answered
    assert f"KeyError: {LEFT_OUT}" in lines.replace("\\n", "\n")
    assert "in bad_day" in lines


def test_a_body_that_cannot_be_read_is_not_logged(world: World, client: Client, written: io.StringIO) -> None:
    for raw in (b'{"model": "%s"' % CANARY.encode(), b'"%s"' % CANARY.encode(), CANARY.encode() + b"\xff"):
        assert client.call("POST", JOBS, raw=raw).status == 400
    client.call("POST", JOBS, {"model": "m", "training_file": CANARY, "training": {"epochs": CANARY}})
    handlers.launch.handler({"Records": [sqs_record("m-1", CANARY)]}, Context())
    handlers.deliver.handler({"Records": [sqs_record("m-1", json.dumps({"body": CANARY}))]}, Context())
    handlers.data_arrived.handler({"Records": [sqs_record("m-1", json.dumps({"detail": CANARY}))]}, Context())
    assert CANARY not in written.getvalue()
    assert "delivered again" in written.getvalue()


def test_a_key_that_opens_nothing_is_not_logged_and_its_sender_is(world: World, written: io.StringIO) -> None:
    Client(f"sk-spotune-{CANARY}-that-opens-nothing").call("GET", JOBS)
    line = json.loads(written.getvalue())
    assert (line["message"], line["code"], line["address"]) == ("nobody who is known", "invalid_api_key", "127.0.0.1")
    assert CANARY not in written.getvalue()


class Row(BaseModel):
    """Not one of our contracts, which hide their input anyhow."""

    content: int


def refused_row() -> Exception:
    try:
        Row.model_validate({"content": CANARY})
    except ValueError as error:
        return error
    raise AssertionError


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (refused_row(), "content: int_parsing"),
        (RequestRefused(f"{CANARY} is no field.", code="unknown_field"), "code unknown_field"),
        (ParamValidationError(report=f"value: {CANARY}"), LEFT_OUT),
        (ValueError(CANARY), LEFT_OUT),
        (Unavailable("the store does not answer.", code="store_unavailable"), "the store does not answer."),
        (ClientError({"Error": {"Code": "NoSuchKey", "Message": "gone"}}, "GetObject"), "NoSuchKey"),
        (ConnectionResetError(104, "Connection reset by peer"), "Connection reset by peer"),
    ],
)
def test_what_an_exception_says_is_shown_where_it_is_nobody_s_data(error: Exception, says: str) -> None:
    assert says in words(error)
    assert CANARY not in told(error)
