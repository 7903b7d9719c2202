"""The loss: cross-entropy at the trained positions, and nothing computed at the others."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch.nn import functional

from training_container.attention import row_bounds
from training_container.corpus import Batch, Sequence, collate, targets_in
from training_container.objectives.base import Batches
from training_container.objectives.coverage import check_targets
from training_container.projection import asking


class Supervised:
    """Mean cross-entropy of the trained tokens: each token of the global batch has the same weight."""

    uses_reference = False

    def totals(self, model: Any, sequences: Iterable[Sequence], batches: Batches) -> torch.Tensor:
        """How many tokens are trained."""
        return torch.tensor([targets_in(sequences)], dtype=torch.float64)

    def collate(self, sequences: list[Sequence], pad: int) -> Batch:
        """Packed rows, line by line."""
        return check_targets(collate(sequences, pad))

    def loss(self, model: Any, batch: Batch, totals: torch.Tensor) -> torch.Tensor:
        """Summed cross-entropies over the trained tokens of the global batch."""
        return loss_sum(model, batch) / float(totals[0])


def row_losses(model: torch.nn.Module, batch: Batch, sequences: list[Sequence]) -> list[float]:
    """Each row's summed cross-entropy in nats, line by line; `sequences` are those that the batch was made of."""
    losses = target_losses(model, batch).double().cpu()
    targets = [int(row.trained.sum()) for sequence in sequences for row in sequence]
    return [float(part.sum()) for part in torch.split(losses, targets)]


def loss_sum(model: torch.nn.Module, batch: Batch) -> torch.Tensor:
    """Sum, not mean, of the cross-entropies of a batch's targets: a scalar in fp32.

    Divided by the number of targets of the *global* batch it gives each token the same weight, however the batch is
    cut into micro-batches.
    """
    return target_losses(model, batch).sum()


def target_losses(model: torch.nn.Module, batch: Batch) -> torch.Tensor:
    """The cross-entropy of each target, in nats: (targets,) in fp32."""
    with asking(batch) as asked:
        logits = _logits(model, batch)
    if asked.answered:
        return -logits.flatten()
    return functional.cross_entropy(_at_targets(logits, batch), batch.targets, reduction="none")


def target_logits(model: torch.nn.Module, batch: Batch) -> torch.Tensor:
    """Logits where a target follows, in fp32: (targets, vocabulary)."""
    return _at_targets(_logits(model, batch), batch)


def _logits(model: torch.nn.Module, batch: Batch) -> torch.Tensor:
    """The vocabulary projection at `batch.kept` alone. No attention mask is passed: an all-ones mask would switch off
    the separation of packed rows by their positions."""
    output = model(
        input_ids=batch.ids,
        position_ids=batch.positions,
        attention_mask=None,
        use_cache=False,
        logits_to_keep=batch.kept,
        **row_bounds(model, batch),
    )
    logits: torch.Tensor = output.logits
    return logits


def _at_targets(logits: torch.Tensor, batch: Batch) -> torch.Tensor:
    if logits.shape[1] != len(batch.kept):  # an architecture that takes no positions answers with all of them
        logits = logits[:, batch.kept]
    flat = logits.flatten(0, 1)
    # By numbers: of a mask a GPU would have to tell the host how many are set. One line keeps no other positions.
    return (flat if len(flat) == len(batch.places) else flat.index_select(0, batch.places)).float()
