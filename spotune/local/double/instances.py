"""The folders, files and variables that a container finds: SageMaker's layout under `/opt/ml`, one root a host."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

import spotune
from spotune.local.double.job import Job
from spotune.local.double.settings import Settings

CHECKPOINT_PATH = "/opt/ml/checkpoints"
_INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ", "VIRTUAL_ENV", "PYTHONPATH", "LD_LIBRARY_PATH")
"""A container inherits nothing; these are what its image would hold."""


class Instances:
    """The ML roots of one job's hosts. The first host's is `ml`, the others' `ml-algo-2` and so on."""

    def __init__(self, folder: Path, job: Job) -> None:
        self._folder = folder
        self._job = job
        self.hosts = job.hosts

    def root(self, host: str) -> Path:
        """What stands for `/opt/ml` on this host."""
        return self._folder / ("ml" if host == self.hosts[0] else f"ml-{host}")

    def channel(self, host: str, name: str) -> Path:
        """A channel's folder."""
        return self.root(host) / "input" / "data" / name

    def checkpoints(self, host: str) -> Path:
        """The folder that is synced with S3; `rules` has made sure that its LocalPath lies below `/opt/ml`."""
        local = self._job.request.get("CheckpointConfig", {}).get("LocalPath", CHECKPOINT_PATH)
        return self.root(host) / Path(local).relative_to("/opt/ml")

    def log(self, host: str) -> Path:
        """Standard output and error of the host's process, over all launches."""
        return self._folder / "logs" / f"{host}.log"

    def lay_out(self, instance_type: str) -> None:
        """Make the folders and the three configuration files on every host."""
        self.log(self.hosts[0]).parent.mkdir(parents=True, exist_ok=True)
        for host in self.hosts:
            for name in ("input/config", "input/data", "model", "output/data", "code"):
                (self.root(host) / name).mkdir(parents=True, exist_ok=True)
            self.checkpoints(host).mkdir(parents=True, exist_ok=True)
            config = self.root(host) / "input" / "config"
            _write_json(config / "hyperparameters.json", self._job.request.get("HyperParameters", {}))
            _write_json(config / "inputdataconfig.json", self._input_data_config())
            _write_json(config / "resourceconfig.json", self._resource_config(host, instance_type))

    def failure(self) -> str:
        """What the first host that failed left in `output/failure`."""
        for host in self.hosts:
            path = self.root(host) / "output" / "failure"
            if path.is_file():
                return path.read_bytes()[:8192].decode(errors="replace")
        return ""

    def environment(self, host: str, instance_type: str, settings: Settings, port: int) -> dict[str, str]:
        """SageMaker's variables and the toolkit's `SM_` ones, then the request's own."""
        root, request = self.root(host), self._job.request
        inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        packages = str(Path(spotune.__file__).parents[1])
        channels = [channel["ChannelName"] for channel in request.get("InputDataConfig", [])]
        return {
            **inherited,
            "PYTHONPATH": os.pathsep.join(filter(None, (packages, inherited.get("PYTHONPATH")))),
            "PYTHONUNBUFFERED": "1",
            "SPOTUNE_ML_ROOT": str(root),
            "TRAINING_JOB_NAME": self._job.name,
            "TRAINING_JOB_ARN": self._job.arn,
            "AWS_REGION": settings.region,
            "AWS_DEFAULT_REGION": settings.region,
            "SM_HOSTS": json.dumps(self.hosts),
            "SM_CURRENT_HOST": host,
            "SM_CURRENT_INSTANCE_TYPE": instance_type,
            "SM_MODEL_DIR": str(root / "model"),
            "SM_OUTPUT_DATA_DIR": str(root / "output" / "data"),
            "SM_CHANNELS": json.dumps(channels),
            **{f"SM_CHANNEL_{name.upper()}": str(self.channel(host, name)) for name in channels},
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            **({"HF_HUB_OFFLINE": "1"} if request.get("EnableNetworkIsolation") else {}),
            **request.get("Environment", {}),
        }

    def _input_data_config(self) -> dict[str, Any]:
        mode = self._job.request["AlgorithmSpecification"]["TrainingInputMode"]
        return {
            channel["ChannelName"]: {
                "TrainingInputMode": channel.get("InputMode", mode),
                "S3DistributionType": channel["DataSource"]["S3DataSource"].get(
                    "S3DataDistributionType", "FullyReplicated"
                ),
                "RecordWrapperType": channel.get("RecordWrapperType", "None"),
            }
            for channel in self._job.request.get("InputDataConfig", [])
        }

    def _resource_config(self, host: str, instance_type: str) -> dict[str, Any]:
        group = {"instance_group_name": "homogeneousCluster", "instance_type": instance_type, "hosts": self.hosts}
        return {
            "current_host": host,
            "current_instance_type": instance_type,
            "current_group_name": "homogeneousCluster",
            "hosts": self.hosts,
            "instance_groups": [group],
            "network_interface_name": "lo",
        }


def free_port() -> int:
    """A port on loopback that was free a moment ago, for the hosts' rendezvous."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _write_json(path: Path, document: object) -> None:
    path.write_text(json.dumps(document))
