"""`/v1/files` through the handler."""

from __future__ import annotations

import base64

import pytest

from spotune.contracts.files import DIRECT_UPLOAD_BYTES, FileRecord
from tests.in_process import FORM, Client, World, form
from tests.tiny_model import chat_rows


def test_an_uploaded_file_comes_back_byte_for_byte(client: Client) -> None:
    body = b'{"text": "\xc3\xa9\\n"}\r\n{"text": "last line without end"}\n\n'
    file_id = client.upload(body)
    answer = client.call("GET", f"/v1/files/{file_id}/content")
    assert answer.status == 200
    assert base64.b64decode(answer.raw) == body


def test_files_are_listed_newest_first_in_pages(world: World, client: Client) -> None:
    made = []
    for number in range(3):
        world.clock.now += 1
        made.append(client.upload(chat_rows(1), f"{number}.jsonl"))
    first = client.call("GET", "/v1/files", query="limit=2").body
    assert [one["id"] for one in first["data"]] == made[:0:-1]
    assert first["has_more"] is True
    rest = client.call("GET", "/v1/files", query=f"limit=2&after={first['last_id']}").body
    assert [one["id"] for one in rest["data"]] == [made[0]]
    assert rest["has_more"] is False
    ascending = client.call("GET", "/v1/files", query="order=asc").body
    assert [one["id"] for one in ascending["data"]] == made


def test_a_deleted_file_is_gone_with_its_object(world: World, client: Client) -> None:
    file_id = client.upload(chat_rows(1))
    uri = client.call("GET", f"/v1/files/{file_id}").body["spotune"]["uri"]
    assert client.call("DELETE", f"/v1/files/{file_id}").body == {"id": file_id, "object": "file", "deleted": True}
    assert client.call("GET", f"/v1/files/{file_id}").status == 404
    assert world.objects.head(uri) is None


@pytest.mark.parametrize("route", ["GET /v1/files/{}", "GET /v1/files/{}/content", "DELETE /v1/files/{}"])
def test_another_tenants_file_does_not_exist(client: Client, stranger: Client, route: str) -> None:
    file_id = client.upload(chat_rows(1))
    method, path = route.format(file_id).split()
    answer = stranger.call(method, path)
    assert (answer.status, answer.error["code"]) == (404, "file_not_found")
    assert stranger.call("GET", "/v1/files").body["data"] == []
    assert client.call("GET", f"/v1/files/{file_id}").status == 200


def test_a_body_that_aws_would_not_carry_is_refused_with_the_other_way(client: Client) -> None:
    answer = client.call(
        "POST", "/v1/files", raw=form(b"x" * (DIRECT_UPLOAD_BYTES + 1), "big.jsonl"), content_type=FORM
    )
    assert (answer.status, answer.error["code"]) == (413, "file_too_large")
    assert "presigned" in answer.error["message"]


@pytest.mark.parametrize(
    ("raw", "content_type", "code"),
    [
        (form(b"", "empty.jsonl"), FORM, "file_empty"),
        (form(b"x", "a.jsonl", purpose="assistants"), FORM, "purpose_not_supported"),
        (b"--xyzzy--\r\n", FORM, "form_invalid"),
        (b"plain", "text/plain", "form_invalid"),
        (b'{"filename": "a/b", "bytes": 1}', "application/json", "invalid_value"),
        (b'{"filename": "a", "bytes": 0}', "application/json", "invalid_value"),
        (b'{"filename": "a", "bytes": 1, "colour": 2}', "application/json", "unknown_field"),
        (b"{", "application/json", "json_invalid"),
    ],
)
def test_a_bad_upload_is_refused_and_nothing_is_kept(
    world: World, client: Client, raw: bytes, content_type: str, code: str
) -> None:
    answer = client.call("POST", "/v1/files", raw=raw, content_type=content_type)
    assert (answer.status, answer.error["code"]) == (400, code)
    assert client.call("GET", "/v1/files").body["data"] == []
    assert list(world.objects.list("s3://data/")) == []


def test_a_large_upload_goes_on_where_it_broke_off(world: World, client: Client) -> None:
    size = 8 * 1024**2 + 5
    ticket = client.call("POST", "/v1/files", {"filename": "big.jsonl", "bytes": size}).body
    file_id, parts = ticket["file"]["id"], ticket["parts"]
    assert [(part["offset"], part["bytes"]) for part in parts] == [(0, 8 * 1024**2), (8 * 1024**2, 5)]
    record = world.store.get_file("acme", file_id)
    assert record is not None
    world.objects.put_part(record.uri, record.upload_id or "", 2, b"y" * 5)

    early = client.call("POST", f"/v1/files/{file_id}/complete")
    assert (early.status, early.error["code"]) == (409, "upload_incomplete")
    again = client.call("GET", f"/v1/files/{file_id}/upload").body
    assert again["done"] == [2]

    world.objects.put_part(record.uri, record.upload_id or "", 1, b"x" * 8 * 1024**2)
    done = client.call("POST", f"/v1/files/{file_id}/complete")
    assert (done.status, done.body["status"]) == (200, "processed")
    assert client.call("POST", f"/v1/files/{file_id}/complete").body == done.body
    assert world.objects.read(record.uri) == b"x" * 8 * 1024**2 + b"y" * 5


@pytest.mark.parametrize(
    ("sent", "kept"),
    [("data/rows.jsonl", "rows.jsonl"), (r"C:\\data\\rows.jsonl", "rows.jsonl"), ("data/", "upload.jsonl")],
)
def test_a_file_sent_with_its_path_is_kept_by_its_base_name(client: Client, sent: str, kept: str) -> None:
    file_id = client.upload(chat_rows(1), sent)
    record = client.call("GET", f"/v1/files/{file_id}").body
    assert record["filename"] == kept
    assert record["spotune"]["uri"].endswith(f"/{file_id}/{kept}")


@pytest.mark.parametrize(
    "name", ["x" * 256, "\u65e5" * 86, "a\tb", ".", ".."], ids=["long", "wide", "tab", "dot", "dots"]
)
def test_a_name_that_no_file_can_have_is_refused(world: World, client: Client, name: str) -> None:
    answer = client.call("POST", "/v1/files", raw=form(b"x", name), content_type=FORM)
    assert (answer.status, answer.error["code"], answer.error["param"]) == (400, "filename_invalid", "file")
    by_parts = client.call("POST", "/v1/files", {"filename": name, "bytes": 1})
    assert (by_parts.status, by_parts.error["param"]) == (400, "filename")
    assert list(world.objects.list("s3://data/")) == []


def uploading(world: World, client: Client, body: bytes) -> FileRecord:
    ticket = client.call("POST", "/v1/files", {"filename": "big.jsonl", "bytes": len(body)}).body
    record = world.store.get_file("acme", ticket["file"]["id"])
    assert record is not None
    world.objects.put_part(record.uri, record.upload_id or "", 1, body)
    return record


@pytest.mark.parametrize("route", ["GET /v1/files/{}/upload", "POST /v1/files/{}/complete"])
def test_an_upload_that_s3_has_dropped_is_started_again(world: World, client: Client, route: str) -> None:
    record = uploading(world, client, b"x")
    world.objects.abort_upload(record.uri, record.upload_id or "")
    method, path = route.format(record.id).split()
    answer = client.call(method, path)
    assert (answer.status, answer.error["code"]) == (409, "upload_expired")
    assert "start again" in answer.error["message"]
    assert client.call("DELETE", f"/v1/files/{record.id}").status == 200


def test_an_upload_whose_completion_was_not_recorded_is_completed_again(world: World, client: Client) -> None:
    record = uploading(world, client, b"x")
    world.objects.complete_upload(record.uri, record.upload_id or "")
    assert client.call("GET", f"/v1/files/{record.id}/upload").body["done"] == [1]
    done = client.call("POST", f"/v1/files/{record.id}/complete")
    assert (done.status, done.body["status"]) == (200, "processed")


@pytest.mark.parametrize("overtaken_before", ["uploaded_parts", "complete_upload"])
def test_of_two_completions_at_once_both_succeed(
    world: World, client: Client, monkeypatch: pytest.MonkeyPatch, overtaken_before: str
) -> None:
    record = uploading(world, client, b"x")
    path = f"/v1/files/{record.id}/complete"
    called = getattr(world.objects, overtaken_before)
    answers = []

    def overtaken(uri: str, upload_id: str) -> object:
        monkeypatch.setattr(world.objects, overtaken_before, called)
        answers.append(client.call("POST", path))
        return called(uri, upload_id)

    monkeypatch.setattr(world.objects, overtaken_before, overtaken)
    answers.append(client.call("POST", path))
    assert [answer.status for answer in answers] == [200, 200]
    assert answers[0].body == answers[1].body
