"""DVC's `.dvc` files: which objects of a remote they stand for, and whether these are what they were.

A `.dvc` file is YAML with a list `outs`; each has the path of a file or folder in its repository and the MD5 of its
content. In a remote the object lies under its MD5, since DVC 3 (`hash: md5`) below `files/md5/`; a folder's object is a
JSON list of its files. Before DVC 3 the MD5 of a text was taken with its line ends made Unix's.

Sources: dvc.org/doc/user-guide/project-structure/dvc-files, .../internal-files and dvc.org/doc/user-guide/upgrade.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from configparser import ConfigParser
from configparser import Error as ConfigError
from dataclasses import dataclass
from hashlib import md5
from pathlib import PurePosixPath
from typing import Any

from spotune.contracts.errors import RequestRefused
from spotune.data.assembly.refusals import changed

DVC_SUFFIX = ".dvc"

MAX_FILE_BYTES = 100_000
"""Of a `.dvc` file; DVC's own have some hundred."""
MAX_FOLDER_BYTES = 32_000_000
"""Of a folder's list, some 300,000 files."""
MAX_OUTS = 1000
CONVERTED_BYTES = 1024**2
"""DVC before 3 converted line ends in pieces of this size, so that one that lies across two stayed as it was."""

_HASH = re.compile(r"[0-9a-f]{32}(\.dir)?")
_PART_OF_URI = re.compile(r"(?P<modern>/files/md5)?/(?P<first>[0-9a-f]{2})/(?P<rest>[0-9a-f]{30})$")
_CONTROL = re.compile(r"[\x00-\x1f\x7f\\]")


@dataclass(frozen=True, slots=True)
class DvcObject:
    """One object of a remote. `path` is the file's or folder's in the repository: relative, and never out of it."""

    path: str
    md5: str
    modern: bool
    """DVC 3's layout and hash."""
    folder: bool = False
    size: int | None = None
    """Bytes; of a folder those of its files. None where the `.dvc` file does not say."""
    remote: str | None = None
    """The name of its remote, where it is not the repository's own."""

    @property
    def key(self) -> str:
        """Where it lies below the remote's root."""
        return f"{'files/md5/' if self.modern else ''}{self.md5[:2]}/{self.md5[2:]}{'.dir' if self.folder else ''}"


def parse_dvc(body: bytes, name: str) -> tuple[DvcObject, ...]:
    """The files and folders that a `.dvc` file stands for.

    Args:
        name: the file's, for messages.

    Raises:
        RequestRefused: it is none that DVC writes, or what it names is in no remote, or leads out of its folder.
    """
    if len(body) > MAX_FILE_BYTES:
        raise _refused(name, f"it has {len(body):,} bytes; {MAX_FILE_BYTES:,} is the limit")
    from spotune.data.plain_yaml import read_plain  # here: YAML takes 40 ms to import, and few processes meet any

    try:
        read = read_plain(body)
    except ValueError as error:
        raise _refused(name, f"it is not plain YAML ({_short(error)})") from None
    outs = read.get("outs") if isinstance(read, dict) else None
    if not isinstance(outs, list) or not 0 < len(outs) <= MAX_OUTS:
        raise _refused(name, f"it has no list `outs` of 1 to {MAX_OUTS} entries")
    found = tuple(_out(out, name) for out in outs)
    _refuse_twice([one.path for one in found], name)
    return found


def parse_folder(body: bytes, folder: DvcObject, name: str) -> tuple[DvcObject, ...]:
    """The files of a folder from its object.

    Raises:
        DatasetChanged: the list is not the one that the `.dvc` file names.
        RequestRefused: as `parse_dvc`.
    """
    found = md5(body, usedforsecurity=False).hexdigest()
    if found != folder.md5:
        raise changed(f"{name}: {folder.key}", f"MD5 {folder.md5}", f"MD5 {found}")
    try:
        listed = json.loads(body)
    except (ValueError, RecursionError):
        raise _refused(name, f"the list of {folder.path} is not JSON") from None
    if not isinstance(listed, list):
        raise _refused(name, f"the list of {folder.path} is no list")
    files = tuple(_listed(one, folder, name) for one in listed)
    _refuse_twice([one.path for one in files], name)
    return files


def named_files(body: bytes, name: str, open_key: Callable[[str], Iterable[bytes]]) -> tuple[DvcObject, ...]:
    """All files that a `.dvc` file stands for, those of its folders too, in its order.

    Args:
        open_key: opens an object by its key below the remote's root; asked for folders' lists alone.

    Raises:
        DatasetChanged, RequestRefused: as `parse_folder`, or a list has more than `MAX_FOLDER_BYTES`.
    """
    files: list[DvcObject] = []
    for one in parse_dvc(body, name):
        files += parse_folder(_read(open_key(one.key), name, one), one, name) if one.folder else (one,)
    _refuse_twice([one.path for one in files], name)
    return tuple(files)


def remote_url(config: bytes, remote: str | None, name: str) -> str:
    """The URL of a repository's remote: of its own, or of the one that is named.

    Args:
        config: the repository's `.dvc/config`.
        name: the file's, for messages.

    Raises:
        RequestRefused: it cannot be read, or has no such remote.
    """
    parser = ConfigParser(interpolation=None)
    try:
        parser.read_string(config.decode())
    except (ConfigError, UnicodeDecodeError) as error:
        raise _refused(name, f"its repository's .dvc/config cannot be read ({_short(error)})") from None
    remote = remote or parser.get("core", "remote", fallback=None)
    url = parser.get(f"'remote \"{remote}\"'", "url", fallback=None)
    if url is None:
        raise _refused(name, f"its repository's .dvc/config has no remote {remote!r}", "Set one: dvc remote add -d.")
    return url.rstrip("/")


def verified(chunks: Iterable[bytes], uri: str) -> Iterator[bytes]:
    """The same chunks of an object in a remote; raises at their end where they are not what its URI says.

    Raises:
        DatasetChanged: they have another MD5.
        ValueError: the URI is none of an object in a remote.
    """
    place = _PART_OF_URI.search(uri)
    if place is None:
        raise ValueError(f"{uri} does not end in an MD5")
    wanted = place["first"] + place["rest"]
    raw = md5(usedforsecurity=False)
    unix = None if place["modern"] else _UnixMd5()
    for chunk in chunks:
        raw.update(chunk)
        if unix is not None:
            unix.update(chunk)
        yield chunk
    found = raw.hexdigest()
    if wanted not in (found, unix and unix.hexdigest()):
        raise changed(uri, f"MD5 {wanted}", f"MD5 {found}")


class _UnixMd5:
    """The MD5 of a text with Unix's line ends, as DVC took it before version 3."""

    def __init__(self) -> None:
        self._digest = md5(usedforsecurity=False)
        self._held = bytearray()

    def update(self, chunk: bytes) -> None:
        self._held += chunk
        while len(self._held) >= CONVERTED_BYTES:
            self._digest.update(self._held[:CONVERTED_BYTES].replace(b"\r\n", b"\n"))
            del self._held[:CONVERTED_BYTES]

    def hexdigest(self) -> str:
        self._digest.update(self._held.replace(b"\r\n", b"\n"))
        self._held.clear()
        return self._digest.hexdigest()


def _out(out: Any, name: str) -> DvcObject:
    if not isinstance(out, dict):
        raise _refused(name, "an entry of `outs` is no mapping")
    path = _safe_path(out.get("path"), name)
    if "cloud" in out or "files" in out:
        raise _refused(name, f"{path} lies in a version-aware remote", "Use a remote without version_aware.")
    if "false" in (out.get("cache"), out.get("push")):
        raise _refused(name, f"{path} is in no remote: it has cache or push false", "Let DVC cache and push it.")
    content, kind, size = out.get("md5"), out.get("hash"), out.get("size")
    if not isinstance(content, str) or not _HASH.fullmatch(content):
        raise _refused(name, f"{path} has no MD5", "Run dvc add (or dvc commit) and dvc push.")
    if kind not in (None, "md5", "md5-dos2unix"):
        raise _refused(name, f"{path} has a hash of the kind {str(kind)[:40]!r}", "Track it with DVC 2 or 3.")
    if size is not None and not (isinstance(size, str) and size.isdecimal() and len(size) < 16):
        raise _refused(name, f"the size of {path} is no number")
    remote = out.get("remote")
    return DvcObject(
        path=path,
        md5=content.removesuffix(".dir"),
        modern=kind == "md5",
        folder=content.endswith(".dir"),
        size=None if size is None else int(size),
        remote=remote if isinstance(remote, str) else None,
    )


def _listed(one: Any, folder: DvcObject, name: str) -> DvcObject:
    """One file of a folder."""
    if not isinstance(one, dict) or not isinstance(one.get("md5"), str) or not _HASH.fullmatch(one["md5"]):
        raise _refused(name, f"a file of {folder.path} has no MD5")
    path = f"{folder.path}/{_safe_path(one.get('relpath'), name)}"
    if one["md5"].endswith(".dir"):
        raise _refused(name, f"{path} is a folder in a folder's list")
    return DvcObject(path, one["md5"], folder.modern)


def _safe_path(path: object, name: str) -> str:
    if not isinstance(path, str) or not path or len(path) > 1024:
        raise _refused(name, "an entry has no path")
    parts = PurePosixPath(path)
    if parts.is_absolute() or ".." in parts.parts or _CONTROL.search(path) or re.match(r"\w+:", path):
        raise _refused(name, f"the path {path[:80]!r} leads out of its folder")
    if not parts.parts:
        raise _refused(name, "an entry's path is its folder itself")
    return str(parts)


def _refuse_twice(paths: list[str], name: str) -> None:
    if len({*paths}) != len(paths):
        twice = next(path for path in paths if paths.count(path) > 1)
        raise _refused(name, f"{twice} is there twice")


def _read(chunks: Iterable[bytes], name: str, folder: DvcObject) -> bytes:
    body = bytearray()
    for chunk in chunks:
        body += chunk
        if len(body) > MAX_FOLDER_BYTES:
            raise _refused(name, f"the list of {folder.path} has more than {MAX_FOLDER_BYTES:,} bytes")
    return bytes(body)


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:160]


def _refused(name: str, problem: str, remedy: str = "") -> RequestRefused:
    return RequestRefused(
        f"{name} cannot be read as a .dvc file: {problem}.",
        code="dvc_file_refused",
        remedy=remedy or "Give the file as dvc add writes it.",
    )
