"""Files go up in one request where they fit, else straight to S3 in parts: in parallel, and resumable.

What was uploaded is remembered by content under SPOTUNE_HOME, so that the same file goes up once, and so that an
upload that was killed goes on where S3 says it stands.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path

import httpx
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from spotune.cli.client import Api
from spotune.cli.screen import Screen
from spotune.contracts.api import FileObject, UploadObject
from spotune.contracts.errors import Conflict, NotFound, RequestRefused, Unavailable
from spotune.contracts.files import DIRECT_UPLOAD_BYTES, UploadPart, UploadRequest
from spotune.local.state import default_home

PARALLEL_PARTS = 4
PART_TRIES = 4
PAUSE_SECONDS = 0.5
"""Before the second try of a part; doubled before each further one."""
CHUNK_BYTES = 1024**2

Advance = Callable[[int], object]


def upload(api: Api, path: Path, screen: Screen) -> FileObject:
    """The file's record in the API, uploaded if it is not there yet.

    Raises:
        RequestRefused: it is empty or cannot be read.
        Unavailable: a part could not be sent; called again, the upload goes on.
    """
    size, digest = _measure(path)
    memory = _Memory(default_home() / "uploads.json", f"{api.connection.url} {path.name} {digest}")
    if size <= DIRECT_UPLOAD_BYTES:
        return _known(api, memory) or memory.keep(api.send_file(path))
    return _upload_in_parts(api, path, size, memory, screen)


def _measure(path: Path) -> tuple[int, str]:
    try:
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
            size = stream.tell()
    except OSError as error:
        raise RequestRefused(f"Cannot read {path}: {error.strerror}.", code="file_unreadable") from None
    if size == 0:
        raise RequestRefused(f"{path} is empty.", code="file_empty", remedy="Write at least one JSONL row to it.")
    return size, digest


def _known(api: Api, memory: _Memory) -> FileObject | None:
    """The file of an earlier upload that is complete and was not deleted since."""
    if memory.file_id is None:
        return None
    try:
        file = api.file(memory.file_id)
    except NotFound:
        return None
    return file if file.status == "processed" else None


def _upload_in_parts(api: Api, path: Path, size: int, memory: _Memory, screen: Screen) -> FileObject:
    known = _known(api, memory)
    if known is not None:
        return known
    ticket = _resumed(api, memory, screen) or api.start_upload(UploadRequest(filename=path.name, bytes=size))
    memory.keep(ticket.file)
    left = [part for part in ticket.parts if part.number not in ticket.done]
    sent = size - sum(part.bytes for part in left)
    with _progress(screen, path.name, size, sent) as advance:
        _send_parts(path, left, advance, trust_env=api.connection.stack is None)
    return api.complete_upload(ticket.file.id)


def _resumed(api: Api, memory: _Memory, screen: Screen) -> UploadObject | None:
    if memory.file_id is None:
        return None
    try:
        ticket = api.upload_ticket(memory.file_id)
    except (NotFound, Conflict):
        return None
    screen.note(f"Going on with an upload: {len(ticket.done)} of {len(ticket.parts)} parts are there.")
    return ticket


def _send_parts(path: Path, parts: list[UploadPart], advance: Advance, *, trust_env: bool) -> None:
    limits = httpx.Limits(max_connections=PARALLEL_PARTS)
    with (
        httpx.Client(timeout=120, limits=limits, trust_env=trust_env) as http,
        ThreadPoolExecutor(PARALLEL_PARTS) as pool,
    ):
        running = [pool.submit(_send_part, http, path, part, advance) for part in parts]
        try:
            finished, _ = wait(running, return_when=FIRST_EXCEPTION)
            _raise_first(finished)
        finally:
            for future in running:
                future.cancel()


def _raise_first(finished: set[Future[None]]) -> None:
    for future in finished:
        future.result()


def _send_part(http: httpx.Client, path: Path, part: UploadPart, advance: Advance) -> None:
    reason = ""
    for attempt in range(PART_TRIES):
        time.sleep(PAUSE_SECONDS * (2**attempt - 1))
        sent = 0

        def counted() -> Iterator[bytes]:
            nonlocal sent
            for chunk in _read(path, part):
                yield chunk
                sent += len(chunk)
                advance(len(chunk))

        try:
            response = http.put(part.url, content=counted(), headers={"Content-Length": str(part.bytes)})
        except httpx.TransportError as error:
            reason = str(error) or type(error).__name__
        else:
            if response.is_success:
                return
            reason = f"S3 answered {response.status_code}"
        advance(-sent)
    raise Unavailable(
        f"Part {part.number} of {path.name} could not be sent ({reason}).",
        code="upload_interrupted",
        remedy="Run the same command again: the upload goes on where it stands.",
    )


def _read(path: Path, part: UploadPart) -> Iterator[bytes]:
    with path.open("rb") as stream:
        stream.seek(part.offset)
        left = part.bytes
        while left and (chunk := stream.read(min(CHUNK_BYTES, left))):
            left -= len(chunk)
            yield chunk


@contextmanager
def _progress(screen: Screen, name: str, size: int, sent: int) -> Iterator[Advance]:
    """A bar on a terminal; silence elsewhere."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=screen.console, disable=not screen.live) as bar:
        task = bar.add_task(f"Uploading {name}", total=size, completed=sent)
        yield lambda count: bar.advance(task, count)


class _Memory:
    """Which file id a content went to. A lost or broken memory costs one more upload, nothing else."""

    def __init__(self, path: Path, key: str) -> None:
        self._path = path
        self._key = key

    @property
    def file_id(self) -> str | None:
        return self._entries().get(self._key)

    def keep(self, file: FileObject) -> FileObject:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        entries = self._entries() | {self._key: file.id}
        draft = self._path.with_suffix(f".{os.getpid()}")
        draft.write_text(json.dumps(entries))
        draft.replace(self._path)
        return file

    def _entries(self) -> dict[str, str]:
        try:
            entries = json.loads(self._path.read_text())
        except (OSError, ValueError):
            return {}
        return entries if isinstance(entries, dict) else {}
