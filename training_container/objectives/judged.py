"""Rows line by line, and the log-probability that a model gives to the trained tokens of each."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import torch

from training_container.corpus import Batch, Row, collate
from training_container.objectives.coverage import check_targets
from training_container.objectives.supervised import target_losses


@dataclass(frozen=True, slots=True)
class Judged:
    """A batch of one row a line.

    Shapes: `owners` (targets,) the line of each target; `references` (lines,) what the base model gives to each row,
    in fp32; `desirable` (lines,) bool.
    """

    batch: Batch
    owners: torch.Tensor
    references: torch.Tensor
    desirable: torch.Tensor

    def __len__(self) -> int:
        return len(self.references)

    def to(self, device: torch.device) -> Judged:
        """The same on another device."""
        return Judged(*(getattr(self, one.name).to(device) for one in fields(self)))


def judged(rows: list[Row], pad: int) -> Judged:
    """These rows, padded to the longest."""
    batch = check_targets(collate([(row,) for row in rows], pad))
    return Judged(
        batch,
        torch.repeat_interleave(batch.chosen.sum(dim=1)),
        torch.tensor([row.reference for row in rows], dtype=torch.float32),
        torch.tensor([row.desirable for row in rows]),
    )


def check_references(rows: Judged) -> Judged:
    """The rows, if the base model's log-probability of each is known."""
    if rows.references.isnan().any():
        raise RuntimeError("a row has no reference: the base model was not asked before training")
    return rows


def token_logps(model: Any, rows: Judged) -> torch.Tensor:
    """Log-probabilities of the targets, in nats: (targets,) in fp32."""
    return -target_losses(model, rows.batch)


def summed(values: torch.Tensor, rows: Judged) -> torch.Tensor:
    """Sum of each row's targets' values: (lines,)."""
    return torch.zeros(len(rows), dtype=values.dtype, device=values.device).index_add(0, rows.owners, values)


def row_logps(model: Any, rows: Judged) -> torch.Tensor:
    """Log-probability of each row's trained tokens, in nats: (lines,) in fp32."""
    return summed(token_logps(model, rows), rows)
