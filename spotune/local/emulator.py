"""The AWS emulator as one process on loopback, whose state outlives a kill.

ministack writes S3 objects to disk as they come, everything else only when it ends in peace. Here a request that
changes the table or the queue is answered after that change is on disk, and `POST /_spotune/save` writes the rest
(what a deployment made). A SIGKILL therefore loses nothing that anybody was told of; what it can lose is an unfinished
multipart upload, which its sender starts again.

And ministack starts Lambda processes without limit; here they are limited (`workers.py`).
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import resource
import shutil
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

from spotune.local import cloudformation
from spotune.local.guard import Guard
from spotune.local.journal import ITEM_WRITES, Journal, follow, merge
from spotune.local.state import ACCOUNT, REGION, write_private

SAVE_PATH = "/_spotune/save"
HEALTH_PATH = "/_ministack/health"

ITEMS = "dynamodb items"
"""What a write changed that the journal can tell. Anything else of a service is its whole state, in one file."""

_WRITES = {
    "DynamoDB_20120810": "dynamodb",
    "AmazonSQS": "sqs",
}
_READS = ("Get", "BatchGet", "TransactGet", "Query", "Scan", "Describe", "List")

_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]
_App = Callable[[Any, Any, Any], Awaitable[None]]


def command() -> list[str]:
    """The command line that runs the emulator; everything else is in its environment."""
    return [sys.executable, "-m", "spotune.local.emulator"]


def environment(home: Path, port: int, *, guarded: bool = False) -> dict[str, str]:
    """What ministack reads: loopback only, one account, all state below `home/emulator`.

    Args:
        guarded: check signatures, and the policies of roles and buckets, as AWS does.
    """
    folder = home / "emulator"
    return {
        "AUTH": "true" if guarded else "false",
        "BIND_HOST": "127.0.0.1",
        "MINISTACK_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "MINISTACK_ACCOUNT_ID": ACCOUNT,
        "MINISTACK_REGION": REGION,
        "PERSIST_STATE": "1",
        "STATE_DIR": str(folder / "state"),
        "S3_PERSIST": "1",
        "S3_DATA_DIR": str(folder / "s3"),
        "TMPDIR": str(folder / "tmp"),
        "IOT_MTLS_ENABLED": "0",
        "SFTP_ENABLED": "0",
        "DOCKER_HOST": "unix:///nonexistent",
        "LOG_LEVEL": "WARNING",
        # Calls wait for a process here, as far as AWS would let them come.
        "LAMBDA_ACCOUNT_CONCURRENCY": "1000",
        # Two heaps, and large blocks given back: an object of some hundred megabytes passes through memory whole.
        "MALLOC_ARENA_MAX": "2",
        "MALLOC_TRIM_THRESHOLD_": "1000000",
        "MALLOC_MMAP_THRESHOLD_": "1000000",
    }


class SavedApp:
    """ASGI middleware: answers a write only after the state that it changed is on disk."""

    def __init__(
        self,
        app: _App,
        *,
        save: Callable[[str], None],
        save_everything: Callable[[], None],
        release_bodies: Callable[[], None],
    ) -> None:
        self._app = app
        self._save = save
        self._save_everything = save_everything
        self._release_bodies = release_bodies
        self._waiting: dict[str, asyncio.Future[None]] = {}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass the request on; hold its answer back until what it wrote is saved."""
        if scope["type"] == "http" and scope["path"] == SAVE_PATH:
            self._save_everything()
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body", "body": b""})
            return
        service = _written_service(scope)
        await self._app(scope, receive, self._after_save(service, send) if service else send)
        if _may_write_object(scope):
            self._release_bodies()

    def _after_save(self, service: str, send: _Send) -> _Send:
        async def send_saved(message: _Message) -> None:
            if message["type"] == "http.response.start" and message["status"] < 300:
                await self._saved(service)
            await send(message)

        return send_saved

    async def _saved(self, service: str) -> None:
        """Wait for a save that begins after this call; writes of the same moment share one."""
        if service not in self._waiting:
            self._waiting[service] = asyncio.ensure_future(self._save_soon(service))
        await asyncio.shield(self._waiting[service])

    async def _save_soon(self, service: str) -> None:
        await asyncio.sleep(0)
        del self._waiting[service]
        self._save(service)


def main() -> None:
    """Serve until SIGTERM, then save and end."""
    state = Path(os.environ["STATE_DIR"])
    _clear_leftovers(Path(os.environ["TMPDIR"]), state)
    _mend_queues(state / "sqs.json", os.environ["GATEWAY_PORT"])
    saved = _SavedState(state)
    from hypercorn.asyncio import serve
    from hypercorn.config import Config
    from ministack import app as emulator

    from spotune.local.workers import limit_processes

    limit_processes()
    cloudformation.mend()
    _raise_open_files()
    config = Config()
    config.bind = [f"{os.environ['BIND_HOST']}:{os.environ['GATEWAY_PORT']}"]
    config.keep_alive_timeout = 75
    config.loglevel = os.environ["LOG_LEVEL"]
    config.graceful_timeout = 2
    guarded = Guard(emulator.app) if emulator.AUTH else emulator.app
    app = SavedApp(guarded, save=saved.save, save_everything=saved.save_everything, release_bodies=_release_bodies)
    asyncio.run(serve(app, config))
    saved.forget_journal()


def _written_service(scope: _Message) -> str | None:
    if scope["type"] != "http" or scope["method"] != "POST":
        return None
    service, _, action = _target(scope).partition(".")
    if action.startswith(_READS):
        return None
    written = _WRITES.get(service)
    return ITEMS if written == "dynamodb" and action in ITEM_WRITES else written


def _may_write_object(scope: _Message) -> bool:
    if scope["type"] != "http" or scope["path"].startswith("/_"):
        return False
    return scope["method"] == "PUT" or (scope["method"] == "POST" and not _target(scope))


def _target(scope: _Message) -> str:
    found: bytes = next((value for name, value in scope["headers"] if name.lower() == b"x-amz-target"), b"")
    return found.decode("latin-1")


class _SavedState:
    """The folder that ministack loads its state from: a file a service, and the table's journal."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        merge(folder / "dynamodb.json", folder / "dynamodb.journal")
        from ministack.services import dynamodb

        self._dynamodb = dynamodb
        self._journal = Journal(folder / "dynamodb.journal")
        follow(dynamodb, self._journal)

    def save(self, what: str) -> None:
        """Write what a request changed. It runs between two requests: ministack handles these services on its loop."""
        if what == ITEMS and not self._journal.needs_snapshot:
            self._journal.flush()
            return
        self._save_service("dynamodb" if what == ITEMS else what)
        if what != "sqs":
            self.forget_journal()

    def save_everything(self) -> None:
        """Write the state of every service."""
        from ministack import app as emulator
        from ministack.core import persistence

        persistence.save_all(emulator._build_persistence_save_dict())
        self.forget_journal()

    def forget_journal(self) -> None:
        """Once the table's whole state is written."""
        path = self._folder / "dynamodb.json"
        if path.exists():
            tables = frozenset(table["TableArn"] for table in self._dynamodb._tables.all_values())
            self._journal.begin_anew(tables, path.stat().st_size)

    def _save_service(self, name: str) -> None:
        import importlib

        from ministack.core import persistence

        state = importlib.import_module(f"ministack.services.{name}").get_state()
        version = persistence._state_format_version(name)
        # In one piece: `json.dump` to a file goes through the slow encoder.
        text = json.dumps({"__ministack_format__": version, "payload": state}, default=persistence._json_default)
        write_private(self._folder / f"{name}.json", text)


def _release_bodies() -> None:
    """Let go of the objects in versioned buckets, which ministack keeps in memory though they lie on disk."""
    from ministack.services import s3

    for versions in s3._object_versions._data.values():
        for version in versions:
            version["data"] = None


def _clear_leftovers(temporary: Path, state: Path) -> None:
    """Remove what a killed emulator left: unpacked bundles, half-written files."""
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    state.mkdir(parents=True, exist_ok=True)
    for unfinished in state.glob("*.tmp"):
        unfinished.unlink()


def _mend_queues(saved: Path, port: str) -> None:
    """Find the queues again under the port of today, since ministack knows them by their URLs, and show every message.

    Whoever had taken a message is gone: it need not stay hidden for its visibility timeout.
    """
    if not saved.exists():
        return
    document = json.loads(re.sub(r"http://127\.0\.0\.1:\d+/", f"http://127.0.0.1:{port}/", saved.read_text()))
    for queue in document["payload"]["queues"]["data"].values():
        for message in queue["messages"]:
            message["visible_at"] = message["sent_at"]
    write_private(saved, json.dumps(document))


def _raise_open_files() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    main()
