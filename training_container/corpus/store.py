"""All rows of one file as tokens on disk: flat columns that are read piece by piece, never as a whole."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError

from spotune.contracts.base import Contract
from training_container.corpus.rows import Row
from training_container.folders import replace_file

INDEX_NAME = "index.json"
DIGEST_BYTES = 16
COLUMNS: dict[str, np.dtype] = {
    "ids": np.dtype("<i4"),
    "trained": np.dtype("?"),
    "lengths": np.dtype("<i4"),
    "targets": np.dtype("<i4"),
    "digests": np.dtype(f"V{DIGEST_BYTES}"),
    "slices": np.dtype("<i4"),
    "desirable": np.dtype("?"),
}
"""`ids` and `trained` have an entry a token; the others one a row: its tokens, its tokens with loss, its content,
the number of its slice's name, and whether it is a good answer."""
MAX_SLICES = 10_000
"""Different names that a file may have; further ones count as none."""


class ColumnFile(Contract):
    """One column's file."""

    bytes: int
    sha256: str


class Index(Contract):
    """`index.json`, written last: what does not agree with it is no store."""

    columns: dict[str, ColumnFile]
    slices: tuple[str, ...]
    """Names of slices; the first is empty, for rows without."""
    choices: bool
    """Some row has choices."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """One row on its way into a store. A row that carries no loss has no tokens.

    Shapes: `ids` and `trained` (length,).
    """

    ids: NDArray[np.int32]
    trained: NDArray[np.bool_]
    digest: bytes
    """What decides whether it is held out: 16 bytes, equal for rows that belong on the same side."""
    slice: str = ""
    choices: bool = False
    desirable: bool = True


class StoreWriter:
    """Writes rows to a new folder, which is a store only once it is closed."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._folder = folder
        self._files: dict[str, IO[bytes]] = {name: (folder / name).open("wb") for name in COLUMNS}
        self._hashes = {name: hashlib.sha256() for name in COLUMNS}
        self._slices = {"": 0}
        self._choices = False

    def add(self, rows: Iterable[Encoded]) -> None:
        """Append these rows."""
        listed = list(rows)
        if not listed:
            return
        self._append("ids", np.concatenate([row.ids for row in listed]))
        self._append("trained", np.concatenate([row.trained for row in listed]))
        self._append("lengths", np.array([len(row.ids) for row in listed]))
        self._append("targets", np.array([row.trained.sum() for row in listed]))
        self._append("digests", np.array([row.digest for row in listed], dtype=COLUMNS["digests"]))
        self._append("slices", np.array([self._slice(row.slice) for row in listed]))
        self._append("desirable", np.array([row.desirable for row in listed]))
        self._choices = self._choices or any(row.choices for row in listed)

    def close(self) -> None:
        """Finish the columns and write the index."""
        columns = {}
        for name, file in self._files.items():
            columns[name] = ColumnFile(bytes=file.tell(), sha256=self._hashes[name].hexdigest())
            file.close()
        index = Index(columns=columns, slices=tuple(self._slices), choices=self._choices)
        replace_file(self._folder / INDEX_NAME, index.model_dump_json().encode())

    def _slice(self, name: str) -> int:
        if name in self._slices:
            return self._slices[name]
        return self._slices.setdefault(name, len(self._slices)) if len(self._slices) < MAX_SLICES else 0

    def _append(self, column: str, values: NDArray[np.generic]) -> None:
        content = values.astype(COLUMNS[column], copy=False).tobytes()
        self._hashes[column].update(content)
        self._files[column].write(content)


class TokenStore:
    """The rows of a store's folder, in the file's order.

    Memory holds 21 bytes a row. Tokens are read from the file when a row is asked for, not mapped: mapped pages count
    as this process's memory, and a mapped file that is cut short kills the process. Rows may be read by several
    threads, also after the folder was removed.
    """

    def __init__(self, folder: Path) -> None:
        """
        Raises:
            ValueError: the folder holds no store, or a damaged one; says what is wrong.
        """
        index = _verify(folder)
        self.has_choices = index.choices
        self._slice_names = index.slices
        self._slices = np.fromfile(folder / "slices", COLUMNS["slices"])
        self.lengths = np.fromfile(folder / "lengths", COLUMNS["lengths"])
        self.targets = np.fromfile(folder / "targets", COLUMNS["targets"])
        """Tokens with loss of each row."""
        self._desirable = np.fromfile(folder / "desirable", COLUMNS["desirable"])
        self._begins = np.concatenate([[0], np.cumsum(self.lengths, dtype=np.int64)])
        self._ids = (folder / "ids").open("rb", buffering=0)
        self._trained = (folder / "trained").open("rb", buffering=0)
        self._digests = folder / "digests"

    def __len__(self) -> int:
        return len(self.lengths)

    def row(self, number: int) -> Row:
        """Row `number`, counted from 0."""
        begin, length = int(self._begins[number]), int(self.lengths[number])
        ids = bytearray(os.pread(self._ids.fileno(), 4 * length, 4 * begin))
        trained = bytearray(os.pread(self._trained.fileno(), length, begin))
        name = self._slice_names[self._slices[number]]
        return Row(
            torch.frombuffer(ids, dtype=torch.int32),
            torch.frombuffer(trained, dtype=torch.bool),
            name,
            bool(self._desirable[number]),
        )

    def digests(self) -> Iterable[bytes]:
        """The digest of each row's content, in order."""
        with self._digests.open("rb") as file:
            while digest := file.read(DIGEST_BYTES):
                yield digest


def _verify(folder: Path) -> Index:
    try:
        index = Index.model_validate_json((folder / INDEX_NAME).read_bytes())
    except FileNotFoundError:
        raise ValueError("it was never finished") from None
    except ValidationError:
        raise ValueError(f"its {INDEX_NAME} is damaged") from None
    if index.columns.keys() != COLUMNS.keys():
        raise ValueError("it has other columns")
    for name, expected in index.columns.items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != expected.bytes:
            raise ValueError(f"{name} is missing or cut short")
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != expected.sha256:
                raise ValueError(f"{name} has another sha256 than its index says")
    return index
