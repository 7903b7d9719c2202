"""The published schemas: Kubernetes' own (kubernetes-validate), and Kubeflow Trainer's models (kubeflow-trainer-api).

Both are of packages that their projects release. Neither evaluates what a cluster's admission adds to the schema, such
as CEL rules; a test of its own keeps those that matter here.
"""

from __future__ import annotations

from typing import Any

import kubernetes_validate
from kubeflow_trainer_api import models
from pydantic import ValidationError

from spotune.clusters import Manifest

KUBERNETES = ("1.31", "1.34", "1.37")
"""From the first one in which a Job's pod failure policy is stable to the last one that has a schema."""
_KUBEFLOW: dict[str, Any] = {
    "TrainingRuntime": models.TrainerV1alpha1TrainingRuntime,
    "TrainJob": models.TrainerV1alpha1TrainJob,
}


class Refused(Exception):
    """A manifest is not as the published schema has it."""


def check(manifest: Manifest) -> None:
    """Every version's strict schema: no unknown field, no wrong type.

    Raises:
        Refused: it is not as that says.
    """
    if manifest["kind"] in _KUBEFLOW:
        _check_kubeflow(manifest)
        return
    for version in KUBERNETES:
        try:
            kubernetes_validate.validate(manifest, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            raise Refused(f"{version}: {error.message}") from error


def _check_kubeflow(manifest: Manifest) -> None:
    """The models take unknown fields in silence, and lose them: what comes back has to be what went in."""
    try:
        read = _KUBEFLOW[manifest["kind"]].from_dict(manifest).to_dict()
    except ValidationError as error:
        raise Refused(str(error)) from error
    lost = [path for path in _paths(manifest) if path not in set(_paths(read))]
    if lost:
        raise Refused(f"not known: {lost}")
    for job in manifest["spec"].get("template", {}).get("spec", {}).get("replicatedJobs", []):
        check({"apiVersion": "batch/v1", "kind": "Job", **job["template"]})


def _paths(value: object, at: str = "") -> list[str]:
    if isinstance(value, dict):
        return [path for key, inner in value.items() for path in _paths(inner, f"{at}.{key}")] or [at]
    if isinstance(value, list):
        return [path for index, inner in enumerate(value) for path in _paths(inner, f"{at}[{index}]")] or [at]
    return [at]
