"""The rows that a manifest's entry takes of its file, as text."""

from __future__ import annotations

import zlib
from base64 import b64decode, b64encode
from binascii import Error as NoBase64
from typing import Literal

from spotune.contracts.rules import ManifestEntry
from spotune.data.assembly.passes import Bits
from spotune.data.assembly.refusals import damaged_manifest
from spotune.data.assembly.sources import Source

MAX_ROWS = 2**31
"""Of one file: more would take more than 256 MB of bits."""


def entry_of(source: Source, bits: Bits, role: Literal["new", "replay", "frozen"]) -> ManifestEntry:
    """The manifest's entry of a file and its rows that are taken."""
    taken = bits.count
    return ManifestEntry(
        uri=source.uri,
        version_id=source.version_id,
        sha256=source.sha256,
        bytes=source.bytes,
        rows=source.rows,
        taken=taken,
        picked="" if taken in (0, source.rows) else b64encode(zlib.compress(bits.data, 9)).decode(),
        role=role,
    )


def picked_rows(entry: ManifestEntry) -> Bits:
    """The rows that an entry takes.

    Raises:
        DatasetRefused: the entry cannot be true (code `manifest_damaged`); a manifest may come from anywhere.
    """
    if not 0 <= entry.taken <= entry.rows <= min(entry.bytes, MAX_ROWS):
        raise damaged_manifest(entry.uri, f"it takes {entry.taken:,} of {entry.rows:,} rows in {entry.bytes:,} bytes")
    bits = Bits(entry.rows)
    if entry.picked:
        bits.data = _inflated(entry, len(bits.data))
    elif entry.taken:
        bits.add_all()
    if bits.count != entry.taken:
        raise damaged_manifest(entry.uri, f"it takes {entry.taken:,} rows and names {bits.count:,}")
    return bits


def _inflated(entry: ManifestEntry, size: int) -> bytearray:
    """No more than the bits that there must be: what is deflated may be a thousand times as long."""
    try:
        inflater = zlib.decompressobj()
        data = inflater.decompress(b64decode(entry.picked, validate=True), size + 1)
    except (NoBase64, ValueError, zlib.error):
        raise damaged_manifest(entry.uri, "`picked` cannot be read") from None
    if len(data) != size or (entry.rows % 8 and data[-1] >> entry.rows % 8):
        raise damaged_manifest(entry.uri, f"`picked` is not of {entry.rows:,} rows")
    return bytearray(data)
