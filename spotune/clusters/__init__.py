"""Pure: manifests by which a job runs on a Kubernetes cluster. docs/kubernetes.md."""

from spotune.clusters.kubeflow import kubeflow_manifests
from spotune.clusters.kubernetes import kubernetes_manifests
from spotune.clusters.placement import Placement, Toleration, parse_labels, parse_toleration
from spotune.clusters.workload import Machine, Manifest, Workload, check_name, name_of

__all__ = [
    "Machine",
    "Manifest",
    "Placement",
    "Toleration",
    "Workload",
    "check_name",
    "kubeflow_manifests",
    "kubernetes_manifests",
    "name_of",
    "parse_labels",
    "parse_toleration",
]
