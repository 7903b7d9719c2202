"""The disk that a run needs beside its image, and whose it is."""

from __future__ import annotations

import math

from spotune.contracts.training import TrainingConfig
from spotune.planner.catalog import load_catalog
from spotune.planner.workload import WHOLE


def disk_gb(config: TrainingConfig, parameters: int, file_bytes: int, champion_bytes: int = 0) -> int:
    """For the 16-bit model, the files with their tokens, the checkpoints of what is trained and its moments, what is
    published whole, and the champion's files."""
    trained = parameters * _trained_share(config)
    published = 4 * (config.method in WHOLE) + 2 * config.outputs.merged + 6 * (config.outputs.gguf is not None)
    needed = parameters * (2 + published) + trained * 12 * config.checkpoint.at_most + 4 * file_bytes + champion_bytes
    return math.ceil(needed / 10**9)


def has_local_storage(instance_type: str) -> bool:
    """Whether a run's disk is the machine's own NVMe, which its hardware encrypts, and no volume.

    SageMaker takes no `VolumeKmsKeyId` for such a type (API reference, ResourceConfig). A type that is not in the
    catalog counts as one with a volume, which has to have a key.
    """
    spec = load_catalog().instances.get(instance_type)
    return spec is not None and spec.nvme_gb > 0


def _trained_share(config: TrainingConfig) -> float:
    """At most: an adapter of rank r has 2r/h of a square layer's weights, and no model here is narrower than 512."""
    if config.adapter is None or config.method in WHOLE:
        return 1.0
    return min(config.adapter.rank / 256, 1.0)
