"""KTO: good answers gain on the base model and bad ones lose, each by itself."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

import torch

from training_container.corpus import Sequence
from training_container.objectives.base import Batches
from training_container.objectives.judged import Judged, check_references, judged, row_logps


@dataclass(frozen=True, slots=True)
class Answers:
    """The labelled rows, and as many with an answer to another prompt each."""

    own: Judged
    mismatched: Judged

    def to(self, device: torch.device) -> Answers:
        """The same on another device."""
        return Answers(*(getattr(self, one.name).to(device) for one in fields(self)))


class KTO:
    """Mean over the rows of the global batch.

    Each row is compared with how far the model has moved from its reference altogether: the mean log-ratio of the
    mismatched rows of the *global* batch, taken without gradients before the first micro-batch. TRL takes it over each
    micro-batch (averaged over the ranks), so that there accumulation changes the loss; here it does not. Which answer
    a prompt is mismatched with is fixed by the file, not by the batch.
    """

    uses_reference = True

    def __init__(self, beta: float) -> None:
        self._beta = beta

    def totals(self, model: Any, sequences: Iterable[Sequence], batches: Batches) -> torch.Tensor:
        """How many rows there are, and the sum of the mismatched rows' log-ratios."""
        moved = torch.zeros((), dtype=torch.float64)
        with torch.no_grad():
            for batch, counts in batches():
                logps = row_logps(model, batch.mismatched)
                moved = moved.to(logps.device) + (logps - batch.mismatched.references).double().sum() * counts
        return torch.stack([torch.tensor(sum(1 for _ in sequences), dtype=torch.float64), moved.cpu()])

    def collate(self, sequences: list[Sequence], pad: int) -> Answers:
        """The labelled rows, and the mismatched ones in the same order."""
        own, mismatched = (judged([sequence[side] for sequence in sequences], pad) for side in (0, 1))
        return Answers(check_references(own), check_references(mismatched))

    def loss(self, model: Any, batch: Answers, totals: torch.Tensor) -> torch.Tensor:
        """Summed losses over the rows of the global batch."""
        return self.measured(model, batch, totals)[0]

    def measured(self, model: Any, batch: Answers, totals: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The loss, and by how much each answer is likelier than for the base model, or, a bad one, less likely, in
        nats: (rows,)."""
        from training_container.objectives.formulas import KTOFormula  # TRL takes seconds to import

        own, (rows, moved) = batch.own, totals.tolist()
        logps = row_logps(model, own)
        divergence = torch.tensor(moved / rows, dtype=logps.dtype, device=logps.device)
        mean = KTOFormula(self._beta, logps.device).mean(logps, own.references, own.desirable, divergence)
        gained = (logps.detach() - own.references) * torch.where(own.desirable, 1.0, -1.0)
        # TRL's mean leaves NaN out; a log-probability that is none must not be lost.
        return mean * (len(own) / rows) + 0.0 * logps.sum(), gained
