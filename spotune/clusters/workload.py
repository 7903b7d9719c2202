"""What runs on the cluster: the job's config, where its data lies, and the machines that the plan chose."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from spotune.contracts.errors import RequestRefused
from spotune.contracts.pod import PodConfig
from spotune.contracts.training import TrainingConfig

Manifest = dict[str, Any]
"""One object of the cluster's API."""

LONGEST_NAME = 45
"""A pod's name has 63 characters: `-node-0-<host>-<five letters>` are added to this."""

_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_RETRIES = 2
"""Further tries after a failure that is nobody's fault, as everywhere in Spotune."""


@dataclass(frozen=True, slots=True)
class Machine:
    """One node's share of the run."""

    instance_type: str
    """As EC2 names it."""
    gpus: int
    cpus: int
    memory_gib: int
    disk_gb: int
    """For channels, checkpoints and what is published."""


@dataclass(frozen=True, slots=True)
class Workload:
    """One run of one job. `storage` is an `s3://` folder in which it has a folder of its own."""

    name: str
    config: TrainingConfig
    channels: Mapping[str, str]
    storage: str
    image: str
    hosts: int
    machine: Machine
    interruptions: float
    """Expected by the plan."""

    def pod_config(self, hosts: Sequence[str]) -> PodConfig:
        """What the pods are told, once their names are known."""
        return PodConfig(
            channels=dict(self.channels),
            checkpoints_uri=f"{self.folder}checkpoints/",
            output_uri=f"{self.folder}output/",
            hosts=tuple(hosts),
        )

    @property
    def folder(self) -> str:
        """Its own folder in S3."""
        return f"{self.storage}{self.name}/"

    @property
    def restarts(self) -> int:
        """Of all hosts together, before the run is given up. Where there are several, the sudden end of one node is a
        failure of the others, so that twice the interruptions that the plan expects are added."""
        return _RETRIES + (math.ceil(2 * self.interruptions) if self.hosts > 1 else 0)


def check_name(name: str) -> str:
    """The name, if the cluster takes it for everything that is made of it.

    Raises:
        RequestRefused: it does not.
    """
    if len(name) > LONGEST_NAME or not _NAME.fullmatch(name):
        raise RequestRefused(
            f"{name!r} is no name for a run on a cluster.",
            code="invalid_field",
            param="name",
            remedy=f"Take lower-case letters, digits and hyphens, a letter first, {LONGEST_NAME} characters at most.",
        )
    return name


def name_of(stem: str, config: TrainingConfig, contents: Mapping[str, str]) -> str:
    """A run's name, from its job file's: the same for the same config and the same data.

    Args:
        contents: what tells one dataset from another, by channel.
    """
    told = json.dumps([config.model_dump(mode="json", exclude={"job_id"}), dict(contents)], sort_keys=True)
    digest = hashlib.sha256(told.encode()).hexdigest()[:8]
    slug = re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-")
    lettered = slug if slug[:1].isalpha() else f"job-{slug}"
    return f"{lettered[: LONGEST_NAME - 9].rstrip('-')}-{digest}"
