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

# Bounds of `difference`, about three times (of QUANTIZED twice) the most that was measured: docs/training.md.
SAME = 1e-3
"""Between models of the same weights in fp32, whose products may be summed in another order."""
ROUNDED = 0.1
"""Between models whose weights or activations have 16 bits."""
EIGHT_BITS = 0.2
"""Between 16-bit weights and the same as q8_0."""
QUANTIZED = 0.8
"""Between a base model in 16 bits and in the 4 or 8 that it was trained in."""
SHARE = 0.5
"""How much less or more of the adapter's effect than all of it may be there: none is 0 of it, twice the scale 2."""


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

    def check(self, model: Any, bound: float, what: str, untouched: torch.Tensor | None = None) -> float:
        """How far a model is from the trained one: at most `bound`, and with about all of the adapter's effect.

        Rounding moves logits every way, an adapter that is missing or scaled otherwise moves them along its effect. An
        effect of less than half the bound cannot be told from rounding, and is not looked for.

        Args:
            untouched: what the model says without its adapter, where that is another base model than the trained one's.

        Raises:
            Mismatch: it is farther away, or the effect is not there; `what` names it.
        """
        said = self.ask(model)
        error = difference(said, self.trained)
        if not error <= bound:  # a NaN is no small difference
            raise Mismatch(f"{what} differs from the trained model: its logits by {error:.2g}, allowed {bound:.2g}")
        if self.base is not None and difference(self.base, self.trained) > bound / 2:
            share = effect(said - (self.base if untouched is None else untouched), self.trained - self.base)
            if abs(share - 1) > SHARE:
                raise Mismatch(f"{what} differs from the trained model: it has {share:.2g} of the adapter's effect")
        return error


def difference(one: torch.Tensor, other: torch.Tensor) -> float:
    """Size of the difference of two (positions, vocabulary) logits, as a share of the size of the second.

    A constant added to all logits of a position changes no probability, and does not count.
    """
    one, other = _centred(one), _centred(other)
    return float((one - other).norm() / other.norm())


def effect(gone: torch.Tensor, whole: torch.Tensor) -> float:
    """Which share of a change of logits another one has gone; 1 is all of it, 0 another direction."""
    gone, whole = _centred(gone), _centred(whole)
    return float((gone * whole).sum() / (whole * whole).sum())


def _centred(logits: torch.Tensor) -> torch.Tensor:
    return logits.double() - logits.double().mean(dim=1, keepdim=True)


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
