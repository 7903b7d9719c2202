"""The parts that both targets share: the pods of the run, what they are told, and who may talk to them."""

from __future__ import annotations

from collections.abc import Sequence

from spotune.clusters.placement import Placement
from spotune.clusters.workload import Manifest, Workload
from spotune.contracts.pod import POD_CONFIG_NAME
from spotune.contracts.training import CONFIG_NAME, ExitCode

CONTAINER = "node"
"""The name by which Kubeflow Trainer finds the container that trains."""
CONFIG_FOLDER = "/etc/spotune"
"""Not below /opt/ml: the folder above a mounted one would be root's, and the channels lie there."""
RUN_LABEL = "spotune/run"

_USER = 1000
_FETCH_SECONDS = 3600
"""For images, inputs and results, beside the time that the trainer itself keeps to."""
_GRACE_SECONDS = 300
"""From SIGTERM to SIGKILL: for a last checkpoint and its upload. A spot instance has 120 s, whatever this says."""
_MEMORY_SHARE = 0.85
"""Of the node's memory; the rest is the kubelet's, the system's and its daemons'."""


def labels(run: Workload) -> dict[str, str]:
    """Of everything that belongs to the run."""
    return {"app.kubernetes.io/name": "spotune", RUN_LABEL: run.name}


def metadata(run: Workload, placement: Placement) -> Manifest:
    """One name for all of the run's objects; their kinds differ."""
    named: Manifest = {"name": run.name}
    if placement.namespace is not None:
        named["namespace"] = placement.namespace
    return {**named, "labels": labels(run)}


def surroundings(run: Workload, placement: Placement, hosts: Sequence[str]) -> list[Manifest]:
    """What the pods are told, and a policy by which nobody but themselves reaches them."""
    data = {
        CONFIG_NAME: run.config.model_dump_json(indent=1),
        POD_CONFIG_NAME: run.pod_config(hosts).model_dump_json(indent=1),
    }
    own = {"matchLabels": {RUN_LABEL: run.name}}
    policy = {"podSelector": own, "policyTypes": ["Ingress"], "ingress": [{"from": [{"podSelector": own}]}]}
    return [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": metadata(run, placement),
            "immutable": True,
            "data": data,
        },
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": metadata(run, placement),
            "spec": policy,
        },
    ]


def job_spec(run: Workload, placement: Placement, *, failures: int, subdomain: str | None = None) -> Manifest:
    """An indexed Job's spec: a pod a host, and what the container's exit codes mean.

    Args:
        failures: of pods that are borne; the next one fails the Job.
        subdomain: the Service by which the hosts have names; None where they need none, or are given some.
    """
    return {
        "completionMode": "Indexed",
        "completions": run.hosts,
        "parallelism": run.hosts,
        "backoffLimit": failures,
        # One after the other: two pods of one host would write the same checkpoints.
        "podReplacementPolicy": "Failed",
        "podFailurePolicy": {
            "rules": [
                {"action": "FailJob", "onExitCodes": _on(ExitCode.USER_ERROR)},
                {"action": "Ignore", "onExitCodes": _on(ExitCode.STOPPED)},
                {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
            ]
        },
        "template": _pod(run, placement, subdomain),
    }


def _on(code: ExitCode) -> Manifest:
    return {"operator": "In", "values": [int(code)]}


def _pod(run: Workload, placement: Placement, subdomain: str | None) -> Manifest:
    spec: Manifest = {
        "restartPolicy": "Never",
        "activeDeadlineSeconds": run.config.limits.max_runtime_seconds + _FETCH_SECONDS,
        "terminationGracePeriodSeconds": _GRACE_SECONDS,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "nodeSelector": _node_selector(run, placement),
        "tolerations": [one.manifest() for one in placement.tolerations],
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _USER,
            "runAsGroup": _USER,
            "fsGroup": _USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(run, placement)],
        "volumes": _volumes(run, placement),
    }
    if placement.service_account is not None:
        spec["serviceAccountName"] = placement.service_account
    if subdomain is not None:
        spec["subdomain"] = subdomain
    return {"metadata": {"labels": labels(run)}, "spec": spec}


def _node_selector(run: Workload, placement: Placement) -> dict[str, str]:
    if placement.node_selector is not None:
        return dict(placement.node_selector)
    return {"node.kubernetes.io/instance-type": run.machine.instance_type}


def _container(run: Workload, placement: Placement) -> Manifest:
    container: Manifest = {
        "name": CONTAINER,
        "image": run.image,
        "command": ["python", "-m", "spotune.pod", CONFIG_FOLDER],
        "resources": _resources(run),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": "config", "mountPath": CONFIG_FOLDER, "readOnly": True},
            {"name": "ml", "mountPath": "/opt/ml"},
            {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108
            # The image's HOME: caches and compiled kernels.
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108
        ],
    }
    if placement.secret is not None:
        container["envFrom"] = [{"secretRef": {"name": placement.secret}}]
    return container


def _resources(run: Workload) -> Manifest:
    machine = run.machine
    memory = f"{int(machine.memory_gib * _MEMORY_SHARE)}Gi"
    return {
        "requests": {"cpu": str(max(1, machine.cpus - 1)), "memory": memory},
        "limits": {"memory": memory, "nvidia.com/gpu": machine.gpus},
    }


def _volumes(run: Workload, placement: Placement) -> list[Manifest]:
    machine = run.machine
    return [
        {"name": "config", "configMap": {"name": run.name}},
        {"name": "ml", **_disk(f"{machine.disk_gb}G", placement)},
        # NCCL and the ranks' queues; it counts as the container's memory.
        {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": f"{max(1, machine.memory_gib // 4)}Gi"}},
        {"name": "tmp", "emptyDir": {}},
    ]


def _disk(size: str, placement: Placement) -> Manifest:
    if placement.storage_class is None:
        return {"emptyDir": {"sizeLimit": size}}
    claim = {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": placement.storage_class,
        "resources": {"requests": {"storage": size}},
    }
    return {"ephemeral": {"volumeClaimTemplate": {"spec": claim}}}
