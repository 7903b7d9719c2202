"""Sequences become tensors."""

from __future__ import annotations

from collections import abc
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from training_container.corpus.rows import Sequence, tokens_in


@dataclass(frozen=True, slots=True)
class Batch:
    """Lines of packed rows, padded to the longest.

    Shapes: `ids` and `positions` (lines, length). Positions start again at 0 with each row, which is how attention
    is kept inside a row; padding is all zeros, so each padding token is a row of its own. `kept` (k,) are the
    positions at which any line has a target, `chosen` (lines, k) which of them count, `places` (n,) the same as numbers
    over all lines' kept positions side by side, `targets` (n,) the tokens to predict there, line by line.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    kept: torch.Tensor
    chosen: torch.Tensor
    places: torch.Tensor
    targets: torch.Tensor

    def to(self, device: torch.device) -> Batch:
        """The same batch on another device. The host does not wait for the copy to a GPU."""
        tensors = [getattr(self, name) for name in self.__slots__]
        if device.type == "cuda":
            tensors = [tensor.pin_memory() for tensor in tensors]
        return Batch(*(tensor.to(device, non_blocking=True) for tensor in tensors))


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
    return Batch(ids, positions, kept, chosen, places, ids.roll(-1, dims=1)[predicts])


def split(sequences: abc.Sequence[Sequence], size: int) -> Iterator[list[Sequence]]:
    """Micro-batches of at most `size` sequences, in order."""
    for start in range(0, len(sequences), size):
        yield list(sequences[start : start + size])
