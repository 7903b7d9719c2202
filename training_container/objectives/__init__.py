"""What is minimised: the contract's word for each objective, and the module that computes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from spotune.contracts.request import Objective as Name
from spotune.contracts.training import ObjectiveConfig
from training_container.objectives.base import Objective, Preference
from training_container.objectives.dpo import DPO
from training_container.objectives.kto import KTO
from training_container.objectives.orpo import ORPO
from training_container.objectives.supervised import Supervised

__all__ = ["OBJECTIVES", "Objective", "Preference", "objective_of"]

OBJECTIVES: Mapping[Name, Callable[[ObjectiveConfig], Supervised | Preference]] = {
    "supervised": lambda config: Supervised(),
    "dpo": lambda config: DPO(config.beta),
    "orpo": lambda config: ORPO(config.beta),
    "kto": lambda config: KTO(config.beta),
}


def objective_of(config: ObjectiveConfig) -> Supervised | Preference:
    """The objective that a config names."""
    return OBJECTIVES[config.type](config)
