"""What is minimised: the contract's word for each objective, and the module that computes it."""

from __future__ import annotations

from spotune.contracts.training import ObjectiveConfig
from training_container.faults import TrainingFault
from training_container.objectives.base import Objective
from training_container.objectives.supervised import Supervised

__all__ = ["Objective", "objective_of"]


def objective_of(config: ObjectiveConfig) -> Objective:
    """The objective that a config names.

    Raises:
        TrainingFault: the container does not know it.
    """
    if config.type == "supervised":
        return Supervised()
    raise TrainingFault(
        "objective_unknown",
        f"This trainer does not minimise {config.type}.",
        remedy="Choose method.type supervised.",
    )
