"""The disk that a run needs, the disk that an instance type has, and whose it is.

SageMaker's API reference, ResourceConfig: a type with NVMe gets no volume; its disk is the NVMe, whatever
`VolumeSizeInGB` asks for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

from spotune.contracts.request import GGUFType, Method
from spotune.contracts.training import CheckpointConfig, TrainingConfig
from spotune.planner.catalog import InstanceSpec, load_catalog
from spotune.planner.workload import WHOLE

IMAGE_GB = 30
"""For the image and what it writes beside `/opt/ml`."""

LARGEST_VOLUME_GB = 1024
"""What an account gets, unless it asked for more: the quota "Size of EBS volume for a training job instance".
A volume's GB are GiB; the 7 % that those are more is what its filesystem takes."""

_USABLE = 0.93
"""Of an NVMe disk, whose GB are decimal. SageMaker does not say how it formats them; ext4 by its defaults (mke2fs on
125 to 3,800 GB) takes 2 % for itself and keeps 5 % back."""

_CHECKPOINTS = CheckpointConfig(interval_seconds=1).at_most


class Published(Protocol):
    """What is asked to be published beside the adapter."""

    @property
    def merged(self) -> bool:
        """The whole weights."""

    @property
    def gguf(self) -> GGUFType | None:
        """One file of them."""


def resting_bytes(method: Method, outputs: Published, parameters: int, file_bytes: int, champion_bytes: int = 0) -> int:
    """What lies there but checkpoints: the 16-bit model, the files with their tokens, what is published whole, and the
    champion's files."""
    published = 4 * (method in WHOLE) + 2 * outputs.merged + 6 * (outputs.gguf is not None)
    return parameters * (2 + published) + 4 * file_bytes + champion_bytes


def needed_gb(resting: int, checkpoint_bytes: float) -> int:
    """With as many checkpoints as there ever are at once, and the image."""
    return IMAGE_GB + math.ceil((resting + _CHECKPOINTS * checkpoint_bytes) / 10**9)


def room_gb(spec: InstanceSpec) -> int:
    """What a run may fill of the type's disk."""
    return int(_USABLE * spec.nvme_gb) if spec.nvme_gb else LARGEST_VOLUME_GB


def disk_gb(config: TrainingConfig, parameters: int, file_bytes: int, champion_bytes: int = 0) -> int:
    """At most what a run needs beside its image, by what is known without the model's architecture."""
    trained = parameters * _trained_share(config)
    resting = resting_bytes(config.method, config.outputs, parameters, file_bytes, champion_bytes)
    return math.ceil((resting + trained * 12 * config.checkpoint.at_most) / 10**9)


def volume_gb(instance_types: Sequence[str], needed: int) -> int:
    """What to ask for, where so much is needed beside the image: no more than any of the types takes a request for.

    Where the disk is NVMe, the request changes nothing, and the planner has seen to it that the run fits.
    """
    specs = (load_catalog().instances.get(name) for name in instance_types)
    return min(
        IMAGE_GB + needed, LARGEST_VOLUME_GB, *(spec.nvme_gb for spec in specs if spec is not None and spec.nvme_gb)
    )


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
