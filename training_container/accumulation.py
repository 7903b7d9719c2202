"""The gradients of one step: a global batch taken in micro-batches, of which each rank computes its share."""

from __future__ import annotations

from typing import Any

import torch

from training_container.corpus import Sequence
from training_container.device import Machine
from training_container.objectives.base import Objective
from training_container.sharding import Engine
from training_container.sharding.rounds import Round, rounds, share

RANK_SEEDS = 1 << 48
"""Between the seeds of two ranks' dropout: more than any step's own."""


class Accumulation:
    """Adds up gradients in the engine, so that they equal those of the whole batch at once."""

    def __init__(self, engine: Engine, objective: Objective, machine: Machine, *, pad: int, seed: int) -> None:
        self._engine = engine
        self._world = engine.world
        self._objective = objective
        self._machine = machine
        self._pad = pad
        self._seed = seed

    def gradients(self, step: int, sequences: list[Sequence], micro_batch: int) -> float:
        """Gradients of a global batch's mean loss, and that loss, equal on all ranks.

        Args:
            step: decides the dropout, so that a step begun again is the same step.
            sequences: the global batch, of which each rank takes its share.
            micro_batch: sequences in one forward pass.
        """
        torch.manual_seed(self._seed * 1_000_003 + step + self._world.rank * RANK_SEEDS)
        self._engine.begin()
        planned = list(rounds(sequences, micro_batch, self._world))
        with self._machine.autocast():
            mine = share(sequences, self._world)
            own = self._objective.totals(
                self._engine.wrapped, mine, lambda: ((self._batch(one), one.counts) for one in planned)
            )
        totals = self._world.add(own)
        total = torch.zeros((), device=self._machine.device)
        for one in planned:
            with self._engine.micro_batch(last=one.last):
                with self._machine.autocast():
                    loss = self._objective.loss(self._engine.wrapped, self._batch(one), totals) * one.counts
                self._engine.backward(loss)
            total += loss.detach()
        return float(self._world.add(total.double().cpu()))

    def _batch(self, planned: Round[Sequence]) -> Any:
        return self._objective.collate(planned.items, self._pad).to(self._machine.device)
