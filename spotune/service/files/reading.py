"""Reads the files that a dataset is made of: often thousands of small ones, and each several times."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from spotune.aws.base import ObjectMissing, ObjectStore
from spotune.data.assembly.refusals import gone

SMALL_BYTES = 1024**2
KEPT_BYTES = 256 * 1024**2
AT_ONCE = 16
"""An object of S3's takes some 20 ms, whatever its size: one after another, ten thousand take minutes each time."""
FEW = 16


T = TypeVar("T")
R = TypeVar("R")


def each(work: Callable[[T], R], things: Sequence[T]) -> list[R]:
    """The same work for each, many at a time; a few one after another."""
    if len(things) <= FEW:
        return [work(one) for one in things]
    with ThreadPoolExecutor(AT_ONCE) as threads:
        return list(threads.map(work, things))


class Reader:
    """Opens object versions (`Open` of spotune/data/assembly), and says which one is gone. What was fetched stays in
    memory, small objects within `KEPT_BYTES`; all others are streamed each time."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects
        self._kept: dict[tuple[str, str], bytes] = {}
        self._room = KEPT_BYTES

    def __call__(self, uri: str, version_id: str) -> Iterator[bytes]:
        """The object's bytes, in chunks.

        Raises:
            DatasetChanged: there is no such object any more.
        """
        kept = self._kept.get((uri, version_id))
        if kept is not None:
            return iter((kept,))
        try:
            return self._objects.stream(uri, version_id=version_id)
        except ObjectMissing:
            raise gone(uri, version_id) from None

    def fetch(self, wanted: Iterable[tuple[str, str, int]]) -> None:
        """Read small objects beforehand, many at a time. What is gone is left to whoever opens it.

        Args:
            wanted: URI, version and bytes of each.

        Raises:
            Unavailable: S3 does not answer.
        """
        chosen: list[tuple[str, str]] = []
        for uri, version_id, size in wanted:
            if size <= min(SMALL_BYTES, self._room) and (uri, version_id) not in self._kept:
                self._room -= size
                chosen.append((uri, version_id))
        for name, body in zip(chosen, each(self._read, chosen), strict=True):
            if body is not None:
                self._kept[name] = body

    def _read(self, name: tuple[str, str]) -> bytes | None:
        try:
            return b"".join(self._objects.stream(name[0], version_id=name[1]))
        except ObjectMissing:
            return None
