"""What an objective is."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

import torch

from training_container.corpus import Batch, Sequence

Batches = Callable[[], Iterable[Batch]]
"""A global batch's micro-batches, from the first again at each call."""


class Objective(Protocol):
    """A loss that is a mean over the global batch, however that is cut into micro-batches and spread over ranks.

    First `totals` of the whole global batch, added up over ranks; then `loss` of each micro-batch, whose sum is the
    mean loss, and whose gradients' sum is that of the mean loss.
    """

    def totals(self, model: Any, sequences: Iterable[Sequence], batches: Batches) -> torch.Tensor:
        """What the mean is taken over, and whatever else a micro-batch must know of all others.

        A vector in fp64 on the CPU: those of several ranks are added. Most count `sequences` alone; one that asks the
        model does so without gradients, through `batches`.
        """

    def collate(self, sequences: list[Sequence], pad: int) -> Batch:
        """One micro-batch of these sequences."""

    def loss(self, model: Any, batch: Batch, totals: torch.Tensor) -> torch.Tensor:
        """The micro-batch's share of the global batch's mean loss: a scalar in fp32."""
