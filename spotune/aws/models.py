"""SageMaker's model registry as the service needs it. `model_registry` keeps it by boto3, `memory_models` in a dict."""

from __future__ import annotations

from typing import Protocol

from spotune.contracts.models import ModelVersion


class ModelRegistry(Protocol):
    """SageMaker's model registry, which shows what ours holds. Raises `Unavailable` and `AwsRefused`."""

    def mirror(self, version: ModelVersion) -> str:
        """Show a version as it is; the ARN of its package. A second time makes no second package."""

    def remove(self, version: ModelVersion) -> None:
        """Show a version no more; one that is not there stays so."""
