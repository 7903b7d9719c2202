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
    logits = target_logits(model, batch)
    losses = functional.cross_entropy(logits, batch.targets, reduction="none").double().cpu()
    targets = [int(row.trained.sum()) for sequence in sequences for row in sequence]
    return [float(part.sum()) for part in torch.split(losses, targets)]


def loss_sum(model: torch.nn.Module, batch: Batch) -> torch.Tensor:
    """Sum, not mean, of the cross-entropies of a batch's targets: a scalar in fp32.

    Divided by the number of targets of the *global* batch it gives each token the same weight, however the batch is
    cut into micro-batches. The vocabulary projection runs at `batch.kept` alone. No attention mask is passed: an
    all-ones mask would switch off the separation of packed rows by their positions.
    """
    return functional.cross_entropy(target_logits(model, batch), batch.targets, reduction="sum")


def target_logits(model: torch.nn.Module, batch: Batch) -> torch.Tensor:
    """Logits where a target follows, in fp32: (targets, vocabulary)."""
    output = model(
        input_ids=batch.ids,
        position_ids=batch.positions,
        attention_mask=None,
        use_cache=False,
        logits_to_keep=batch.kept,
        **row_bounds(model, batch),
    )
    logits: torch.Tensor = output.logits
    if logits.shape[1] != len(batch.kept):  # an architecture that takes no positions answers with all of them
        logits = logits[:, batch.kept]
    flat = logits.flatten(0, 1)
    # By numbers: of a mask a GPU would have to tell the host how many are set. One line keeps no other positions.
    return (flat if len(flat) == len(batch.places) else flat.index_select(0, batch.places)).float()
