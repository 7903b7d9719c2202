"""The CLI against the real handlers over real HTTP, with AWS in memory behind them."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

import handlers.api
from spotune.aws.base import ObjectMissing
from spotune.aws.memory_objects import MemoryObjects
from spotune.cli import client, main, watch
from spotune.contracts.job import Attempt
from spotune.service.access.keys import issue_key
from spotune.service.installation import install
from tests import factories
from tests.in_process import Context, World, http_event
from tests.in_process import world as make_world


@dataclass
class Service:
    """The API on loopback, S3's presigned parts beside it.

    `refuse` answers a status instead, by method and path; `lose` breaks the connection after the work is done; `carry`
    says how many bytes of an object come through before it breaks, None for all.
    """

    world: World
    url: str = ""
    key: str = ""
    calls: list[tuple[str, str]] = field(default_factory=list)
    refuse: Callable[[str, str], int | None] = lambda method, path: None
    lose: Callable[[str, str], bool] = lambda method, path: False
    carry: Callable[[str], int | None] = lambda uri: None


@dataclass(frozen=True)
class Ran:
    """What one command line did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def error(self) -> dict[str, Any]:
        return dict(json.loads(self.err)["error"])


Run = Callable[..., Ran]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("SPOTUNE_API_URL", "SPOTUNE_API_KEY", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SPOTUNE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(client, "RETRY_AFTER", (0.0, 0.0))
    monkeypatch.setattr(watch, "POLL_SECONDS", 0.0)
    return tmp_path / "home"


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def run_line(*arguments: object) -> Ran:
        capsys.readouterr()
        code = main.run([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return Ran(code, printed.out, printed.err)

    return run_line


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    """A fresh installation, and the environment that leads the CLI to it."""
    made = Service(make_world())
    install(made.world.here)
    made.key = issue_key(made.world.here, "acme", "test")
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(made))
    made.url = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setattr(
        MemoryObjects,
        "presign_part",
        lambda self, uri, upload_id, number, expires_in: (
            f"{made.url}/parts?uri={uri}&upload={upload_id}&number={number}"
        ),
    )
    monkeypatch.setattr(
        MemoryObjects,
        "presign_read",
        lambda self, uri, expires_in, version_id="": f"{made.url}/objects?uri={uri}&version={version_id}",
    )
    monkeypatch.setenv("SPOTUNE_API_URL", made.url)
    monkeypatch.setenv("SPOTUNE_API_KEY", made.key)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield made
    server.shutdown()
    server.server_close()
    thread.join()


def _handler(service: Service) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path = self.path.partition("?")[0]
            service.calls.append((self.command, self.path))
            status = service.refuse(self.command, self.path)
            if status is not None:
                return self._send(status, b"<html>a gateway's own page</html>")
            if path == "/parts":
                asked = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
                service.world.objects.put_part(asked["uri"], asked["upload"], int(asked["number"]), body)
                return self._send(200, b"")
            if path == "/objects":
                return self._send_object(parse_qs(urlsplit(self.path).query))
            headers = {name.lower(): value for name, value in self.headers.items()}
            event = http_event(self.command, path, self.path.partition("?")[2], headers, body)
            response = handlers.api.handler(event, Context())
            if service.lose(self.command, path):
                self.close_connection = True
                return None
            return self._send(response["statusCode"], response["body"].encode(), response["headers"])

        def _send_object(self, asked: Mapping[str, list[str]]) -> None:
            """As S3 answers a GET with a range."""
            uri, version = asked["uri"][0], asked.get("version", [""])[0]
            try:
                body = b"".join(service.world.objects.stream(uri, version_id=version))
            except ObjectMissing:
                return self._send(404, b"<Error><Code>NoSuchKey</Code></Error>")
            offset = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
            if offset >= len(body):
                return self._send(416, b"<Error><Code>InvalidRange</Code></Error>")
            through = service.carry(uri)
            self.send_response(206)
            self.send_header("Content-Length", str(len(body) - offset))
            self.end_headers()
            self.wfile.write(body[offset:] if through is None else body[offset : offset + through])
            self.close_connection = through is not None
            return None

        def _send(self, status: int, body: bytes, headers: Mapping[str, str] = MappingProxyType({})) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _answer  # noqa: N815

        def log_message(self, *_: object) -> None:
            return

    return Handler


def attempt(**changes: object) -> Attempt:
    """The first attempt of `factories.job()`."""
    values: dict[str, object] = {
        "number": 1,
        "name": "ftjob-abc-1",
        "rung": 0,
        "market": "spot",
        "instance_type": "ml.g5.xlarge",
        "instance_count": 1,
        "price": 400_000,
        "on_demand_price": 1_000_000,
        "max_runtime": 600,
        "max_wait": 1200,
        "reserved": 0,
        "requested_at": factories.NOW,
    }
    return Attempt.model_validate({**values, **changes})
