"""What an objective is."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

import torch

from training_container.corpus import Sequence

Batches = Callable[[], Iterable[tuple[Any, bool]]]
"""This rank's micro-batches of a global batch, as the objective collates them, from the first again at each call. Every
rank has as many, since forward passes may be collective; one that does not count only keeps the others company."""


class Objective(Protocol):
    """A loss that is a mean over the global batch, however that is cut into micro-batches and spread over ranks.

    First `totals` of the whole global batch, added up over ranks; then `loss` of each micro-batch, whose sum is the
    mean loss, and whose gradients' sum is that of the mean loss.
    """

    uses_reference: bool
    """Rows must carry the base model's log-probability of their trained tokens."""

    def totals(self, model: Any, sequences: Iterable[Sequence], batches: Batches) -> torch.Tensor:
        """What the mean is taken over, and whatever else a micro-batch must know of all others.

        A vector in fp64 on the CPU: those of several ranks are added. Most count `sequences`, this rank's, alone; one
        that asks the model does so without gradients, through `batches`.
        """

    def collate(self, sequences: list[Sequence], pad: int) -> Any:
        """One micro-batch of these sequences; `to(device)` moves it.

        Raises:
            TrainingFault: a target would be padding or a token of another row.
        """

    def loss(self, model: Any, batch: Any, totals: torch.Tensor) -> torch.Tensor:
        """The micro-batch's share of the global batch's mean loss: a scalar in fp32."""


class Preference(Objective, Protocol):
    """An objective that compares answers."""

    def measured(self, model: Any, batch: Any, totals: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The same loss, and a margin for each sequence, without gradients: above 0 where the model prefers rightly."""
