"""Requests at the edge of what HTTP and JSON allow: each is refused by name, and none is our fault."""

from __future__ import annotations

import pytest

from handlers.bodies import MOST_JSON_BYTES
from tests import tiny_model
from tests.in_process import FORM, Client, World, form
from tests.tiny_model import chat_rows

JOBS = "/v1/fine_tuning/jobs"
JSON = "application/json"
MESSAGE = b'{"model": "m", "training_file": "f", %s}'


@pytest.mark.parametrize(
    ("raw", "content_type", "code"),
    [
        (b"{}", "text/plain", "content_type_unsupported"),
        (b"<job/>", "application/xml", "content_type_unsupported"),
        (b"model=m", "application/x-www-form-urlencoded", "content_type_unsupported"),
        (b"--", "multipart/form-data", "content_type_unsupported"),
        (b"{}", "application/jsonx", "content_type_unsupported"),
        (b'{"model": "\xff"}', JSON, "body_not_utf8"),
        (b"{", JSON, "json_invalid"),
        (b"[" * 100_000, JSON, "json_invalid"),
        (MESSAGE % (b'"seed": ' + b"1" * 5000), JSON, "json_invalid"),
        (MESSAGE % b'"suffix": "\\ud800"', JSON, "invalid_value"),
        (b"", JSON, "missing_field"),
        (b"null", JSON, "missing_field"),
        (b"[]", JSON, "invalid_value"),
        (b"[" * 500 + b"]" * 500, JSON, "invalid_value"),
    ],
)
@pytest.mark.parametrize("path", [JOBS, "/v1/fine_tuning/plans"])
def test_a_body_that_is_no_request_is_refused_with_its_reason(
    client: Client, path: str, raw: bytes, content_type: str, code: str
) -> None:
    answer = client.call("POST", path, raw=raw, content_type=content_type)
    assert (answer.status, answer.error["code"]) == (400, code), answer.raw
    assert "``" not in answer.error["message"]


def test_a_json_body_has_a_size_at_most_and_is_refused_before_it_is_read(client: Client) -> None:
    padded = MESSAGE % (b'"suffix": "%s"' % (b"x" * (MOST_JSON_BYTES - 60)))
    most = padded.ljust(MOST_JSON_BYTES)
    assert client.call("POST", JOBS, raw=most).error["code"] == "invalid_value"
    for path in (JOBS, "/v1/keys", "/v1/rules", "/v1/files"):
        for raw in (most + b" ", b"{" * (MOST_JSON_BYTES + 1)):
            answer = client.call("POST", path, raw=raw)
            assert (answer.status, answer.error["code"]) == (413, "body_too_large")


def test_a_body_that_is_missing_or_no_object_is_called_the_body(client: Client) -> None:
    assert client.call("POST", JOBS, raw=b"").error["message"].startswith("The body is required.")
    assert client.call("POST", JOBS, raw=b"[]").error["message"].startswith("The body: ")
    assert client.call("POST", "/v1/files", raw=b"[]").error["message"].startswith("The body: ")


def test_the_json_form_of_an_upload_must_be_utf8(client: Client) -> None:
    answer = client.call("POST", "/v1/files", raw=b'{"filename": "\xe9.jsonl", "bytes": 1}')
    assert (answer.status, answer.error["code"]) == (400, "body_not_utf8")


def test_media_types_are_the_same_in_any_case(client: Client) -> None:
    job = client.call("POST", JOBS, {"model": "nobody/nothing", "training_file": "f"}, content_type="Application/JSON")
    assert job.error["code"] == "model_not_found"
    ticket = client.call(
        "POST", "/v1/files", {"filename": "a.jsonl", "bytes": 9}, content_type="APPLICATION/JSON; charset=UTF-8"
    )
    assert (ticket.status, ticket.body["object"]) == (200, "file.upload")
    upload = client.call(
        "POST", "/v1/files", raw=form(b"x", "a.jsonl"), content_type=FORM.replace("multipart/form", "Multipart/Form")
    )
    assert (upload.status, upload.body["object"]) == (200, "file")


@pytest.mark.parametrize(
    ("group", "field"),
    [
        ("adapter", "alpha"),
        ("adapter", "dropout"),
        ("constraints", "budget_usd"),
        ("constraints", "finish_within_hours"),
        ("training", "learning_rate"),
        ("training", "eval_fraction"),
        ("gate", "min_exact_match"),
        ("hyperparameters", "learning_rate_multiplier"),
    ],
)
@pytest.mark.parametrize("number", ["1e400", "-1e400", "NaN", "Infinity"])
def test_no_number_of_a_request_is_infinite(client: Client, group: str, field: str, number: str) -> None:
    answer = client.call("POST", JOBS, raw=MESSAGE % f'"{group}": {{"{field}": {number}}}'.encode())
    assert (answer.status, answer.error["code"]) == (400, "invalid_value"), answer.raw
    assert answer.error["param"].startswith(f"{group}.{field}")


@pytest.mark.parametrize("digits", ["1" * 5000, "12345678901", "x", ""], ids=["5000", "11", "letter", "none"])
def test_a_cursor_that_no_log_line_has_is_unknown(client: Client, digits: str) -> None:
    job = client.call("POST", JOBS, {"model": tiny_model.NAME, "training_file": client.upload(chat_rows(40))}).body
    answer = client.call("GET", f"{JOBS}/{job['id']}/events", query=f"after=ftevent-{digits}")
    assert (answer.status, answer.error["code"]) == (400, "unknown_cursor")


def test_a_body_that_no_route_reads_does_no_harm(world: World, client: Client) -> None:
    assert client.call("GET", "/v1/files", {"any": "thing"}).status == 200
    assert Client(None).call("POST", JOBS, raw=b"\xff").status == 401
