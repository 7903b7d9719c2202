"""Sequences become tensors."""

from __future__ import annotations

from collections import abc
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.nn import functional

from training_container.corpus.rows import Sequence, tokens_in


@dataclass(frozen=True, slots=True)
class Batch:
    """Lines of packed rows, padded to the longest.

    Shapes: `ids` and `positions` (lines, length). Positions start again at 0 with each row, which is how attention
    is kept inside a row; padding is all zeros, so each padding token is a row of its own. `kept` (k,) are the
    positions at which any line has a target, `chosen` (lines, k) which of them count, `places` (n,) the same as numbers
    over all lines' kept positions side by side, `targets` (n,) the tokens to predict there, line by line.

    Where a line holds several rows, `bounds` (rows + 1,) int32 are where each row begins, all lines side by side and a
    line's padding as a row, and last where they end; `longest` is the longest row's length.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    kept: torch.Tensor
    chosen: torch.Tensor
    places: torch.Tensor
    targets: torch.Tensor
    bounds: torch.Tensor | None = None
    longest: int = 0

    def to(self, device: torch.device) -> Batch:
        """The same batch on another device. The host does not wait for the copy to a GPU."""
        return Batch(*(_moved(getattr(self, name), device) for name in self.__slots__))


def collate(sequences: list[Sequence], pad: int) -> Batch:
    """One batch of these sequences."""
    length = max(tokens_in(sequence) for sequence in sequences)
    shape = (len(sequences), length)
    ids = torch.full(shape, pad, dtype=torch.long)
    positions = torch.zeros(shape, dtype=torch.long)
    predicts = torch.zeros(shape, dtype=torch.bool)
    for line, sequence in enumerate(sequences):
        start = 0
        for row in sequence:
            end = start + len(row)
            ids[line, start:end] = row.ids
            positions[line, start:end] = torch.arange(len(row))
            predicts[line, start : end - 1] = row.trained[1:]
            start = end
    kept = predicts.any(dim=0).nonzero().squeeze(1)
    chosen = predicts[:, kept]
    places = chosen.flatten().nonzero().squeeze(1)
    batch = Batch(ids, positions, kept, chosen, places, ids.roll(-1, dims=1)[predicts])
    return replace(batch, **_bounds(sequences, length)) if any(len(sequence) > 1 for sequence in sequences) else batch


def split(sequences: abc.Sequence[Sequence], size: int) -> Iterator[list[Sequence]]:
    """Micro-batches of at most `size` sequences, in order."""
    for start in range(0, len(sequences), size):
        yield list(sequences[start : start + size])


def _bounds(sequences: list[Sequence], length: int) -> dict[str, Any]:
    lengths = [[len(row) for row in sequence] for sequence in sequences]
    rows = [each for line in lengths for each in (*line, length - sum(line)) if each]
    bounds = functional.pad(torch.tensor(rows).cumsum(0), (1, 0)).to(torch.int32)
    return {"bounds": bounds, "longest": max(rows)}


def _moved(part: Any, device: torch.device) -> Any:
    if not isinstance(part, torch.Tensor):
        return part
    return (part.pin_memory() if device.type == "cuda" else part).to(device, non_blocking=True)
