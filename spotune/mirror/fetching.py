"""A commit's files on this disk: whole, and what the hub says they are, or not at all."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from spotune.contracts.errors import Conflict, RequestRefused, SpotuneError
from spotune.contracts.faults import DISK_FULL
from spotune.contracts.training import ManifestFile
from spotune.mirror.hub import Hub, HubCommit, HubFile

Advance = Callable[[int], object]
"""Told of bytes that have come."""
_COMMIT = re.compile("[0-9a-f]{40}")
SPARE_BYTES = 256 * 10**6
"""Of the disk, which stay free."""


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Holds a folder against other processes; makes it where there is none.

    Raises:
        Conflict: another process holds it.
        RequestRefused: this disk does not take it.
    """
    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / ".lock", os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise Conflict(
            f"Another process is bringing this model into {folder}.", code="mirror_busy", remedy="Wait for its end."
        ) from None
    finally:
        os.close(lock)


def forget(folder: Path) -> None:
    """Delete what lies here of a model's commits, the ones that were never finished, too; what another process holds
    stays."""
    for commit in folder.iterdir():
        if _COMMIT.fullmatch(commit.name):
            with suppress(Conflict), alone(commit):
                shutil.rmtree(commit, ignore_errors=True)


def bring(hub: Hub, at: HubCommit, file: HubFile, folder: Path, advance: Advance) -> ManifestFile:
    """Download a file, or go on where an earlier call was cut off. It has its name only when it is whole and right.

    Raises:
        RequestRefused: this disk does not take it.
        SpotuneError: what came is not what the hub lists; nothing of it is kept.
        NotAllowed, NotFound, Unavailable: as `Hub.chunks`.
    """
    target, draft = folder / file.name, folder / f".{file.name}.part"
    if target.is_file():
        told = _told(target, file)
        if told is not None:
            advance(file.bytes)
            return told
    with _writing(target):
        _download(hub, at, file, draft, advance)
        told = _told(draft, file)
        if told is None:
            draft.unlink()
            raise _differs(hub, file)
        draft.replace(target)
    return told


def _download(hub: Hub, at: HubCommit, file: HubFile, draft: Path, advance: Advance) -> None:
    have = draft.stat().st_size if draft.exists() else 0
    if have > file.bytes:
        have = 0
    _check_room(draft.parent, file, have)
    advance(have)
    with draft.open("r+b" if have else "wb") as stream, closing(hub.chunks(at, file, have)) as chunks:
        stream.seek(have)
        for chunk in chunks:
            stream.write(chunk)
            have += len(chunk)
            advance(len(chunk))
            if have > file.bytes:
                break
        stream.flush()
        os.fsync(stream.fileno())


def _told(path: Path, file: HubFile) -> ManifestFile | None:
    """What a file is, where it is what the hub lists: None where it is another."""
    size = path.stat().st_size
    found, git = hashlib.sha256(), hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            found.update(chunk)
            if file.sha256 is None:
                git.update(chunk)
    same = git.hexdigest() == file.blob if file.sha256 is None else found.hexdigest() == file.sha256
    return ManifestFile(name=file.name, bytes=size, sha256=found.hexdigest()) if same and size == file.bytes else None


def _differs(hub: Hub, file: HubFile) -> SpotuneError:
    return SpotuneError(
        f"What came as {file.name} is not the file that {hub.address} lists, though it came to its end.",
        code="hub_file_differs",
        remedy="Run the same command again. If it differs again, somebody between the hub and this machine changes it.",
    )


def _check_room(folder: Path, file: HubFile, have: int) -> None:
    needed, free = file.bytes - have + SPARE_BYTES, shutil.disk_usage(folder).free
    if needed > free:
        raise RequestRefused(
            f"{folder} has {free:,} bytes left, and {file.name} needs {needed:,}.",
            code="disk_full",
            remedy="Make room, or set SPOTUNE_HOME to a folder on a larger disk; one file at a time lies there.",
        )


@contextmanager
def _writing(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        full = error.errno in DISK_FULL
        raise RequestRefused(
            f"Cannot write {target}: {error.strerror or error}.",
            code="disk_full" if full else "file_unwritable",
            remedy="Make room, or set SPOTUNE_HOME to another folder, and run the same command again.",
        ) from None
