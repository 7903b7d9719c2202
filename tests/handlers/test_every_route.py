"""What holds on every route of the API, taken from the router itself: a new route cannot be forgotten here."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterator
from itertools import combinations
from typing import Any

import pytest

from handlers.api import OPEN, app
from spotune.contracts.identity import EVERY_SCOPE, Scope
from spotune.service.access.keys import issue_key
from spotune.service.installation import install
from spotune.store.base import AuditStore, NoticeStore, Store
from spotune.store.memory import MemoryStore
from spotune.store.models import ModelStore
from spotune.store.retraining import RetrainingStore
from tests import tiny_model
from tests.handlers.test_jobs import JOBS, body_for
from tests.handlers.test_rules import RULES, WANTED, lands
from tests.handlers.test_webhooks import ENDPOINTS
from tests.in_process import Client, World
from tests.service.registered import GROUP, registered
from tests.tiny_model import chat_rows

NEEDS: dict[tuple[str, str], Scope] = {
    ("GET", "/v1/accuracy"): "read",
    ("GET", "/v1/audit_log"): "admin",
    ("GET", "/v1/budget"): "read",
    ("POST", "/v1/files"): "submit",
    ("GET", "/v1/files"): "read",
    ("GET", "/v1/files/<file_id>"): "read",
    ("GET", "/v1/files/<file_id>/content"): "read",
    ("GET", "/v1/files/<file_id>/upload"): "read",
    ("POST", "/v1/files/<file_id>/complete"): "submit",
    ("DELETE", "/v1/files/<file_id>"): "submit",
    ("POST", JOBS): "submit",
    ("GET", JOBS): "read",
    ("GET", f"{JOBS}/<job_id>"): "read",
    ("POST", f"{JOBS}/<job_id>/cancel"): "submit",
    ("POST", f"{JOBS}/<job_id>/pause"): "submit",
    ("POST", f"{JOBS}/<job_id>/resume"): "submit",
    ("POST", f"{JOBS}/<job_id>/retry"): "submit",
    ("GET", f"{JOBS}/<job_id>/diagnosis"): "read",
    ("GET", f"{JOBS}/<job_id>/quality"): "read",
    ("GET", f"{JOBS}/<job_id>/events"): "read",
    ("GET", f"{JOBS}/<job_id>/checkpoints"): "read",
    ("GET", f"{JOBS}/<job_id>/dataset"): "read",
    ("GET", f"{JOBS}/<job_id>/dataset/objects"): "read",
    ("POST", "/v1/fine_tuning/plans"): "read",
    ("GET", "/v1/market"): "read",
    ("POST", "/v1/keys"): "admin",
    ("GET", "/v1/keys"): "admin",
    ("DELETE", "/v1/keys/<key_id>"): "admin",
    ("POST", ENDPOINTS): "admin",
    ("GET", ENDPOINTS): "admin",
    ("GET", f"{ENDPOINTS}/<endpoint_id>"): "admin",
    ("POST", f"{ENDPOINTS}/<endpoint_id>"): "admin",
    ("DELETE", f"{ENDPOINTS}/<endpoint_id>"): "admin",
    ("POST", f"{ENDPOINTS}/<endpoint_id>/rotate_secret"): "admin",
    ("POST", f"{ENDPOINTS}/<endpoint_id>/test"): "admin",
    ("GET", "/v1/webhook_event_types"): "admin",
    ("POST", RULES): "submit",
    ("GET", RULES): "read",
    ("GET", f"{RULES}/<rule>"): "read",
    ("PATCH", f"{RULES}/<rule>"): "submit",
    ("DELETE", f"{RULES}/<rule>"): "submit",
    ("POST", f"{RULES}/<rule>/fire"): "submit",
    ("GET", f"{RULES}/<rule>/arrivals"): "read",
    ("GET", f"{RULES}/<rule>/retrainings"): "read",
    ("POST", f"{RULES}/<rule>/retrainings/<number>/release"): "submit",
    ("GET", "/v1/models"): "read",
    ("GET", "/v1/models/.+"): "read",
    ("DELETE", "/v1/models/.+"): "submit",
    ("GET", "/v1/model_groups"): "read",
    ("GET", "/v1/model_groups/<group>"): "read",
    ("GET", "/v1/model_groups/<group>/compare"): "read",
    ("GET", "/v1/model_groups/<group>/versions"): "read",
    ("GET", "/v1/model_groups/<group>/versions/<number>"): "read",
    ("GET", "/v1/model_groups/<group>/versions/<number>/files"): "read",
    ("POST", "/v1/model_groups/<group>/promote"): "submit",
    ("POST", "/v1/model_groups/<group>/rollback"): "submit",
    ("POST", "/v1/model_groups/<group>/versions/<number>/approve"): "submit",
    ("POST", "/v1/model_groups/<group>/versions/<number>/reject"): "submit",
    ("POST", "/v1/model_groups/<group>/versions/<number>/deprecate"): "submit",
}
"""The scope of each route, as it was decided: a second opinion beside `handlers.api.scope_of`."""

OF_ALL_TENANTS = frozenset(
    {
        "find_key",
        "find_job",
        "active_jobs",
        "pending_commands",
        "get_command",
        "recent_runs",
        "ledgers",
        "lines",
        "correct_line",
        "find_rule",
        "rules_of_bucket",
        "active_rules",
        "get_arrival",
        "arrivals_of_object",
        "arrivals_of_bytes",
        "accepted_arrivals",
        "waiting_arrivals",
        "unsettled_versions",
    }
)
"""The store's methods that know no tenant: the control plane's own."""
BY_THE_API = frozenset({"find_key", "recent_runs", "find_rule"})
"""Those of them that a request may reach: who asks, the corrections that plans take from every finished run, and the
rule whose id is made of the tenant and the name that is asked for."""


def routes() -> list[tuple[str, str]]:
    found = app._static_routes + app._dynamic_routes
    return sorted((route.method, str(route.path)) for route in found if route.path not in OPEN)


def scope_sets() -> Iterator[tuple[Scope, ...]]:
    for size in range(1, len(EVERY_SCOPE) + 1):
        yield from combinations(EVERY_SCOPE, size)


def allowed(scopes: tuple[Scope, ...], needed: Scope) -> bool:
    return needed in scopes or "admin" in scopes


def path_of(route: str, ids: dict[str, str]) -> str:
    for name, value in ids.items():
        route = route.replace(f"<{name}>", value)
    return route.replace(".+", "no/such-model").replace("<number>", "1")


def asked(route: tuple[str, str]) -> dict[str, Any]:
    """What makes a request of a route whole, beside its path."""
    method, path = route
    if path.endswith("/compare"):
        return {"query": "a=1&b=2"}
    if method not in WITH_BODY:
        return {}
    return {"body": {"version": 1} if path.endswith("/promote") else {}}


def body_of(route: str, file_id: str) -> dict[str, object]:
    if route == RULES:
        return {**WANTED, "name": "x", "source": {"uri": "s3://data/globex/support/"}}
    return {**body_for(file_id), "name": "x"}


NOBODYS = {
    "file_id": "file-x",
    "job_id": "ftjob-x",
    "key_id": "key-x",
    "endpoint_id": "we_x",
    "rule": "rule-x",
    "group": "nobodys",
}
WITH_BODY = ("POST", "PATCH")


def test_every_route_has_its_scope_written_down() -> None:
    assert set(routes()) == set(NEEDS)


@pytest.mark.parametrize("scopes", list(scope_sets()), ids="+".join)
def test_a_key_opens_the_routes_of_its_scopes_and_no_other(world: World, scopes: tuple[Scope, ...]) -> None:
    client = Client(issue_key(world.here, "acme", "scoped", scopes))
    opened = {
        (method, route) for method, route in routes() if client.call(method, path_of(route, NOBODYS), {}).status != 403
    }
    assert opened == {route for route, needed in NEEDS.items() if allowed(scopes, needed)}


@pytest.mark.parametrize("route", routes(), ids=" ".join)
def test_no_route_is_open_without_a_key_or_with_one_that_was_revoked(
    world: World, client: Client, route: tuple[str, str]
) -> None:
    made = client.call("POST", "/v1/keys", {"name": "ci", "scopes": ["admin"]}).body
    client.call("DELETE", f"/v1/keys/{made['id']}")
    method, path = route[0], path_of(route[1], NOBODYS)
    for key in (None, "sk-spotune-" + "A" * 43, made["key"]):
        assert Client(key).call(method, path, {}).status == 401


@dataclasses.dataclass(frozen=True)
class Kept:
    """All that there is, to be compared."""

    store: dict[str, Any]
    objects: Any
    messages: Any


def everything(world: World) -> Kept:
    counters = ("_audit", "_auditing", "_lock", "_noticing", "_retraining", "_models_lock", "_uses", "_windows")
    store = {name: repr(value) for name, value in vars(world.store).items() if name not in counters}
    return Kept(store, repr(vars(world.objects)), repr(vars(world.queue)))


@pytest.fixture
def owned(world: World, client: Client) -> dict[str, str]:
    """Things of one tenant's, one of each kind."""
    file_id = client.upload(chat_rows(40))
    job = client.call("POST", JOBS, {**body_for(file_id), "model": tiny_model.NAME}).body
    key = client.call("POST", "/v1/keys", {"name": "ci"}).body
    hook = client.call("POST", ENDPOINTS, {"name": "ci", "url": "https://hooks.example.com/"}).body
    rule = client.call("POST", RULES, WANTED).body
    lands(world, rule["id"])
    client.call("POST", f"{RULES}/{rule['id']}/fire")
    world.run_queue()
    for number in (1, 2):
        registered(world, number)
    ids = {"file_id": file_id, "job_id": job["id"], "key_id": key["id"], "endpoint_id": hook["id"], "rule": rule["id"]}
    return {name: str(value) for name, value in ids.items()} | {"group": GROUP}


@pytest.mark.parametrize("route", [route for route in routes() if "<" in route[1]], ids=" ".join)
def test_another_tenant_s_id_is_missing_on_every_route_and_stays_untouched(
    world: World, client: Client, stranger: Client, owned: dict[str, str], route: tuple[str, str]
) -> None:
    method, path = route[0], path_of(route[1], owned)
    before = everything(world)
    answer = stranger.call(method, path, **asked(route))
    missing = stranger.call(method, path_of(route[1], NOBODYS), **asked(route))
    assert (answer.status, answer.error["code"]) == (404, missing.error["code"])
    assert everything(world) == before
    if method == "GET":
        assert client.call(method, path, **asked(route)).status != 404, (
            "it is there for its owner, upload tickets of no upload apart"
        )


@pytest.mark.parametrize("route", [route for route in routes() if "<" not in route[1]], ids=" ".join)
def test_another_tenant_s_things_are_in_no_list_and_no_answer(
    world: World, stranger: Client, owned: dict[str, str], route: tuple[str, str]
) -> None:
    body = body_of(route[1], owned["file_id"]) | ({} if route[1] == RULES else {"validation_file": owned["file_id"]})
    answer = stranger.call(route[0], path_of(route[1], {}), body if route[0] == "POST" else None)
    told = answer.raw.replace(owned["file_id"], "", 2) if answer.status >= 400 else answer.raw
    assert not [value for value in owned.values() if value in told]
    assert "acme" not in told


def test_every_method_of_the_store_takes_a_tenant_or_a_record_that_has_one() -> None:
    named = {**vars(AuditStore), **vars(NoticeStore), **vars(RetrainingStore), **vars(ModelStore), **vars(Store)}
    methods = {name: method for name, method in named.items() if not name.startswith("_") and callable(method)}
    owners = {"endpoint", "tenant", "key", "record", "decision", "before", "entry", "ledger", "rule", "arrival"}
    without = {name for name, method in methods.items() if not owners & set(inspect.signature(method).parameters)}
    assert without == OF_ALL_TENANTS


def test_no_request_reaches_reads_of_all_tenants_for_another_tenant_s_things(
    world: World, client: Client, stranger: Client, owned: dict[str, str]
) -> None:
    """A job that the tenant was seen to own is changed by its id alone: a job never changes its tenant."""
    spy = Spy(world.store)
    install(dataclasses.replace(world.here, store=spy))  # type: ignore[arg-type]
    for method, route in routes():
        stranger.call(method, path_of(route, owned), body_of(route, owned["file_id"]))
    assert spy.called() & OF_ALL_TENANTS == BY_THE_API
    assert spy.tenants_found("find_rule", world.store) <= {"globex"}
    strangers = len(spy.calls)
    for method, route in routes():
        client.call(method, path_of(route, owned), body_of(route, owned["file_id"]))
    assert spy.called() & OF_ALL_TENANTS == BY_THE_API | {"find_job"}
    assert spy.tenants_found("find_job", world.store) == {"acme"}
    assert spy.tenants_found("find_rule", world.store, strangers) <= {"acme"}


class Spy:
    """The store, and what was called with what."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self.calls: list[tuple[str, tuple[object, ...]]] = []

    def called(self) -> set[str]:
        return {name for name, _ in self.calls}

    def tenants_found(self, name: str, store: MemoryStore, since: int = 0) -> set[str]:
        """Whose records a method that takes an id was asked for."""
        asked = [arguments for called, arguments in self.calls[since:] if called == name]
        found = [getattr(store, name)(str(arguments[0])) for arguments in asked]
        return {record.tenant for record in found if record is not None}

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method: Callable[..., Any] = getattr(self._store, name)

        def call(*arguments: object, **named: object) -> Any:
            self.calls.append((name, arguments))
            return method(*arguments, **named)

        return call
