"""The machines of the job, as SageMaker describes them, and the processes that each of them runs."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from spotune.contracts.plan import Sharding
from training_container.driver import count_gpus
from training_container.faults import TrainingFault

PROCESSES_VARIABLE = "SPOTUNE_PROCESSES_PER_HOST"
"""Overrides the number of GPUs, where there are none: tests, and embedded mode on a laptop."""
MASTER_PORT = 7777
"""Of the first host; the port that SageMaker's own training toolkit takes (torch_distributed.py)."""

EFA_FAMILIES = ("p3dn.", "p4d.", "p4de.", "p5.", "p5e.", "p5en.", "p6")
EFA_TYPES = ("g4dn.8xlarge", "g4dn.12xlarge", "g5.48xlarge", "g6.48xlarge", "g6e.48xlarge")
"""Instance types with EFA. SageMaker's toolkit (SM_EFA_NCCL_INSTANCES) misses the newer ones."""
RDMA_FAMILIES = ("p4d.", "p4de.", "p5.", "p5e.", "p5en.", "p6")
"""Those whose GPUs read each other's memory over EFA (GPUDirect RDMA)."""


@dataclass(frozen=True, slots=True)
class Hosts:
    """All hosts of the job, and which of them this is."""

    names: tuple[str, ...]
    current: str
    processes: int
    """Processes on each host."""
    interface: str | None = None
    """Network interface between the hosts; None where SageMaker does not say."""
    instance_type: str = ""

    @property
    def number(self) -> int:
        """Of this host, from 0."""
        return self.names.index(self.current)

    @property
    def ranks(self) -> int:
        """Processes in all."""
        return len(self.names) * self.processes

    @property
    def several(self) -> bool:
        """True where more than one machine takes part."""
        return len(self.names) > 1

    def network(self) -> dict[str, str]:
        """Variables by which NCCL and gloo find the way between the hosts.

        Sources: sagemaker-training-toolkit's torch_distributed.py (FI_PROVIDER, FI_EFA_USE_DEVICE_RDMA,
        NCCL_SOCKET_IFNAME); the EC2 guide's page on EFA for which types have it.
        """
        if not self.several:
            return {}
        found = {name: self.interface for name in ("NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME") if self.interface}
        kind = self.instance_type.removeprefix("ml.")
        if kind in EFA_TYPES or kind.startswith(EFA_FAMILIES):
            found["FI_PROVIDER"] = "efa"
        if kind.startswith(RDMA_FAMILIES):
            found["FI_EFA_USE_DEVICE_RDMA"] = "1"
        return found


def read_hosts(resources: Path, sharding: Sharding) -> Hosts:
    """The job's hosts from `resourceconfig.json`; one, where there is none. A plan that shares nothing is one process.

    Raises:
        TrainingFault: several hosts with a plan for a single process.
    """
    document = json.loads(resources.read_bytes()) if resources.exists() else {}
    names = tuple(document.get("hosts") or ["localhost"])
    if len(names) > 1 and sharding == "none":
        raise TrainingFault(
            "hosts_not_supported",
            f"The training job has {len(names)} hosts, but its plan shares nothing: all but one would be idle.",
            remedy="Plan with one instance, or with a sharding other than none.",
        )
    return Hosts(
        names=names,
        current=document.get("current_host") or names[0],
        processes=1 if sharding == "none" else _processes(),
        interface=document.get("network_interface_name"),
        instance_type=document.get("current_instance_type") or os.environ.get("SM_CURRENT_INSTANCE_TYPE", ""),
    )


def _processes() -> int:
    """One a GPU."""
    if told := os.environ.get(PROCESSES_VARIABLE):
        return int(told)
    if (visible := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return max(1, len([number for number in visible.split(",") if number.strip()]))
    return max(1, count_gpus())
