"""The double as an HTTP server on loopback: SageMaker's protocol at `/`, the control door at `/_double/`."""

from __future__ import annotations

import fcntl
import json
import logging
import threading
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import IO, Any
from urllib.parse import parse_qsl, urlsplit

from spotune.contracts.errors import Conflict, Unavailable
from spotune.local.double.capacity import Capacity
from spotune.local.double.clock import SystemClock
from spotune.local.double.control import ControlDoor
from spotune.local.double.double import Double
from spotune.local.double.events import Disturber, EventBridge
from spotune.local.double.faults import ServiceError, invalid
from spotune.local.double.judge import Judge, Signed
from spotune.local.double.market import Market
from spotune.local.double.model_packages import ModelPackages
from spotune.local.double.objects import client
from spotune.local.double.process_runner import ProcessRunner
from spotune.local.double.protocol import Answer, answer
from spotune.local.double.quotas import Quotas
from spotune.local.double.regions import Region, Regions, models_folder, state_folder
from spotune.local.double.settings import Settings
from spotune.local.double.shelves import Shelves
from spotune.local.double.storage import JobFolder

HOST = "127.0.0.1"
LARGEST_BODY = 1024**2
HEARTBEAT_SECONDS = 1.0
_DOOR = "_double"


class DoubleServer:
    """A double with the process runner behind a port of 127.0.0.1, in threads of the caller's process.

    One at a time for one home. Jobs left by an earlier one are taken up by `start`.
    """

    def __init__(self, settings: Settings, port: int = 0) -> None:
        self._settings = settings
        self._wanted_port = port
        self._http: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        """Where it listens, once started."""
        if self._http is None:
            raise RuntimeError("the double has not started")
        return f"http://{HOST}:{self._http.server_address[1]}"

    def start(self) -> None:
        """Take the port and the home, take up what an earlier double left, and answer.

        Raises:
            Unavailable: the port is taken.
            Conflict: another double runs on this home.
        """
        settings, folder = self._settings, self._settings.home / "double"
        folder.mkdir(parents=True, exist_ok=True)
        self._home_lock = _lock_home(folder / "lock")
        try:
            http = _Http(self._wanted_port)
        except OSError as error:
            self._home_lock.close()
            raise Unavailable(
                f"The SageMaker double cannot listen on port {self._wanted_port}: {error.strerror}.",
                code="port_taken",
                remedy="End what listens there, or choose another port.",
            ) from error
        self._clock = SystemClock()
        self._bridges: dict[str, EventBridge] = {}
        self._judge = Judge(settings) if settings.guarded else None
        self._quotas, self._capacity = Quotas.from_file(settings.quotas), Capacity()
        self._disturber = Disturber(self._send, self._clock)
        self._regions = Regions(settings.region, self._region, folder)
        self._beat(JobFolder(folder / "state"))
        http.regions, http.judge = self._regions, self._judge
        http.door = ControlDoor(self._regions, self._disturber, folder / "jobs")
        self._http = http
        self._thread = threading.Thread(target=http.serve_forever, args=(0.1,), name="double-http", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop answering and end every process. Running jobs are taken up by the next start, as after a crash."""
        if self._http is None:
            return
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()
        for region in self._regions:
            region.double.close()
        self._clock.close()
        for bridge in self._bridges.values():
            bridge.close()
        self._home_lock.close()
        self._http = None

    def _region(self, name: str) -> Region:
        """One region's part. Quotas and capacity are told to all of them at once, and each counts its own jobs."""
        settings = replace(self._settings, region=name)
        folder = self._settings.home / "double"
        self._bridges[name] = EventBridge(client("events", settings), settings.event_source)
        double = Double(
            ProcessRunner(settings, Shelves(settings, self._judge)),
            self._clock,
            JobFolder(state_folder(folder, self._settings.region, name)),
            timing=settings.timing,
            quotas=self._quotas,
            capacity=self._capacity,
            publish=self._disturber.publish,
            region=name,
            account=settings.account,
        )
        kept = models_folder(folder, self._settings.region, name)
        models = ModelPackages(kept, region=name, account=settings.account)
        return Region(name, double, Market(name, self._quotas), models)

    def _send(self, arn: str, detail: dict[str, Any]) -> None:
        """An event goes to the bus of its training job's own region."""
        self._bridges[arn.split(":")[3]].send(arn, detail)

    def _beat(self, store: JobFolder) -> None:
        """So that a restart knows until when what ran is to be billed."""
        store.beat()
        self._clock.call_at(self._clock.now() + HEARTBEAT_SECONDS, partial(self._beat, store))


class _Http(ThreadingHTTPServer):
    regions: Regions
    judge: Judge | None
    door: ControlDoor
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, port: int) -> None:
        super().__init__((HOST, port), _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: _Http
    protocol_version = "HTTP/1.1"
    timeout = 60

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        if length > LARGEST_BODY:
            self.close_connection = True
            self._send(_control_refusal(ServiceError("RequestEntityTooLarge", "The body is over 1 MiB.", 413)))
            return
        body = self.rfile.read(length)
        path = self._control_path()
        if path is not None:
            self._control(path, body)
        else:
            self._send(self._answer(body))

    def do_GET(self) -> None:
        path = self._control_path()
        if path is None:
            self._send(self._answer(b""))
        else:
            self._control(path, None)

    def log_message(self, format: str, *args: Any) -> None:
        logging.getLogger(__name__).debug(format, *args)

    def _answer(self, body: bytes) -> Answer:
        request = Signed(self.command, self.path, self.headers.items(), body)
        return answer(self.server.regions, self.server.judge, request)

    def _control_path(self) -> list[str] | None:
        parts = [part for part in urlsplit(self.path).path.split("/") if part]
        return parts[1:] if parts[:1] == [_DOOR] else None

    def _control(self, path: list[str], body: bytes | None) -> None:
        try:
            self._check_origin(body)
            if body is None:
                document = self.server.door.get(path, dict(parse_qsl(urlsplit(self.path).query)))
            else:
                document = self.server.door.post(path, _object(body))
            self._send(Answer(200, "application/json", json.dumps(document).encode()))
        except ServiceError as error:
            self._send(_control_refusal(error))

    def _check_origin(self, body: bytes | None) -> None:
        """A web page in this machine's browser must not get in: it cannot set these two headers as it likes."""
        if (self.headers.get("Host") or "").rpartition(":")[0] not in (HOST, "localhost"):
            raise ServiceError("Forbidden", f"The control door answers to the host {HOST} only.", 403)
        if body is not None and self.headers.get_content_type() != "application/json":
            raise ServiceError("UnsupportedMediaType", "The control door takes Content-Type: application/json.", 415)

    def _send(self, reply: Answer) -> None:
        self.send_response(reply.status)
        self.send_header("Content-Type", reply.content_type)
        self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        self.wfile.write(reply.body)


def _lock_home(path: Any) -> IO[str]:
    lock: IO[str] = path.open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        raise Conflict(
            f"Another SageMaker double runs on {path.parent}.",
            code="double_running",
            remedy="Use it, or end it first (spotune down).",
        ) from error
    return lock


def _object(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except ValueError as error:
        raise invalid(f"The body is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise invalid("The body must be a JSON object.")
    return document


def _control_refusal(error: ServiceError) -> Answer:
    body = json.dumps({"error": {"code": error.code, "message": str(error)}}).encode()
    return Answer(error.status, "application/json", body)
