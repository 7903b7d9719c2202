"""Tracking servers: one that works, over MLflow's own store, and ones that do not."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from mlflow.entities import Metric, Param, RunStatus, RunTag, ViewType
from mlflow.store.tracking.file_store import FileStore


class MLflowServer:
    """The REST calls that a run needs, answered by MLflow's file store. `stop` and `start` keep port and runs."""

    def __init__(self, folder: Path, artefacts: str = "mlflow-artifacts:/") -> None:
        self.store = FileStore(str(folder), artefacts)
        self.folder = folder
        self.tokens: set[str] = set()
        self.routed: set[str] = set()
        self.port = 0
        self.start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self._http = ThreadingHTTPServer(("127.0.0.1", self.port), self._handler())
        self.port = self._http.server_port
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def stop(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def run(self, job: str = "ftjob-1") -> Any:
        """The one run of a job."""
        mine = f"tags.`spotune.job_id` = '{job}'"
        (found,) = self.store.search_runs(["0", *self._experiments()], mine, ViewType.ALL, 10, [], None)
        return found

    def history(self, name: str, job: str = "ftjob-1") -> list[tuple[int, float]]:
        """Step and value of every point that the server keeps."""
        points = self.store.get_metric_history(self.run(job).info.run_id, name)
        return [(point.step, point.value) for point in points]

    def _experiments(self) -> list[str]:
        return [one.experiment_id for one in self.store.search_experiments(ViewType.ALL)]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.0"

            def do_GET(self) -> None:
                query = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
                self._answer(query)

            def do_PUT(self) -> None:
                name = urlsplit(self.path).path.removeprefix("/api/2.0/mlflow-artifacts/artifacts/")
                path = server.folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b"{}")

            def do_POST(self) -> None:
                self._answer(json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}"))

            def log_message(self, *values: object) -> None:
                """Silence."""

            def _answer(self, asked: dict[str, Any]) -> None:
                server.tokens.add(self.headers.get("Authorization", ""))
                server.routed.add(self.headers.get("x-mlflow-sm-tracking-server-arn", ""))
                call = urlsplit(self.path).path.rpartition("/mlflow/")[2]
                answer = CALLS[call](server.store, asked)
                self.send_response(200 if answer is not None else 404)
                self.end_headers()
                missing = {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no such thing"}
                self.wfile.write(json.dumps(missing if answer is None else answer).encode())

        return Handler


def _experiment(store: FileStore, asked: dict[str, Any]) -> Any:
    found = store.get_experiment_by_name(asked["experiment_name"])
    return found and {"experiment": {"experiment_id": found.experiment_id, "name": found.name}}


def _run(run: Any) -> dict[str, Any]:
    info = run.info
    return {
        "info": {
            "run_id": info.run_id,
            "run_name": info.run_name,
            "experiment_id": info.experiment_id,
            "status": info.status,
            "artifact_uri": info.artifact_uri,
            "lifecycle_stage": "active",
        },
        "data": {
            "metrics": [{"key": key, "value": value} for key, value in run.data.metrics.items()],
            "params": [{"key": key, "value": value} for key, value in run.data.params.items()],
        },
    }


def _search(store: FileStore, asked: dict[str, Any]) -> Any:
    order = asked.get("order_by", [])
    found = store.search_runs(asked["experiment_ids"], asked["filter"], ViewType.ALL, 10, order, None)
    return {"runs": [_run(one) for one in found]}


def _create(store: FileStore, asked: dict[str, Any]) -> Any:
    tags = [RunTag(tag["key"], tag["value"]) for tag in asked["tags"]]
    made = store.create_run(asked["experiment_id"], "", int(asked["start_time"]), tags, asked["run_name"])
    return {"run": _run(made)}


def _update(store: FileStore, asked: dict[str, Any]) -> Any:
    status = RunStatus.from_string(asked["status"])
    store.update_run_info(asked["run_id"], status, int(asked.get("end_time", 0)) or None, None)
    return {"run_info": _run(store.get_run(asked["run_id"]))["info"]}


def _log(store: FileStore, asked: dict[str, Any]) -> Any:
    metrics = [
        Metric(m["key"], m["value"], int(m["timestamp"]), int(m.get("step", 0))) for m in asked.get("metrics", [])
    ]
    store.log_batch(asked["run_id"], metrics, [Param(p["key"], p["value"]) for p in asked.get("params", [])], [])
    return {}


def _log_metric(store: FileStore, asked: dict[str, Any]) -> Any:
    return _log(store, {"run_id": asked["run_id"], "metrics": [asked]})


def _history(store: FileStore, asked: dict[str, Any]) -> Any:
    found = store.get_metric_history(asked["run_id"], asked["metric_key"])
    return {"metrics": [{"key": m.key, "value": m.value, "timestamp": m.timestamp, "step": m.step} for m in found]}


CALLS: dict[str, Callable[[FileStore, dict[str, Any]], Any]] = {
    "experiments/get-by-name": _experiment,
    "experiments/create": lambda store, asked: {"experiment_id": store.create_experiment(asked["name"])},
    "runs/search": _search,
    "runs/create": _create,
    "runs/get": lambda store, asked: {"run": _run(store.get_run(asked["run_id"]))},
    "runs/update": _update,
    "runs/log-batch": _log,
    "runs/log-metric": _log_metric,
    "metrics/get-history": _history,
}


@contextmanager
def hanging() -> Iterator[str]:
    """A server that takes every connection and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        held: list[socket.socket] = []

        def take() -> None:
            try:
                while True:
                    held.append(listener.accept()[0])
            except OSError:
                return

        threading.Thread(target=take, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
        for connection in held:
            connection.close()


@contextmanager
def redirecting(to: str) -> Iterator[str]:
    """A server that sends every caller elsewhere."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(302)
            self.send_header("Location", to + self.path)
            self.end_headers()

        def log_message(self, *values: object) -> None:
            """Silence."""

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield f"http://127.0.0.1:{http.server_port}"
    http.shutdown()
    http.server_close()


def nobody() -> str:
    """An address where nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"
