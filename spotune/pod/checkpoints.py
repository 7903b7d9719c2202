"""Checkpoint sync of one host: S3 to disk before a start, changed files to S3 while it runs. Deletes nothing in S3."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from math import inf
from pathlib import Path

from spotune.contracts.layout import split_uri
from spotune.contracts.training import MANIFEST_NAME
from spotune.pod.objects import Objects

Signature = tuple[int, int]
"""Size and time of change; a file that has the same two has not changed."""

RESTLESS = 3
"""Settling times that a file may go on changing before it is taken as it is."""

log = logging.getLogger(__name__)


class CheckpointSync:
    """One folder and one prefix.

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
        """Download what lies below the prefix, as far as it is wanted by its name there."""
        _, prefix = split_uri(self._uri)
        for source in self._objects.list(self._uri):
            name = source.key.removeprefix(prefix)
            if not wanted(name):
                continue
            target = self._folder / name
            if not target.resolve().is_relative_to(self._folder.resolve()):
                raise ValueError(f"the key {source.key!r} has no place in a folder")
            self._objects.download(source, target)
            self._uploaded[target] = _signature(target) or (0, 0)

    def push(self, *, final: bool = False) -> int:
        """Upload what has changed; returns how many files. `final` takes also what changed this moment."""
        settled_at = inf if final else time.time() - self._settle
        open_folders: set[Path] = set()
        pushed = 0
        found = {path: signature for path in self._folder.rglob("*") if (signature := _signature(path)) is not None}
        # Manifests last, and older files first: a newer checkpoint is never whole in S3 before an older one.
        for path in sorted(found, key=lambda path: (path.name == MANIFEST_NAME, found[path][1], path)):
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


def _signature(path: Path) -> Signature | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return (status.st_size, status.st_mtime_ns) if path.is_file() else None
