"""What the base model gives to each row, asked once and kept beside the checkpoints.

For every method alike: no second model in memory, no forward pass of the base in a step, and a run that is resumed
when its weights have long changed still knows where it came from.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from spotune.contracts.checkpoint import REFERENCE_NAME
from training_container.corpus import Corpus, Row, Sequences
from training_container.device import Machine, evaluating, fitting
from training_container.faults import TrainingFault
from training_container.folders import replace_file
from training_container.objectives.judged import judged, row_logps
from training_container.progress import Clock
from training_container.sharding.rounds import rounds
from training_container.sharding.world import World

WINDOW = 256
"""Rows among which those of similar length share a batch; what is kept of a pass that was cut short is whole windows,
so that a resumed pass makes the same batches."""

Known = dict[str, NDArray[np.float64]]
"""Log-probabilities of the training and the evaluation rows, in the order of their sequences; NaN where unknown."""


@dataclass(frozen=True, slots=True)
class Reference:
    """Asks a base model.

    `check` runs before each batch and may raise to leave, on all ranks at once; what is known by then is not lost.
    Each rank asks about its share.
    """

    folder: Path
    identity: str
    machine: Machine
    world: World
    lines: int
    pad: int
    check: Callable[[], None]
    clock: Clock
    interval_seconds: float
    """Between two writes of what is known so far."""

    def complete(self, model: Any, corpus: Corpus) -> Corpus:
        """The corpus with the reference of each row; `model` must answer as its base."""
        sides = {"training": corpus.training, "evaluation": corpus.evaluation}
        rows = {side: len(sequences.rows) for side, sequences in sides.items()}
        known = self.world.from_first(lambda: self._read(rows))
        with evaluating(model), self.machine.autocast():
            for side, sequences in sides.items():
                self._ask(model, sequences, known, side)
        changed = {side: _with(sequences, known[side]) for side, sequences in sides.items()}
        return replace(corpus, training=changed["training"], evaluation=changed["evaluation"])

    def _ask(self, model: Any, sequences: Sequences, known: Known, side: str) -> None:
        written, values = self.clock(), known[side]
        asked = False
        try:
            for start in range(0, len(values), WINDOW):
                if np.isnan(values[start : start + WINDOW]).any():
                    values[start : start + WINDOW] = self._window(model, sequences, start)
                    asked = True
                if asked and self.clock() - written >= self.interval_seconds:
                    self._write(known)
                    written, asked = self.clock(), False
        finally:
            if asked:
                self._write(known)

    def _window(self, model: Any, sequences: Sequences, start: int) -> NDArray[np.float64]:
        rows = [sequences.row(int(number)) for number in sequences.rows[start : start + WINDOW]]
        longest_first = sorted(range(len(rows)), key=lambda index: -len(rows[index]))
        alone = self.world.size == 1
        logps, _ = fitting(self.lines, lambda lines: self._logps(model, rows, longest_first, lines), alone=alone)
        found = np.array([logps[index] for index in range(len(rows))])
        if not np.isfinite(found).all():
            raise TrainingFault(
                "base_not_finite",
                f"The base model gives no finite probability to {int((~np.isfinite(found)).sum())} rows.",
                evidence=f"among {len(rows)} rows, in {self.machine.precision}",
                remedy="Check the base model's weights; try another precision.",
            )
        return found

    def _logps(self, model: Any, rows: list[Row], order: list[int], lines: int) -> dict[int, float]:
        found: dict[int, float] = {}
        for one in rounds(order, lines, self.world):
            self.check()
            batch = judged([rows[index] for index in one.items], self.pad).to(self.machine.device)
            found |= dict(zip(one.items, row_logps(model, batch).tolist(), strict=True))
        return self.world.merge(found)

    def _read(self, rows: dict[str, int]) -> Known:
        """What an earlier process found out about the very same run."""
        try:
            with safe_open(self.folder / REFERENCE_NAME, framework="numpy") as file:
                known = {side: file.get_tensor(side) for side in file.keys()}  # noqa: SIM118
                metadata = file.metadata() or {}
        except (OSError, SafetensorError):  # none, or a damaged one: the base model is asked again
            known, metadata = {}, {}
        if metadata != self._metadata(known) or {side: len(values) for side, values in known.items()} != rows:
            return {side: np.full(count, np.nan) for side, count in rows.items()}
        return known

    def _write(self, known: Known) -> None:
        if not self.world.first:
            return
        tensors = {side: torch.from_numpy(values) for side, values in known.items()}
        replace_file(self.folder / REFERENCE_NAME, save(tensors, self._metadata(known)))

    def _metadata(self, known: Known) -> dict[str, str]:
        content = b"".join(known[side].tobytes() for side in sorted(known))
        return {"identity": self.identity, "sha256": hashlib.sha256(content).hexdigest()}


def _with(sequences: Sequences, values: NDArray[np.float64]) -> Sequences:
    by_number = np.full(sequences.rows.max() + 1, np.nan)
    by_number[sequences.rows] = values
    return sequences.changed(lambda number, row: replace(row, reference=float(by_number[number])))
