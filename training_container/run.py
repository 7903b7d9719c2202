"""What the steps of a run share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

from spotune.contracts.checkpoint import Identity
from spotune.contracts.training import TrainingConfig
from spotune.data.golden import GoldenPrompt
from training_container.champion import Champion
from training_container.checkpoints import Checkpoints
from training_container.corpus import Corpus
from training_container.device import Machine
from training_container.evaluation.evaluator import Evaluator
from training_container.inputs import Inputs
from training_container.progress import Clock, Reporter
from training_container.sharding import Engine, World
from training_container.stop import StopRequest
from training_container.trackers.trackers import Trackers


@dataclass(slots=True)
class Run:
    """One attempt's. `engine` is there when the model that is trained has been loaded."""

    inputs: Inputs
    world: World
    """All processes of the job."""
    machine: Machine
    corpus: Corpus
    golden: tuple[GoldenPrompt, ...]
    champion: Champion | None
    evaluator: Evaluator
    checkpoints: Checkpoints
    reporter: Reporter
    trackers: Trackers
    stop: StopRequest
    identity: Identity
    clock: Clock
    engine: Engine = field(init=False)

    @property
    def config(self) -> TrainingConfig:
        """What the run is told."""
        return self.inputs.config

    @contextmanager
    def together(self) -> Iterator[None]:
        """Inside, all ranks stop where one was asked to; each does as much as the others."""
        if self.world.size > 1:
            self.stop.share(partial(_asked_anywhere, self.world))
        try:
            yield
        finally:
            self.stop.part()


def _asked_anywhere(world: World, asked: bool) -> bool:
    return world.any(asked)[0]
