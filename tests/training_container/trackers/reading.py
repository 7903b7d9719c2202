"""What the trackers kept, read back with readers of their own kind."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from wandb.proto import wandb_internal_pb2

BLOCK, HEADER, FIRST_HEADER = 32768, 7, 7


def events_in(folder: Path) -> EventAccumulator:
    """TensorBoard's own reader, everything read."""
    reader = EventAccumulator(str(folder))
    reader.Reload()
    return reader


def scalars(folder: Path, name: str) -> list[tuple[int, float]]:
    """Step and value of one curve, as TensorBoard draws it."""
    return [(event.step, round(event.value, 6)) for event in events_in(folder).Scalars(name)]


def offline_runs(folder: Path) -> list[Path]:
    """The folders that `wandb sync` takes."""
    return sorted(folder.glob("wandb/offline-run-*"))


def wandb_records(run: Path) -> list[Any]:
    """The records of an offline run: a log in LevelDB's format, each a message of W&B's own protocol."""
    (path,) = run.glob("*.wandb")
    return [wandb_internal_pb2.Record.FromString(data) for data in _chunks(path.read_bytes())]


def wandb_history(run: Path) -> list[dict[str, Any]]:
    """Its rows, `_step` among the values."""
    kept = []
    for record in wandb_records(run):
        if record.WhichOneof("record_type") == "history":
            items = record.history.item
            kept.append({item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in items})
    return kept


def _chunks(content: bytes) -> Iterator[bytes]:
    assert content.startswith(b":W&B")
    position, gathered = FIRST_HEADER, b""
    while position + HEADER <= len(content):
        left = BLOCK - position % BLOCK
        if left < HEADER:
            position += left
            continue
        length = int.from_bytes(content[position + 4 : position + 6], "little")
        kind = content[position + 6]
        gathered += content[position + HEADER : position + HEADER + length]
        position += HEADER + length
        if kind in (1, 4):
            yield gathered
            gathered = b""
