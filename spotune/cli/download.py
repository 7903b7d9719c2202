"""Objects behind presigned URLs: streamed over broken connections, and kept only where they are what was asked for."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path

import httpx

from spotune.contracts.errors import Conflict, RequestRefused, Unavailable
from spotune.data.assembly.refusals import DatasetChanged, changed, gone

TRIES = 5
"""Of a connection in a row that brings nothing more."""
PAUSE_SECONDS = 0.5
"""Before the second one; doubled before each further one."""

Advance = Callable[[int], object]
UrlOf = Callable[[bool], str | None]
"""The URL to read from: a fresh one where the argument is true. None where the object is gone."""


def streamed(http: httpx.Client, uri: str, url_of: UrlOf, offset: int = 0) -> Iterator[bytes]:
    """An object from this byte to its end. A connection that breaks is taken up where it broke, with a fresh URL where
    the old one has ended.

    Raises:
        DatasetChanged: there is no such object any more.
        Unavailable: S3 does not answer, or goes on to break off.
    """
    tries, reason, fresh = 0, "", False
    while tries < TRIES:
        time.sleep(PAUSE_SECONDS * (2**tries - 1))
        tries += 1
        url = url_of(fresh)
        if url is None:
            raise gone(uri)
        try:
            with http.stream("GET", url, headers={"Range": f"bytes={offset}-"}) as response:
                if response.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                    return
                if response.status_code == HTTPStatus.NOT_FOUND:
                    raise gone(uri)
                fresh = response.status_code == HTTPStatus.FORBIDDEN
                reason = f"S3 answered {response.status_code}"
                if not response.is_success:
                    continue
                for chunk in _from(response, offset):
                    offset, tries = offset + len(chunk), 0
                    yield chunk
                return
        except httpx.TransportError as error:
            reason = str(error) or type(error).__name__
    raise Unavailable(
        f"{uri} could not be read ({reason}).",
        code="download_interrupted",
        remedy="Run the same command again: it goes on where it stands.",
    )


def download(
    chunks_from: Callable[[int], Iterable[bytes]],
    target: Path,
    *,
    uri: str,
    sha256: str | None,
    size: int,
    advance: Advance,
) -> None:
    """Bring an object here, going on where an earlier call was cut off. It has its name only when it is whole.

    Args:
        chunks_from: the object from a byte to its end.
        sha256: what it must hash to; None where only its size is known.

    Raises:
        DatasetChanged: it is not what it was; nothing of it is kept.
        RequestRefused: this disk does not take it.
    """
    draft = target.with_name(f".{target.name}.part")
    with writing(target):
        have = draft.stat().st_size if draft.exists() else 0
        if have > size:
            draft.unlink()
            have = 0
        advance(have)
        try:
            with draft.open("ab") as file:
                for chunk in chunks_from(have) if have < size else ():
                    file.write(chunk)
                    have += len(chunk)
                    advance(len(chunk))
                    if have > size:
                        break
            if have != size:
                raise changed(uri, f"{size} bytes", f"{have} bytes" if have < size else "more")
            found = _hash_of(draft) if sha256 is not None else None
            if found != sha256:
                raise changed(uri, f"sha256 {sha256}", f"sha256 {found}")
        except DatasetChanged:
            draft.unlink()
            raise
        _publish(draft, target)


def write_whole(chunks: Iterable[bytes], target: Path, *, advance: Advance = lambda count: None) -> None:
    """Write a file of what comes; it has its name only when all has come without an error.

    Raises:
        RequestRefused: this disk does not take it.
    """
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    with writing(target):
        try:
            with draft.open("wb") as file:
                for chunk in chunks:
                    file.write(chunk)
                    advance(len(chunk))
            _publish(draft, target)
        finally:
            draft.unlink(missing_ok=True)


def already_here(target: Path, sha256: str) -> bool:
    """True where the file is there and is the one; a file of that name that is another is never written over.

    Raises:
        Conflict: there is another.
    """
    if not target.exists():
        return False
    if target.is_file() and _hash_of(target) == sha256:
        return True
    raise Conflict(
        f"{target} is there already and is another file.",
        code="target_exists",
        remedy="Move it away, or choose another folder with --out.",
    )


@contextmanager
def writing(target: Path) -> Iterator[None]:
    """Makes the file's folder, and says in words what the disk refuses. Raises `RequestRefused`."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise RequestRefused(
            f"Cannot write {target}: {error.strerror or error}.",
            code="file_unwritable",
            remedy="Make room or choose another folder with --out, and run the same command again.",
        ) from None


def _from(response: httpx.Response, offset: int) -> Iterator[bytes]:
    """From the byte that was asked for, though the server may have sent the whole."""
    skip = 0 if response.status_code == HTTPStatus.PARTIAL_CONTENT else offset
    for chunk in response.iter_raw():
        if len(chunk) > skip:
            yield chunk[skip:]
        skip = max(0, skip - len(chunk))


def _publish(draft: Path, target: Path) -> None:
    with draft.open("rb") as file:
        os.fsync(file.fileno())
    draft.replace(target)


def _hash_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
