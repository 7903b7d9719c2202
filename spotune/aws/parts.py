"""How bytes are cut into the parts of an upload or a copy, within S3's limits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from spotune.aws.base import ObjectMissing, UploadedPart

MIN_PART_BYTES = 8 * 1024**2
"""S3 takes parts of 5 MiB and more; larger ones mean fewer requests."""

MAX_PARTS = 2_000
"""Of one upload: one answer of a Lambda (6 MB) must carry the URLs of all. S3 would take 10,000."""

MAX_COPIED_PARTS = 10_000
"""Of one copy: S3's own limit."""


def part_bytes(total: int) -> int:
    """Bytes of every part but the last, so that `total` bytes fit into `MAX_PARTS`."""
    needed = -(-total // MAX_PARTS)
    mebibytes = -(-needed // 1024**2)
    return max(MIN_PART_BYTES, mebibytes * 1024**2)


def copied_parts(total: int, part: int) -> dict[int, tuple[int, int]]:
    """First and last byte of every part of a copy, by number; parts grow so that S3's 10,000 are enough."""
    size = max(part, -(-total // MAX_COPIED_PARTS))
    return {
        number: (first, min(first + size, total) - 1) for number, first in enumerate(range(0, total, size), start=1)
    }


def in_parts(chunks: Iterable[bytes], size: int) -> Iterator[bytes]:
    """The same bytes in pieces of this size, the last one shorter."""
    held = bytearray()
    for chunk in chunks:
        held += chunk
        while len(held) >= size:
            yield bytes(held[:size])
            del held[:size]
    if held:
        yield bytes(held)


def check_parts(uri: str, parts: tuple[UploadedPart, ...]) -> None:
    """S3 would join whatever parts there are: refuse an upload with none, or with a hole.

    Raises:
        ObjectMissing: naming the first part that has not arrived.
    """
    for expected, part in enumerate(parts, start=1):
        if part.number != expected:
            raise ObjectMissing(uri, f"part {expected} has not been uploaded")
    if not parts:
        raise ObjectMissing(uri, "part 1 has not been uploaded")
