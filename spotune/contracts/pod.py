"""What a pod of a cluster is told, where no SageMaker brings the container its folders: `pod.json`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from spotune.contracts.base import Contract

POD_CONFIG_NAME = "pod.json"
HOST_VARIABLE = "JOB_COMPLETION_INDEX"
"""Of an indexed Job's pods, set by Kubernetes: which host of the run this is, from 0."""


class PodConfig(Contract):
    """Where the run's inputs lie, where its results go, and its hosts. The same for every host."""

    channels: dict[str, str]
    """The input channels but `config`. A URI that ends in `/` is a folder, else one object."""
    checkpoints_uri: str
    """The folder that is kept like `/opt/ml/checkpoints`, both ways."""
    output_uri: str
    """The folder under which `model/` and `failure` are laid."""
    hosts: Annotated[tuple[str, ...], Field(min_length=1)]
    """Their names on the cluster's network."""

    @property
    def model_uri(self) -> str:
        """The folder of what is published."""
        return f"{self.output_uri}model/"

    @property
    def failure_uri(self) -> str:
        """The typed failure of the last try that failed."""
        return f"{self.output_uri}failure"
