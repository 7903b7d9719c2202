"""Where a web ACL guards the API, nobody comes past it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from spotune.aws.memory import MemoryRotatedSecret
from spotune.contracts.errors import Unavailable
from spotune.service.installation import install
from tests.handlers.test_jobs import JOBS
from tests.in_process import Answer, Client, World, answer_to, http_event

SECRET = "what CloudFront knows"


@pytest.fixture(autouse=True)
def guarded(world: World) -> None:
    install(replace(world.here, edge=MemoryRotatedSecret(SECRET.encode())))


def ask(client: Client, method: str = "GET", path: str = JOBS, **headers: str) -> Answer:
    sent = {
        "authorization": f"Bearer {client.key}",
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    return answer_to(http_event(method, path, "", sent, b""))


@pytest.mark.parametrize("headers", [{}, {"x_spotune_edge": ""}, {"x_spotune_edge": SECRET[:-1]}, {"x_edge": SECRET}])
@pytest.mark.parametrize("path", [JOBS, "/openapi.json", "/v1/keys", "/jwt/v1/keys", "/iamx", "/nowhere"])
def test_whoever_comes_directly_is_refused_before_anything_else(
    world: World, client: Client, headers: dict[str, str], path: str
) -> None:
    answer = ask(client, path=path, **headers)
    assert (answer.status, answer.error["code"]) == (403, "not_through_the_edge")
    assert not [name for name in answer.headers if name.startswith("x-ratelimit")], "nothing was looked up"


def test_whoever_comes_through_cloudfront_is_answered_and_on_record_with_their_own_address(client: Client) -> None:
    through = {"X_Spotune_Edge": SECRET, "x_forwarded_for": "6.6.6.6, 203.0.113.9, 130.176.0.1"}
    assert ask(client, path="/openapi.json", **through).status == 200
    ask(client, "DELETE", "/v1/files/file-x", **through)
    (kept,) = ask(client, path="/v1/audit_log", **through).body["data"]
    assert kept["address"] == "203.0.113.9", "not what the caller says of itself, nor CloudFront's"


def test_signed_requests_may_come_directly_and_tokens_come_through_cloudfront(client: Client) -> None:
    assert ask(client, path="/iam/v1/keys").error["code"] == "identity_missing"
    assert ask(client, path="/jwt/v1/keys", X_Spotune_Edge=SECRET).error["code"] == "identity_missing"


def test_a_rotation_refuses_nobody_and_ends_what_was_before_the_value_before(world: World, client: Client) -> None:
    secret = MemoryRotatedSecret(SECRET.encode())
    install(replace(world.here, edge=secret))
    secret.put(b"the second")
    assert [ask(client, x_spotune_edge=value).status for value in (SECRET, "the second")] == [200, 200]
    secret.put(b"the third")
    assert [ask(client, x_spotune_edge=value).status for value in (SECRET, "the second")] == [403, 200]


def test_nobody_comes_in_while_the_secret_cannot_be_read(world: World, client: Client) -> None:
    class Silent:
        def values(self) -> Any:
            raise Unavailable("Secrets Manager does not answer.", code="aws_unavailable")

    install(replace(world.here, edge=Silent()))
    assert ask(client, x_spotune_edge="").status == 503


def test_without_a_web_acl_callers_come_directly(world: World, client: Client) -> None:
    install(world.here)
    assert ask(client).status == 200
