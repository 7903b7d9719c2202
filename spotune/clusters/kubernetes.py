"""A plain cluster: an indexed Job, and a Service that gives several hosts their names."""

from __future__ import annotations

from spotune.clusters.placement import Placement
from spotune.clusters.pods import RUN_LABEL, job_spec, metadata, surroundings
from spotune.clusters.workload import Manifest, Workload


def kubernetes_manifests(run: Workload, placement: Placement) -> list[Manifest]:
    """The run's objects, in the order in which they are made."""
    several = run.hosts > 1
    hosts = [f"{run.name}-{number}" + (f".{run.name}" if several else "") for number in range(run.hosts)]
    # All hosts end for the same reason, and each end is a failure.
    spec = job_spec(run, placement, failures=run.restarts * run.hosts, subdomain=run.name if several else None)
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata(run, placement), "spec": spec}
    return [*surroundings(run, placement, hosts), *([_service(run, placement)] if several else []), job]


def _service(run: Workload, placement: Placement) -> Manifest:
    """Headless: a name for each pod, from the moment when it has an address."""
    spec = {"clusterIP": "None", "publishNotReadyAddresses": True, "selector": {RUN_LABEL: run.name}}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata(run, placement), "spec": spec}
