"""Kubeflow Trainer v2: a TrainingRuntime of the run's own, and the TrainJob that uses it.

Its plain policy is taken, not the one for torch: that one starts torchrun, and the container has a launcher of its own.
"""

from __future__ import annotations

from spotune.clusters.placement import Placement
from spotune.clusters.pods import job_spec, labels, metadata, surroundings
from spotune.clusters.workload import Manifest, Workload

API = "trainer.kubeflow.org/v1alpha1"
_STEP = {"trainer.kubeflow.org/trainjob-ancestor-step": "trainer"}
_REPLICATED = "node"


def kubeflow_manifests(run: Workload, placement: Placement) -> list[Manifest]:
    """The run's objects, in the order in which they are made."""
    # The names that JobSet gives: <set>-<replicated job>-<its number>-<pod>.<set>.
    hosts = [f"{run.name}-{_REPLICATED}-0-{number}.{run.name}" for number in range(run.hosts)]
    return [*surroundings(run, placement, hosts), _runtime(run, placement), _train_job(run, placement)]


def _runtime(run: Workload, placement: Placement) -> Manifest:
    job_set = {
        # Whatever ends one host ends the others: JobSet makes all of them anew, together.
        "failurePolicy": {
            "maxRestarts": run.restarts,
            "rules": [{"name": "userError", "action": "FailJobSet", "onJobFailureReasons": ["PodFailurePolicy"]}],
        },
        "replicatedJobs": [
            {
                "name": _REPLICATED,
                "template": {
                    "metadata": {"labels": {**labels(run), **_STEP}},
                    "spec": job_spec(run, placement, failures=0),
                },
            }
        ],
    }
    return {
        "apiVersion": API,
        "kind": "TrainingRuntime",
        "metadata": metadata(run, placement),
        "spec": {"mlPolicy": {"numNodes": run.hosts}, "template": {"spec": job_set}},
    }


def _train_job(run: Workload, placement: Placement) -> Manifest:
    runtime = {"apiGroup": API.partition("/")[0], "kind": "TrainingRuntime", "name": run.name}
    return {
        "apiVersion": API,
        "kind": "TrainJob",
        "metadata": metadata(run, placement),
        "spec": {"runtimeRef": runtime, "trainer": {"numNodes": run.hosts}},
    }
