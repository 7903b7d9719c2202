"""An accepted file, as the choice of rows sees it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from spotune.contracts.rules import Arrival, ManifestEntry

Open = Callable[[str, str], Iterable[bytes]]
"""Opens an object version: its URI and its version's id, which is empty for the present one. A second time gives the
same bytes. Raises what the caller likes where there is none."""


@dataclass(frozen=True, slots=True)
class Source:
    """One object version whose rows have been hashed. `rows` and `sha256` are those of its check."""

    uri: str
    version_id: str
    sha256: str
    bytes: int
    rows: int
    hashes_uri: str


def source_of(arrival: Arrival) -> Source:
    """An accepted arrival.

    Raises:
        ValueError: it was never accepted, so that its rows are not known.
    """
    if arrival.sha256 is None or arrival.rows is None or arrival.hashes_uri is None:
        raise ValueError(f"{arrival.uri} has not been accepted")
    return Source(
        uri=arrival.uri,
        version_id=version_of(arrival),
        sha256=arrival.sha256,
        bytes=arrival.bytes,
        rows=arrival.rows,
        hashes_uri=arrival.hashes_uri,
    )


def version_of(arrival: Arrival) -> str:
    """The version to ask for; empty where its bucket keeps none: its ETag stands for it then, and is none."""
    return "" if arrival.version_id == arrival.etag else arrival.version_id


def whole(source: Source, role: str = "new") -> ManifestEntry:
    """The entry of a file of which every row is taken, such as a champion's that no rule has trained."""
    return ManifestEntry.model_validate(
        {
            "uri": source.uri,
            "version_id": source.version_id,
            "sha256": source.sha256,
            "bytes": source.bytes,
            "rows": source.rows,
            "taken": source.rows,
            "role": role,
        }
    )
