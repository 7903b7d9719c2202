"""`/v1/model_groups` and what `/v1/models` says of them."""

from __future__ import annotations

import pytest

from spotune.service.access.keys import issue_key
from tests import tiny_model
from tests.handlers.test_jobs import JOBS
from tests.in_process import Answer, Client, World
from tests.service.registered import GROUP, finished, registered

GROUPS = "/v1/model_groups"
SUPPORT = f"{GROUPS}/{GROUP}"


@pytest.fixture
def group(world: World) -> str:
    """Version 2 is champion, 1 the one before, 3 waits, 4 was rejected."""
    registered(world, 1)
    registered(world, 2)
    registered(world, 3, "hold")
    registered(world, 4, "reject")
    return SUPPORT


def versions(client: Client, query: str = "") -> list[tuple[int, str]]:
    return [
        (one["version"], one["status"]) for one in client.call("GET", f"{SUPPORT}/versions", query=query).body["data"]
    ]


def champion(answer: Answer) -> int:
    assert answer.status == 200, answer.raw
    return int(answer.body["champion"]["version"])


def test_a_group_shows_its_champion_and_where_that_lies(client: Client, group: str) -> None:
    body = client.call("GET", group).body
    assert (body["id"], body["object"], body["versions"]) == (GROUP, "model_group", 4)
    assert body["champion"] == {
        "version": 2,
        "model": "ft:tiny::2",
        "uri": "s3://artifacts/acme/jobs/ftjob-2/output/ftjob-2-1/output/model/",
    }
    assert [(one["number"], one["before"], one["by"]) for one in body["history"]] == [(1, None, "gate"), (2, 1, "gate")]
    assert [one["id"] for one in client.call("GET", GROUPS).body["data"]] == [GROUP]


def test_versions_are_listed_newest_first_page_by_page(client: Client, group: str) -> None:
    assert versions(client) == [(4, "rejected"), (3, "awaiting_approval"), (2, "champion"), (1, "former")]
    page = client.call("GET", f"{group}/versions", query="limit=3").body
    assert page["has_more"]
    assert versions(client, f"after={page['last_id']}") == [(1, "former")]
    assert client.call("GET", f"{group}/versions", query="after=ft:none").error["code"] == "unknown_cursor"


def test_a_version_shows_verdict_lineage_files_and_history(client: Client, group: str) -> None:
    body = client.call("GET", f"{group}/versions/2").body
    assert (body["id"], body["champion"], body["verdict"]["decision"]) == ("ft:tiny::2", True, "promote")
    assert body["lineage"]["job_id"] == "ftjob-2"
    assert {file["name"] for file in body["files"]} == {
        "adapter_model.safetensors",
        "adapter_config.json",
        "report.json",
    }
    assert [one["status"] for one in body["history"]] == ["champion"]
    assert body["package_arn"]


def test_promotion_and_rollback_name_the_key_that_asked(client: Client, group: str) -> None:
    assert champion(client.call("POST", f"{group}/promote", {"version": 1, "why": "back to what worked"})) == 1
    assert champion(client.call("POST", f"{group}/rollback", {})) == 2
    history = client.call("GET", group).body["history"]
    assert [one["rollback"] for one in history[-2:]] == [False, True]
    assert {one["by"] for one in history[-2:]} == {client.call("GET", "/v1/keys").body["data"][0]["id"]}
    assert history[-2]["why"] == "back to what worked"


def test_a_person_approves_rejects_and_deprecates(client: Client, world: World, group: str) -> None:
    registered(world, 5, "hold")
    assert client.call("POST", f"{group}/versions/3/approve", {"why": "read it"}).body["status"] == "champion"
    assert client.call("POST", f"{group}/versions/5/reject", {}).body["status"] == "rejected"
    assert client.call("POST", f"{group}/versions/2/deprecate", {}).body["status"] == "deprecated"
    assert champion(client.call("POST", f"{group}/rollback", {})) == 1


def test_a_reason_is_not_asked_for(client: Client, group: str) -> None:
    assert client.call("POST", f"{group}/versions/3/approve").body["status"] == "champion"
    assert champion(client.call("POST", f"{group}/rollback")) == 2
    assert client.call("POST", f"{group}/versions/1/deprecate").body["status"] == "deprecated"


def test_versions_are_compared(client: Client, group: str) -> None:
    body = client.call("GET", f"{group}/compare", query="a=1&b=2").body
    assert (body["object"], body["a"], body["b"]) == ("model_comparison", "ft:tiny::1", "ft:tiny::2")
    assert {one["metric"]: one["difference"] for one in body["metrics"]} == {"eval_loss": 0.0, "exact_match": 0.0}


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", f"{GROUPS}/none", None, 404, "model_group_not_found"),
        ("GET", f"{GROUPS}/none/versions", None, 404, "model_group_not_found"),
        ("GET", f"{SUPPORT}/versions/9", None, 404, "model_version_not_found"),
        ("GET", f"{SUPPORT}/versions/two", None, 400, "invalid_value"),
        ("POST", f"{SUPPORT}/promote", {"version": 9}, 404, "model_version_not_found"),
        ("POST", f"{SUPPORT}/promote", {"version": 0}, 400, "invalid_value"),
        ("POST", f"{SUPPORT}/promote", {}, 400, "missing_field"),
        ("POST", f"{SUPPORT}/promote", {"version": 1, "who": "me"}, 400, "unknown_field"),
        ("POST", f"{SUPPORT}/promote", {"version": 1, "why": "x" * 501}, 400, "invalid_value"),
        ("POST", f"{SUPPORT}/promote", {"version": 4}, 409, "wrong_status"),
        ("POST", f"{SUPPORT}/promote", {"version": 3}, 409, "wrong_status"),
        ("POST", f"{SUPPORT}/rollback", {"champion": 1}, 409, "champion_changed"),
        ("POST", f"{SUPPORT}/versions/2/approve", {}, 200, None),
        ("POST", f"{SUPPORT}/versions/1/approve", {}, 409, "wrong_status"),
        ("POST", f"{SUPPORT}/versions/2/deprecate", {}, 409, "wrong_status"),
        ("GET", f"{SUPPORT}/compare", None, 400, "missing_field"),
        ("DELETE", "/v1/models/ft:tiny::2", None, 409, "wrong_status"),
        ("DELETE", "/v1/models/ft:tiny::9", None, 404, "model_not_found"),
        ("DELETE", f"/v1/models/{tiny_model.NAME}", None, 404, "model_not_found"),
    ],
)
def test_refusals_say_what_was_wrong(
    client: Client, group: str, method: str, path: str, body: object, status: int, code: str | None
) -> None:
    answer = client.call(method, path, body)
    assert (answer.status, None if code is None else answer.error["code"]) == (status, code), answer.raw


def test_models_show_group_version_status_and_champion_but_nothing_rejected(client: Client, group: str) -> None:
    models = {one["id"]: one["spotune"] for one in client.call("GET", "/v1/models").body["data"]}
    assert list(models) == [tiny_model.NAME, "ft:tiny::3", "ft:tiny::2", "ft:tiny::1"]
    two = models["ft:tiny::2"]
    assert (two["group"], two["version"], two["status"], two["champion"]) == (GROUP, 2, "champion", True)
    assert models["ft:tiny::1"]["status"] == "former"
    assert client.call("GET", "/v1/models/ft:tiny::2").body["spotune"] == two
    assert client.call("GET", "/v1/models/ft:tiny::4").status == 404


def test_a_deleted_model_is_answered_as_openai_does_and_is_gone_from_the_lists(client: Client, group: str) -> None:
    answer = client.call("DELETE", "/v1/models/ft:tiny::1")
    assert (answer.status, answer.body) == (200, {"id": "ft:tiny::1", "object": "model", "deleted": True})
    assert "ft:tiny::1" not in [one["id"] for one in client.call("GET", "/v1/models").body["data"]]
    assert client.call("GET", "/v1/models/ft:tiny::1").status == 404
    assert versions(client)[-1] == (1, "deleted")


def test_a_model_that_is_being_registered_is_there_already(client: Client, world: World) -> None:
    finished(world, 7)
    assert client.call("GET", "/v1/models/ft:tiny::7").body["spotune"]["group"] is None
    assert "ft:tiny::7" in [one["id"] for one in client.call("GET", "/v1/models").body["data"]]


def test_a_model_of_no_group_is_not_deleted_and_does_not_look_missing(client: Client, world: World) -> None:
    finished(world, 7, group=None)
    refused = client.call("DELETE", "/v1/models/ft:tiny::7")
    assert (refused.status, refused.error["code"]) == (409, "model_without_group")
    assert client.call("GET", "/v1/models/ft:tiny::7").status == 200


def test_a_reader_looks_and_changes_nothing(world: World, client: Client, group: str) -> None:
    reader = Client(issue_key(world.here, "acme", "reader", scopes=("read",)))
    assert reader.call("GET", group).status == 200
    for path, body in (
        (f"{group}/promote", {"version": 1}),
        (f"{group}/rollback", {}),
        (f"{group}/versions/3/approve", {}),
    ):
        assert reader.call("POST", path, body).status == 403
    assert reader.call("DELETE", "/v1/models/ft:tiny::1").status == 403
    assert champion(client.call("GET", group)) == 2


def test_another_tenant_sees_and_changes_nothing(client: Client, stranger: Client, group: str) -> None:
    assert stranger.call("GET", GROUPS).body["data"] == []
    assert [one["id"] for one in stranger.call("GET", "/v1/models").body["data"]] == [tiny_model.NAME]
    for method, path, body in (
        ("GET", group, None),
        ("GET", f"{group}/versions", None),
        ("GET", f"{group}/versions/1", None),
        ("GET", f"{group}/versions/1/files", None),
        ("GET", f"{group}/compare?a=1&b=2", None),
        ("POST", f"{group}/promote", {"version": 1}),
        ("POST", f"{group}/rollback", {}),
        ("POST", f"{group}/versions/3/approve", {}),
        ("POST", f"{group}/versions/3/reject", {}),
        ("POST", f"{group}/versions/1/deprecate", {}),
        ("GET", "/v1/models/ft:tiny::2", None),
        ("DELETE", "/v1/models/ft:tiny::1", None),
    ):
        path, _, query = path.partition("?")
        assert stranger.call(method, path, body, query=query).status == 404, path
    assert champion(client.call("GET", group)) == 2


def test_the_document_describes_the_routes(client: Client) -> None:
    paths = client.call("GET", "/openapi.json").body["paths"]
    assert {GROUPS, f"{GROUPS}/{{group}}", f"{GROUPS}/{{group}}/versions/{{number}}/approve"} <= set(paths)
    assert [one["name"] for one in paths["/v1/models/{model}"]["delete"]["parameters"]] == ["model"]
    assert JOBS in paths
