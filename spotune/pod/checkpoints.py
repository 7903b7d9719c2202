"""Checkpoint sync of one host: S3 to disk before a start, changed files to S3 while it runs. Deletes nothing in S3."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable
from math import inf
from pathlib import Path, PurePosixPath

from pydantic import ValidationError

from spotune.contracts.checkpoint import best_of
from spotune.contracts.layout import split_uri
from spotune.contracts.training import MANIFEST_NAME, Manifest
from spotune.pod.objects import Objects

Signature = tuple[int, int]
"""Size and time of change; a file that has the same two has not changed."""

RESTLESS = 3
"""Settling times that a file may go on changing before it is taken as it is."""

log = logging.getLogger(__name__)


class CheckpointSync:
    """One folder and one prefix. Names that begin with a dot are working places, and stay where they are.

    A file goes up once it has stood still for `settle` seconds, and again when it changes; one that never stands still
    goes up as it is after a few times that. A folder's manifest goes up only after all other files of its folder have,
    so that a manifest in S3 never promises what is not there.
    """

    def __init__(self, objects: Objects, uri: str, folder: Path, settle: float) -> None:
        self._objects = objects
        self._uri = uri if uri.endswith("/") else f"{uri}/"
        self._folder = folder
        self._settle = settle
        self._uploaded: dict[Path, Signature] = {}
        self._restless: dict[Path, float] = {}

    def restore(self, wanted: Callable[[str], bool] = lambda _: True) -> None:
        """Download what lies below the prefix, as far as it is wanted by its name there; begun again, what is left."""
        _, prefix = split_uri(self._uri)
        for source in self._objects.list(self._uri):
            name = source.key.removeprefix(prefix)
            target = self._folder / name
            if target in self._uploaded or _is_working_place(name) or not wanted(name):
                continue
            if not target.resolve().is_relative_to(self._folder.resolve()):
                raise ValueError(f"the key {source.key!r} has no place in a folder")
            self._objects.download(source, target)
            self._uploaded[target] = _signature(target) or (0, 0)

    def push(self, *, final: bool = False) -> int:
        """Upload what has changed, one checkpoint after the other; returns how many files.

        Older ones come first, so that a newer one is never whole in S3 before an older one. `final` takes also what
        changed this moment. It may be cut off anywhere, and begins with what a resume needs: the best, the newest.
        """
        settled_at = inf if final else time.time() - self._settle
        open_folders: set[Path] = set()
        pushed = 0
        found = self._found()
        for path in self._in_order(found, final=final):
            signature = found[path]
            if self._uploaded.get(path) == signature:
                continue
            promises_too_much = path.name == MANIFEST_NAME and path.parent in open_folders
            restless = signature[1] > settled_at * 1e9 and self._is_young(path)
            if promises_too_much or restless or not self._push_file(path, signature):
                open_folders.update(path.parents)
            else:
                pushed += 1
        return pushed

    def _found(self) -> dict[Path, Signature]:
        return {
            path: signature
            for path in self._folder.rglob("*")
            if not _is_working_place(path.relative_to(self._folder).as_posix())
            and (signature := _signature(path)) is not None
        }

    def _in_order(self, found: dict[Path, Signature], *, final: bool) -> list[Path]:
        """What lies beside the folders, then folder by folder, the manifest last in each."""
        changed: dict[str, int] = {}
        for path, (_, changed_at) in found.items():
            changed[self._within(path)] = max(changed_at, changed.get(self._within(path), 0))
        best = best_of(self._manifests(found)) if final else None

        def place(path: Path) -> tuple[bool, bool, int, str, bool, int, Path]:
            within = self._within(path)
            turn = -changed[within] if final else changed[within]
            return within != "", within != best, turn, within, path.name == MANIFEST_NAME, found[path][1], path

        return sorted(found, key=place)

    def _within(self, path: Path) -> str:
        """The folder that a file belongs to; empty for one that lies beside them."""
        folder, *inner = path.relative_to(self._folder).parts
        return folder if inner else ""

    def _manifests(self, found: dict[Path, Signature]) -> dict[str, Manifest]:
        manifests = {}
        for path in found:
            if path.name == MANIFEST_NAME:
                with contextlib.suppress(OSError, ValidationError):
                    manifests[self._within(path)] = Manifest.model_validate_json(path.read_bytes())
        return manifests

    def _is_young(self, path: Path) -> bool:
        """True while a changing file has not been waited for long enough."""
        return time.time() - self._restless.setdefault(path, time.time()) < RESTLESS * self._settle

    def _push_file(self, path: Path, signature: Signature) -> bool:
        try:
            self._objects.put(path, f"{self._uri}{path.relative_to(self._folder).as_posix()}")
        except FileNotFoundError:
            return False  # pruned or renamed meanwhile
        if _signature(path) != signature:
            return False
        self._uploaded[path] = signature
        self._restless.pop(path, None)
        return True


def _is_working_place(name: str) -> bool:
    """True for what is below a folder that is being written or replaced, and for a file that is."""
    return any(part.startswith(".") for part in PurePosixPath(name).parts)


def _signature(path: Path) -> Signature | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return (status.st_size, status.st_mtime_ns) if path.is_file() else None
