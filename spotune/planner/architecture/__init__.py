"""A decoder's shape, read from its `config.json`: exact parameter counts by group, before any weight is loaded."""

from spotune.planner.architecture.families import FAMILIES_WITH_CODE, read_architecture
from spotune.planner.architecture.known import known_config, known_names
from spotune.planner.architecture.shape import Architecture, Experts, Linear

__all__ = [
    "FAMILIES_WITH_CODE",
    "Architecture",
    "Experts",
    "Linear",
    "known_config",
    "known_names",
    "read_architecture",
]
