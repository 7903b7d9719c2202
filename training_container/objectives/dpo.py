"""DPO: the preferred answer gains on the rejected one, measured from the base model."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from training_container.corpus import Sequence
from training_container.objectives.base import Batches
from training_container.objectives.judged import Judged, check_references, judged, row_logps


class DPO:
    """Mean over the pairs of the global batch. A sequence is a pair: the preferred row, then the rejected one."""

    uses_reference = True

    def __init__(self, beta: float) -> None:
        self._beta = beta

    def totals(self, model: Any, sequences: Iterable[Sequence], batches: Batches) -> torch.Tensor:
        """How many pairs there are."""
        return torch.tensor([sum(1 for _ in sequences)], dtype=torch.float64)

    def collate(self, sequences: list[Sequence], pad: int) -> Judged:
        """The preferred rows, then the rejected ones in the same order."""
        return check_references(paired(sequences, pad))

    def loss(self, model: Any, batch: Judged, totals: torch.Tensor) -> torch.Tensor:
        """Summed losses over the pairs of the global batch."""
        return self.measured(model, batch, totals)[0]

    def measured(self, model: Any, batch: Judged, totals: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The loss, and by how much each pair's preferred answer is the likelier one, in nats: (pairs,)."""
        from training_container.objectives.formulas import DPOFormula  # TRL takes seconds to import

        logps = row_logps(model, batch)
        mean = DPOFormula(self._beta, logps.device).mean(logps, batch.references)
        chosen, rejected = logps.detach().chunk(2)
        return mean * (len(chosen) / float(totals[0])), chosen - rejected


def paired(sequences: list[Sequence], pad: int) -> Judged:
    """The first rows of all sequences, then the second ones."""
    return judged([sequence[side] for side in (0, 1) for sequence in sequences], pad)
