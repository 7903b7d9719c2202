"""Whether a model that was read back is the one that was trained: their logits on some held-out rows."""

from __future__ import annotations

from collections import abc
from dataclasses import dataclass, replace
from typing import Any

import torch

from training_container.corpus import Batch, Row, Sequence, collate
from training_container.device import Machine, evaluating
from training_container.methods import base_of
from training_container.objectives.supervised import target_logits

ROWS = 4
LENGTH = 256
POSITIONS = 8
"""The last trained tokens of each row, before each of which the whole vocabulary is compared."""

SAME = 1e-3
"""Between models of the same weights in fp32, whose products may be summed in another order."""
ROUNDED = 0.05
"""Between models whose weights or activations have 16 bits. Measured: see docs/training.md."""
EIGHT_BITS = 0.1
"""Between 16-bit weights and the same as q8_0."""
QUANTIZED = 0.5
"""Between a base model in 16 bits and in the 4 or 8 that it was trained in: another adapter is farther away."""
UNNOTICED = 0.01
"""An adapter that changes the logits less than this cannot be told from rounding."""


class Mismatch(RuntimeError):
    """What was written is not what was trained."""


@dataclass(frozen=True, slots=True)
class Probe:
    """Held-out rows and what the trained model says to them.

    Shapes: `trained` and `base` (positions, vocabulary), fp32 on the CPU. `base` is what the model says without its
    adapter; None where it has none.
    """

    batch: Batch
    machine: Machine
    trained: torch.Tensor
    base: torch.Tensor | None

    @classmethod
    def of(cls, model: Any, sequences: abc.Sequence[Sequence], pad: int, machine: Machine, *, adapter: bool) -> Probe:
        """Ask the trained model."""
        rows = [row for number in range(min(ROWS, len(sequences))) for row in sequences[number]][:ROWS]
        batch = collate([(_shortened(row),) for row in rows], pad)
        trained = _logits(model, batch, machine)
        base = None
        if adapter:
            with base_of(model):
                base = _logits(model, batch, machine)
        return cls(batch, machine, trained, base)

    def ask(self, model: Any) -> torch.Tensor:
        """Another model's logits at the same places."""
        return _logits(model, self.batch, self.machine)

    def on(self, machine: Machine) -> Probe:
        """The same rows asked on another machine."""
        return replace(self, machine=machine)

    def expecting(self, trained: torch.Tensor, base: torch.Tensor | None) -> Probe:
        """The same rows with another model's answers to compare with."""
        return replace(self, trained=trained, base=base)

    def check(self, model: Any, bound: float, what: str) -> float:
        """How far a model is from the trained one; at most `bound`, and much nearer to it than the base model is.

        Raises:
            Mismatch: it is farther away; `what` names it.
        """
        error = difference(self.ask(model), self.trained)
        allowed = bound
        if self.base is not None:
            allowed = min(bound, max(difference(self.base, self.trained) / 2, UNNOTICED))
        if not error <= allowed:  # a NaN is no small difference
            raise Mismatch(f"{what} differs from the trained model: its logits by {error:.2g}, allowed {allowed:.2g}")
        return error


def difference(one: torch.Tensor, other: torch.Tensor) -> float:
    """Size of the difference of two (positions, vocabulary) logits, as a share of the size of the second.

    A constant added to all logits of a position changes no probability, and does not count.
    """
    one, other = (each.double() - each.double().mean(dim=1, keepdim=True) for each in (one, other))
    return float((one - other).norm() / other.norm())


def _logits(model: Any, batch: Batch, machine: Machine) -> torch.Tensor:
    with evaluating(model), machine.autocast():
        return target_logits(model, batch.to(machine.device)).cpu()


def _shortened(row: Row) -> Row:
    """Its first tokens, of which only the last trained ones count."""
    trained = row.trained[:LENGTH].clone()
    places = trained.nonzero().squeeze(1)
    trained[places[:-POSITIONS]] = False
    if not len(places):
        trained[-1:] = True
    return Row(row.ids[:LENGTH], trained)
