"""SageMaker's model registry in a dict, for unit tests."""

from __future__ import annotations

import threading
from collections import deque

from spotune.contracts.models import ModelVersion


class MemoryModelRegistry:
    """Fulfils `ModelRegistry`. `shown` holds what is mirrored, by ARN; `answers` what the next calls raise, if any."""

    def __init__(self) -> None:
        self.shown: dict[str, ModelVersion] = {}
        self.answers: deque[Exception | None] = deque()
        self._lock = threading.RLock()

    def mirror(self, version: ModelVersion) -> str:
        """See `ModelRegistry`."""
        with self._lock:
            self._answer()
            package = f"{version.tenant}-{version.group}/{version.number}"
            arn = f"arn:aws:sagemaker:us-east-1:123456789012:model-package/{package}"
            self.shown[arn] = version
            return arn

    def remove(self, version: ModelVersion) -> None:
        """See `ModelRegistry`."""
        with self._lock:
            self._answer()
            self.shown = {arn: one for arn, one in self.shown.items() if one.name != version.name}

    def _answer(self) -> None:
        answer = self.answers.popleft() if self.answers else None
        if answer is not None:
            raise answer
