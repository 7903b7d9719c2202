"""Where on the cluster it runs, and as whom: what a cluster's owner decides."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from spotune.contracts.errors import RequestRefused

Effect = Literal["NoSchedule", "PreferNoSchedule", "NoExecute"]

_KEY = re.compile(r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")


@dataclass(frozen=True, slots=True)
class Toleration:
    """Of a taint; of every value where it has none."""

    key: str
    effect: Effect
    value: str | None = None

    def manifest(self) -> dict[str, str]:
        """As a pod has it."""
        matched = {"operator": "Exists"} if self.value is None else {"operator": "Equal", "value": self.value}
        return {"key": self.key, **matched, "effect": self.effect}


GPU_NODES = Toleration("nvidia.com/gpu", "NoSchedule")
"""The taint that keeps other pods off nodes with GPUs."""


@dataclass(frozen=True, slots=True)
class Placement:
    """A None leaves it to the cluster's own default."""

    namespace: str | None = None
    service_account: str | None = None
    """That stands for a role which may read the inputs and write the storage folder."""
    secret: str | None = None
    """Whose keys become the container's variables: AWS_ACCESS_KEY_ID and so on, AWS_ENDPOINT_URL_S3."""
    node_selector: Mapping[str, str] | None = None
    """None: nodes of the plan's instance type."""
    tolerations: tuple[Toleration, ...] = (GPU_NODES,)
    storage_class: str | None = None
    """Of a volume of its own for each pod; None: the node's disk."""


def parse_labels(texts: Iterable[str]) -> dict[str, str]:
    """`KEY=VALUE` as labels.

    Raises:
        RequestRefused: one is none.
    """
    labels: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not _KEY.fullmatch(key) or not _VALUE.fullmatch(value):
            raise RequestRefused(
                f"{text!r} is no label of a node.",
                code="invalid_field",
                param="node_selector",
                remedy="Write KEY=VALUE, for example: --node-selector karpenter.sh/capacity-type=spot",
            )
        labels[key] = value
    return labels


def parse_toleration(text: str) -> Toleration:
    """`KEY:EFFECT` or `KEY=VALUE:EFFECT` as a toleration.

    Raises:
        RequestRefused: it is none.
    """
    taint, _, effect = text.rpartition(":")
    key, equals, value = taint.partition("=")
    found = next((known for known in get_args(Effect) if known == effect), None)
    if found is None or not _KEY.fullmatch(key) or not _VALUE.fullmatch(value):
        raise RequestRefused(
            f"{text!r} is no toleration.",
            code="invalid_field",
            param="toleration",
            remedy="Write KEY:EFFECT or KEY=VALUE:EFFECT, for example: --toleration dedicated=training:NoSchedule",
        )
    return Toleration(key, found, value if equals else None)
