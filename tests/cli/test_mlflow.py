"""`models mlflow` against MLflow's own file store behind the REST calls."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from mlflow.entities.model_registry import ModelVersionTag
from mlflow.exceptions import MlflowException
from mlflow.store.model_registry.file_store import FileStore

from spotune.cli import mlflow_registry
from tests.cli.conftest import Run, Service
from tests.service.registered import GROUP, registered


class Server:
    """The registry's REST calls, a page of two versions at a time; `refuse` answers a status instead."""

    def __init__(self, folder: Path) -> None:
        self.store = FileStore(str(folder))
        self.credentials: set[str] = set()
        self.refuse: Callable[[str], int | None] = lambda call: None
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._http.server_port}"

    def stop(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def versions(self) -> dict[str, dict[str, str]]:
        """Tags of each version that it has, by number."""
        found = self.store.search_model_versions(f"name='{GROUP}'", 100)
        return {str(one.version): dict(one.tags) for one in found}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer({name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()})

            def do_POST(self) -> None:
                self._answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

            def log_message(self, *values: object) -> None:
                """Silence."""

            def _answer(self, asked: dict[str, Any]) -> None:
                server.credentials.add(self.headers.get("Authorization", ""))
                call = urlsplit(self.path).path.removeprefix("/api/2.0/mlflow/")
                status, body = server.refuse(call) or 200, {"message": "it says no"}
                if status == 200:
                    try:
                        body = CALLS[call](server.store, asked)
                    except MlflowException as error:
                        status, body = error.get_http_status_code(), json.loads(error.serialize_as_json())
                self.send_response(status)
                self.end_headers()
                self.wfile.write(json.dumps(body).encode())

        return Handler


def _create_model(store: FileStore, asked: dict[str, Any]) -> Any:
    store.create_registered_model(asked["name"], description=asked["description"])
    return {}


def _create_version(store: FileStore, asked: dict[str, Any]) -> Any:
    tags = [ModelVersionTag(tag["key"], tag["value"]) for tag in asked["tags"]]
    made = store.create_model_version(asked["name"], asked["source"], tags=tags, description=asked["description"])
    return {"model_version": {"version": str(made.version)}}


def _search(store: FileStore, asked: dict[str, Any]) -> Any:
    found = store.search_model_versions(asked["filter"], 2, page_token=asked.get("page_token"))
    versions = [
        {"version": str(one.version), "tags": [{"key": key, "value": value} for key, value in one.tags.items()]}
        for one in found
    ]
    return {"model_versions": versions, "next_page_token": _text(found.token)}


def _text(token: str | bytes | None) -> str:
    return token.decode() if isinstance(token, bytes) else token or ""


def _alias(store: FileStore, asked: dict[str, Any]) -> Any:
    store.set_registered_model_alias(asked["name"], asked["alias"], asked["version"])
    return {}


def _tag(store: FileStore, asked: dict[str, Any]) -> Any:
    store.set_model_version_tag(asked["name"], asked["version"], ModelVersionTag(asked["key"], asked["value"]))
    return {}


CALLS: dict[str, Callable[[FileStore, dict[str, Any]], Any]] = {
    "registered-models/create": _create_model,
    "model-versions/create": _create_version,
    "model-versions/search": _search,
    "registered-models/alias": _alias,
    "model-versions/set-tag": _tag,
}


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("TOKEN", "USERNAME", "PASSWORD", "URI"):
        monkeypatch.delenv(f"MLFLOW_TRACKING_{name}", raising=False)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    made = Server(tmp_path / "mlflow")
    yield made
    made.stop()


@pytest.fixture
def group(service: Service) -> Service:
    for number in (1, 2, 3):
        registered(service.world, number)
    return service


def show(run: Run, server: Server) -> Any:
    return run("models", "mlflow", GROUP, "--server", server.address, "--json")


def champion(server: Server) -> str:
    return server.versions()[str(server.store.get_model_version_by_alias(GROUP, "champion").version)]["spotune.model"]


def test_versions_are_shown_with_their_lineage_and_the_champion_has_its_alias(
    group: Service, server: Server, run: Run
) -> None:
    answer = show(run, server).json
    assert answer["versions"] == {"ft:tiny::1": "1", "ft:tiny::2": "2", "ft:tiny::3": "3"}
    tags = server.versions()["2"]
    assert (tags["spotune.job_id"], tags["spotune.status"], tags["spotune.seed"]) == ("ftjob-2", "former", "7")
    assert champion(server) == "ft:tiny::3"
    source = server.store.get_model_version(GROUP, "2").source
    assert source == "s3://artifacts/acme/jobs/ftjob-2/output/ftjob-2-1/output/model/"
    assert "3 (champion)" in run("models", "mlflow", GROUP, "--server", server.address).out


def test_shown_again_only_what_changed_changes(group: Service, server: Server, run: Run) -> None:
    show(run, server)
    run("models", "rollback", GROUP)
    run("models", "delete", f"{GROUP}@1")
    registered(group.world, 4, "reject")
    assert show(run, server).json["versions"]["ft:tiny::4"] == "4"
    assert len(server.versions()) == 4
    statuses = {tags["spotune.model"][-1]: tags["spotune.status"] for tags in server.versions().values()}
    assert statuses == {"1": "deleted", "2": "champion", "3": "former", "4": "rejected"}
    assert champion(server) == "ft:tiny::2"


def test_what_was_deleted_before_it_was_ever_shown_is_not_shown(group: Service, server: Server, run: Run) -> None:
    run("models", "delete", f"{GROUP}@1")
    assert set(show(run, server).json["versions"]) == {"ft:tiny::2", "ft:tiny::3"}


def test_versions_that_others_registered_are_left_alone(group: Service, server: Server, run: Run) -> None:
    server.store.create_registered_model(GROUP)
    server.store.create_model_version(GROUP, "s3://elsewhere/")
    show(run, server)
    assert len(server.versions()) == 4
    assert "spotune.status" not in server.versions()["1"]


def test_a_run_that_was_cut_off_goes_on_where_it_was(group: Service, server: Server, run: Run) -> None:
    calls = iter(range(9))
    server.refuse = lambda call: 503 if call == "model-versions/create" and next(calls) == 1 else None
    refused = show(run, server)
    assert (refused.code, refused.error["code"]) == (5, "mlflow_unreachable")
    assert len(server.versions()) == 1
    show(run, server)
    assert sorted(tags["spotune.model"] for tags in server.versions().values()) == [
        "ft:tiny::1",
        "ft:tiny::2",
        "ft:tiny::3",
    ]


@pytest.mark.parametrize(
    ("variables", "sent"),
    [({"TOKEN": "t0ken"}, "Bearer t0ken"), ({"USERNAME": "u", "PASSWORD": "p"}, "Basic dTpw"), ({}, "")],
)
def test_mlflows_own_variables_open_the_server(
    group: Service, server: Server, run: Run, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], sent: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(f"MLFLOW_TRACKING_{name}", value)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.address)
    assert run("models", "mlflow", GROUP).code == 0
    assert server.credentials == {sent}


@pytest.mark.parametrize(("status", "exit_code", "code"), [(401, 4, "mlflow_refused"), (400, 2, "mlflow_refused")])
def test_what_the_server_refuses_is_said(
    group: Service, server: Server, run: Run, status: int, exit_code: int, code: str
) -> None:
    server.refuse = lambda call: status
    refused = show(run, server)
    assert (refused.code, refused.error["code"]) == (exit_code, code)
    assert "it says no" in refused.err


def test_an_arn_or_a_path_is_no_server(group: Service, run: Run) -> None:
    for address in ("arn:aws:sagemaker:us-east-1:1:mlflow-tracking-server/x", "./mlruns"):
        refused = run("models", "mlflow", GROUP, "--server", address, "--json")
        assert refused.error["code"] == "mlflow_address_invalid"


def test_something_else_that_listens_there_is_told_apart(group: Service, run: Run) -> None:
    refused = run("models", "mlflow", GROUP, "--server", group.url, "--json")
    assert refused.error["code"] in ("mlflow_unreachable", "mlflow_refused")
    nowhere = run("models", "mlflow", GROUP, "--server", "http://127.0.0.1:9", "--json")
    assert nowhere.error["code"] == "mlflow_unreachable"
    assert mlflow_registry.ALIAS == "champion"
