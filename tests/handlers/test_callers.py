"""Who asks, by signature and by token: from API Gateway's context alone, and never by anything weaker.

The events have the shape of API Gateway's payload 2.0 for routes with AWS_IAM and JWT authorization.
"""

from __future__ import annotations

import copy
import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from handlers import keys
from spotune.contracts.identity import EVERY_SCOPE, Scope
from spotune.service.access.principals import map_principal
from spotune.service.installation import install
from tests.handlers.test_every_route import NEEDS, NOBODYS, path_of
from tests.handlers.test_jobs import JOBS, body_for
from tests.in_process import Answer, Client, World, answer_to, http_event
from tests.tiny_model import chat_rows

EVENTS = Path(__file__).parent / "events"
ROLE = "arn:aws:iam::123456789012:role/nightly"
ISSUER = "https://login.example.com/"
SUBJECT = f"{ISSUER}#7f3c2a10-0000-4000-8000-00000000beef"


@pytest.fixture(autouse=True)
def issuer(world: World) -> None:
    install(dataclasses.replace(world.here, settings=dataclasses.replace(world.here.settings, jwt_issuer=ISSUER)))


def recorded(name: str) -> dict[str, Any]:
    event: dict[str, Any] = json.loads((EVENTS / f"{name}.json").read_text())
    return event


def by_signature(arn: str | None = None) -> dict[str, Any]:
    event = recorded("iam_role")
    if arn is not None:
        event["requestContext"]["authorizer"]["iam"]["userArn"] = arn
    return event


def by_token(**claims: object) -> dict[str, Any]:
    event = recorded("jwt")
    event["requestContext"]["authorizer"]["jwt"]["claims"] |= claims
    return event


def on_route(event: dict[str, Any], method: str, path: str, body: object = None) -> dict[str, Any]:
    """The same caller at another route."""
    prefix = event["rawPath"].partition("/v1")[0]
    sent = http_event(method, prefix + path, "", {"content-type": "application/json"}, json.dumps(body).encode())
    sent["requestContext"]["authorizer"] = event["requestContext"]["authorizer"]
    return sent


def mapped(principal: str, *scopes: Scope, tenant: str = "acme", **more: object) -> dict[str, Any]:
    order = {"tenant": tenant, "principal": principal, "name": "nightly", "scopes": list(scopes or EVERY_SCOPE), **more}
    return keys.handler(order, None)


def refused(answer: Answer, code: str) -> bool:
    return (answer.status, answer.error["code"]) == (401, code)


def test_a_session_of_a_mapped_role_asks_for_its_tenant(client: Client) -> None:
    assert refused(answer_to(by_signature()), "identity_unknown")
    made = mapped(ROLE)
    assert made == {"id": made["id"], "tenant": "acme", "principal": ROLE}
    file_id = client.upload(chat_rows(30))
    submitted = answer_to(on_route(by_signature(), "POST", JOBS, body_for(file_id)))
    assert submitted.status == 200
    (job,) = client.call("GET", JOBS).body["data"]
    assert job["id"] == submitted.body["id"]
    assert [one["id"] for one in answer_to(by_signature()).body["data"]] == [job["id"]]


@pytest.mark.parametrize(
    ("mapped_as", "comes_as"),
    [
        (ROLE, "arn:aws:sts::123456789012:assumed-role/nightly/another-session@x.y"),
        ("arn:aws:iam::123456789012:role/teams/support/nightly", "arn:aws:sts::123456789012:assumed-role/nightly/s"),
        ("arn:aws:sts::123456789012:assumed-role/nightly/s", "arn:aws:sts::123456789012:assumed-role/nightly/t"),
        ("arn:aws:iam::123456789012:user/teams/ada", "arn:aws:iam::123456789012:user/teams/ada"),
        ("arn:aws-us-gov:iam::123456789012:role/r", "arn:aws-us-gov:sts::123456789012:assumed-role/r/s"),
    ],
)
def test_a_role_is_known_without_its_path_and_a_user_with_it(mapped_as: str, comes_as: str) -> None:
    mapped(mapped_as)
    assert answer_to(by_signature(comes_as)).status == 200


@pytest.mark.parametrize(
    "comes_as",
    [
        "arn:aws:sts::210987654321:assumed-role/nightly/s",
        "arn:aws-cn:sts::123456789012:assumed-role/nightly/s",
        "arn:aws:sts::123456789012:assumed-role/nightly2/nightly",
        "arn:aws:sts::123456789012:assumed-role/Nightly/s",
        "arn:aws:iam::123456789012:user/nightly",
        "arn:aws:iam::123456789012:user/role/nightly",
    ],
)
def test_nobody_else_is_the_mapped_role(comes_as: str) -> None:
    mapped(ROLE)
    assert refused(answer_to(by_signature(comes_as)), "identity_unknown")


@pytest.mark.parametrize(
    "arn",
    [
        "arn:aws:iam::123456789012:root",
        "arn:aws:sts::123456789012:federated-user/ada",
        "arn:aws:sts::123456789012:assumed-role/nightly",
        "arn:aws:sts::123456789012:assumed-role/nightly/s/t",
        "arn:aws:iam::123456789012:role/nightly\n",
        "arn:aws:iam::12345678901\u0662:role/nightly",
        "arn:aws:iam::123456789012:user/" + "a" * 600,
        "",
        "nightly",
    ],
)
def test_who_is_neither_role_nor_user_is_nobody_and_cannot_be_mapped(arn: str) -> None:
    assert mapped(arn)["error"]["code"] == "principal_invalid"
    assert refused(answer_to(by_signature(arn)), "identity_missing")


def test_a_mapped_subject_asks_for_its_tenant_and_its_scopes_are_the_mapping_s(client: Client) -> None:
    assert refused(answer_to(by_token()), "identity_unknown")
    mapped(SUBJECT, "read")
    assert answer_to(by_token(scope="spotune/admin", tenant="globex")).status == 200
    answer = answer_to(on_route(by_token(scope="spotune/submit"), "POST", JOBS, body_for("file-x")))
    assert (answer.status, answer.error["code"]) == (403, "scope_missing")


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "https://login.example.com"},
        {"iss": "https://evil.example.com/"},
        {"iss": f"{ISSUER}#7f3c2a10-0000-4000-8000-00000000beef", "sub": ""},
        {"iss": ""},
        {"iss": None},
        {"sub": ""},
        {"sub": None},
        {"sub": ["7f3c2a10-0000-4000-8000-00000000beef"]},
        {"sub": "x" * 600},
        {"sub": "a\u202eb"},
    ],
)
def test_a_token_of_another_issuer_or_without_a_subject_is_nobody_s(claims: dict[str, object]) -> None:
    mapped(SUBJECT)
    assert refused(answer_to(by_token(**claims)), "identity_missing")


def test_without_an_issuer_no_token_opens_anything_and_none_can_be_mapped(world: World) -> None:
    mapped(SUBJECT)
    install(world.here)
    assert refused(answer_to(by_token()), "identity_missing")
    assert refused(answer_to(by_token(iss="")), "identity_missing")
    assert mapped(SUBJECT)["error"]["code"] == "principal_invalid"
    assert mapped("#subject")["error"]["code"] == "principal_invalid"


@pytest.mark.parametrize("path", ["/iam", "/iam/", f"/iam{JOBS}", "/iam/openapi.json", "/jwt", f"/jwt{JOBS}", "/jwt/x"])
def test_a_path_without_its_own_context_opens_to_no_key(client: Client, path: str) -> None:
    mapped(ROLE)
    mapped(SUBJECT)
    assert refused(client.call("GET", path), "identity_missing")
    other = by_token() if path.startswith("/iam") else by_signature()
    event = http_event("GET", path, "", {"authorization": f"Bearer {client.key}"}, b"")
    event["requestContext"]["authorizer"] = other["requestContext"]["authorizer"]
    assert refused(answer_to(event), "identity_missing")


def test_an_unknown_principal_gains_nothing_by_a_good_key(client: Client) -> None:
    event = by_signature()
    event["headers"]["authorization"] = f"Bearer {client.key}"
    assert refused(answer_to(event), "identity_unknown")


@pytest.mark.parametrize("event", [by_signature(), by_token()], ids=["iam", "jwt"])
@pytest.mark.parametrize("path", [JOBS, f"/IAM{JOBS}", f"//iam{JOBS}", f"/%69am{JOBS}", f"/iamx{JOBS}", "/v1/iam/x"])
def test_on_every_other_path_a_context_is_no_key(event: dict[str, Any], path: str) -> None:
    mapped(ROLE)
    mapped(SUBJECT)
    event = copy.deepcopy(event)
    event["headers"].pop("authorization")
    event["rawPath"] = event["requestContext"]["http"]["path"] = path
    assert refused(answer_to(event), "missing_api_key")


def test_one_beginning_is_taken_off_a_path_and_no_second_one(client: Client) -> None:
    mapped(ROLE)
    mapped(SUBJECT)
    for path in ("/jwt" + JOBS, "/iam" + JOBS, "/" + JOBS):
        assert answer_to(on_route(by_signature(), "GET", path)).status == 404


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.just("arn:aws:iam::123456789012:root"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["iam", "jwt", "claims", "userArn", "iss", "sub", "x"]), inner, max_size=4)
    ),
    max_leaves=8,
)


@given(context=JSON, prefix=st.sampled_from(["/iam", "/jwt"]))
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_the_context_holds_it_is_nobody_and_never_a_fault_of_ours(
    world: World, context: object, prefix: str
) -> None:
    event = http_event("GET", prefix + JOBS, "", {}, b"")
    event["requestContext"]["authorizer"] = context
    assert answer_to(event).status == 401


@pytest.mark.parametrize("event", [by_signature(), by_token()], ids=["iam", "jwt"])
def test_scopes_hold_for_both_on_every_route(event: dict[str, Any]) -> None:
    mapped(ROLE, "read")
    mapped(SUBJECT, "read")
    opened = {
        (method, route)
        for method, route in NEEDS
        if answer_to(on_route(event, method, path_of(route, NOBODYS), {})).status != 403
    }
    assert opened == {route for route, needed in NEEDS.items() if needed == "read"}


def test_a_principal_is_listed_limited_and_revoked_as_a_key_is(world: World, client: Client) -> None:
    role = "arn:aws:iam::123456789012:role/noted-once-a-process"
    made = mapped(role, "read", requests_per_minute=2)
    assert answer_to(by_signature(role)).headers["x-ratelimit-remaining-requests"] == "1"
    listed = {key["id"]: key for key in client.call("GET", "/v1/keys").body["data"]}[made["id"]]
    assert (listed["principal"], listed["requests_per_minute"], listed["scopes"]) == (role, 2, ["read"])
    assert listed["last_used_at"] == int(world.clock())
    assert [answer_to(by_signature(role)).status for _ in range(2)] == [200, 429]
    assert client.call("DELETE", f"/v1/keys/{made['id']}").status == 200
    assert refused(answer_to(by_signature(role)), "identity_unknown")
    assert mapped(role, "read")["id"] == made["id"]
    world.clock.now += 60
    assert answer_to(by_signature(role)).status == 200


def test_a_principal_that_is_mapped_anew_belongs_to_the_other_tenant_alone(client: Client, stranger: Client) -> None:
    made = mapped(ROLE)
    client.upload(chat_rows(30))
    mapped(ROLE, tenant="globex")
    assert answer_to(on_route(by_signature(), "GET", "/v1/files")).body["data"] == []
    assert made["id"] not in [key["id"] for key in client.call("GET", "/v1/keys").body["data"]]
    assert client.call("DELETE", f"/v1/keys/{made['id']}").status == 404
    assert made["id"] in [key["id"] for key in stranger.call("GET", "/v1/keys").body["data"]]


def test_a_list_that_lags_revokes_no_principal_that_has_moved_to_another_tenant(
    world: World, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = mapped(ROLE)
    lagging = world.store.list_keys("acme")
    mapped(ROLE, tenant="globex")
    monkeypatch.setattr(type(world.store), "list_keys", lambda self, tenant: lagging)
    assert client.call("DELETE", f"/v1/keys/{made['id']}").status == 404
    assert answer_to(by_signature()).status == 200


def test_no_bearer_key_is_ever_taken_for_a_principal(world: World) -> None:
    mapped(ROLE)
    mapped(SUBJECT)
    sha256 = map_principal(world.here, "acme", ROLE, "again", ("read",)).sha256
    for key in (ROLE, SUBJECT, f"spotune principal\0{ROLE}", sha256, f"sk-spotune-{ROLE}"):
        assert Client(key).call("GET", JOBS).status == 401


def test_no_admin_of_a_tenant_can_claim_a_principal(client: Client) -> None:
    answer = client.call("POST", "/v1/keys", {"name": "x", "scopes": ["admin"], "principal": ROLE})
    assert (answer.status, answer.error["code"], answer.error["param"]) == (400, "unknown_field", "principal")
    assert refused(answer_to(by_signature()), "identity_unknown")
