"""ORPO: learn the preferred answer, and by odds to prefer it, without a reference model."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import Any

import torch

from training_container.corpus import Row, Sequence
from training_container.objectives.base import Batches
from training_container.objectives.judged import Judged, judged, summed, token_logps


@dataclass(frozen=True, slots=True)
class Pairs:
    """The preferred rows with every token as a target, then the rejected ones with their answers'.

    Shapes: `answered` (targets,) bool: the target belongs to the answer, not to the prompt.
    """

    rows: Judged
    answered: torch.Tensor

    def to(self, device: torch.device) -> Pairs:
        """The same on another device."""
        return Pairs(*(getattr(self, one.name).to(device) for one in fields(self)))


class ORPO:
    """Mean cross-entropy over the tokens of the preferred rows, prompts included as in TRL, plus beta times the mean
    odds-ratio loss over the pairs: two means over the global batch, each exact."""

    uses_reference = False

    def __init__(self, beta: float) -> None:
        self._beta = beta

    def totals(self, model: Any, sequences: Iterable[Sequence], batches: Batches) -> torch.Tensor:
        """Predicted tokens of the preferred rows, and pairs."""
        tokens = [len(sequence[0]) - 1 for sequence in sequences]
        return torch.tensor([sum(tokens), len(tokens)], dtype=torch.float64)

    def collate(self, sequences: list[Sequence], pad: int) -> Pairs:
        """The preferred rows, then the rejected ones in the same order."""
        preferred, rejected = ([sequence[side] for sequence in sequences] for side in (0, 1))
        answered = [row.trained[1:] for row in preferred] + [row.trained[row.trained] for row in rejected]
        return Pairs(judged([*map(_whole, preferred), *rejected], pad), torch.cat(answered))

    def loss(self, model: Any, batch: Pairs, totals: torch.Tensor) -> torch.Tensor:
        """Both sums, each over its total."""
        return self.measured(model, batch, totals)[0]

    def measured(self, model: Any, batch: Pairs, totals: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The loss, and by how much each pair's preferred answer is the likelier one, in nats a token: (pairs,)."""
        from training_container.objectives.formulas import ORPOFormula  # TRL takes seconds to import

        logps, rows = token_logps(model, batch.rows), batch.rows
        pairs = len(rows) // 2
        learned = -logps[rows.owners < pairs].sum() / float(totals[0])
        answered = batch.answered.to(logps.dtype)
        chosen, rejected = (summed(logps * answered, rows) / summed(answered, rows)).chunk(2)
        preferred = ORPOFormula(self._beta, logps.device).sum(chosen, rejected) / float(totals[1])
        return learned + preferred, (chosen - rejected).detach()


def _whole(row: Row) -> Row:
    """The row with every token but the first as a target."""
    trained = torch.ones_like(row.trained)
    trained[:1] = False
    return replace(row, trained=trained)
