"""A cluster of one machine: reads from manifests what its pods are, and keeps their Job as Kubernetes does.

A runtime starts them. The one here starts processes of this checkout: what a pod's manifest says is what its process
gets (the command, the secret's keys, the config map's files and an empty folder for each other volume), at the
manifest's paths below a folder of the pod's own. What a cluster's network does for it (a name for the first host) is
MASTER_ADDR and a free port. `tests/image/kubelet.py` starts the same pods from the image.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from spotune.clusters import Manifest
from spotune.contracts.pod import HOST_VARIABLE
from tests.polling import wait_for
from tests.ports import free_port

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Container:
    """One host's, as the manifests have it."""

    pod: Manifest
    """The pod's spec."""
    index: int
    folder: Path
    """The pod's own, on this machine."""
    hosts: tuple[str, ...]
    """By which names the cluster's DNS finds the pods; the part before the dot is the pod's own host name."""
    variables: Mapping[str, str]
    """Beside the image's own."""
    folders: Mapping[str, Path]
    """What lies in each volume, by its mount path."""

    @property
    def spec(self) -> Manifest:
        [container] = self.pod["containers"]
        return dict(container)


Runtime = Callable[[Container, IO[bytes]], subprocess.Popen[bytes]]
"""Starts a container, which writes into the log, as the leader of a process group."""


@dataclass(frozen=True)
class Processes:
    """In the image's place: this checkout and its interpreter."""

    port: int = field(default_factory=free_port)

    def __call__(self, container: Container, log: IO[bytes]) -> subprocess.Popen[bytes]:
        places = {path: str(folder) for path, folder in container.folders.items()}
        variables = {**_image_variables(), **container.variables}
        return subprocess.Popen(
            [sys.executable if part == "python" else places.get(part, part) for part in container.spec["command"]],
            env={
                **{name: places.get(value, value) for name, value in variables.items()},
                "PATH": os.environ["PATH"],
                "PYTHONPATH": str(ROOT),
                "SPOTUNE_ML_ROOT": places["/opt/ml"],
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(self.port),
                "OMP_NUM_THREADS": "1",
            },
            cwd=container.folder,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


@dataclass
class Pod:
    """One try of one host."""

    index: int
    folder: Path
    process: subprocess.Popen[bytes]
    disrupted: bool = False

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()


@dataclass
class Cluster:
    """Takes manifests as `kubectl apply` does, and runs their Job to its end."""

    folder: Path
    secrets: Mapping[str, Mapping[str, str]]
    runtime: Runtime = field(default_factory=Processes)
    pods: list[Pod] = field(default_factory=list)
    """Every one that was ever started."""
    counted: int = 0
    """Failures against the Job's backoff limit."""

    def apply(self, manifests: list[Manifest]) -> None:
        """Keep the objects, and start the Job's pods."""
        self._objects = {(one["kind"], one["metadata"]["name"]): one for one in manifests}
        self._job, stem, subdomain = next(job for one in manifests if (job := _job(one)) is not None)
        self._hosts = tuple(f"{stem}-{index}.{subdomain}" for index in range(self._job["completions"]))
        self._running = {index: self._start(index) for index in range(self._job["completions"])}

    def disrupt(self, index: int) -> None:
        """Drain the node of one pod: it gets SIGTERM, and its end counts as a disruption."""
        self._running[index].disrupted = True
        self._running[index].process.terminate()

    def lose(self, index: int) -> None:
        """Take the node of one pod away, without a word: its end counts as a disruption, too."""
        self._running[index].disrupted = True
        os.killpg(self._running[index].process.pid, signal.SIGKILL)

    def run(self, seconds: float) -> bool:
        """Until all hosts have ended well (True), or the Job has failed (False)."""
        try:
            return wait_for(self._ended, "the Job to end", seconds, pause=0.05)
        except AssertionError as late:
            late.add_note(self.logs)
            raise

    @property
    def logs(self) -> str:
        return "\n".join(f"--- host {pod.index} ({pod.process.poll()})\n{pod.log[-3000:]}" for pod in self.pods)

    def kill(self) -> None:
        for pod in self.pods:
            if pod.process.poll() is None:
                os.killpg(pod.process.pid, signal.SIGKILL)
                pod.process.wait()

    def _ended(self) -> bool | None:
        """As `run` has it; None while a host runs."""
        for index, pod in list(self._running.items()):
            if pod.process.poll() is not None and not self._settle(index, pod):
                return False
        return None if self._running else True

    def _settle(self, index: int, pod: Pod) -> bool:
        """What the Job's controller makes of a pod's end; False where the Job has failed."""
        del self._running[index]
        code = pod.process.returncode
        if code == 0:
            return True
        action = self._action(code, disrupted=pod.disrupted)
        self.counted += action == "Count"
        if action == "FailJob" or self.counted > self._job["backoffLimit"]:
            return False
        self._running[index] = self._start(index)
        return True

    def _action(self, code: int, *, disrupted: bool) -> str:
        for rule in self._job["podFailurePolicy"]["rules"]:
            codes = rule.get("onExitCodes", {}).get("values", ())
            conditions = {one["type"] for one in rule.get("onPodConditions", ())}
            if code in codes or (disrupted and "DisruptionTarget" in conditions):
                return str(rule["action"])
        return "Count"

    def _start(self, index: int) -> Pod:
        spec = self._job["template"]["spec"]
        [container] = spec["containers"]
        folder = self.folder / f"pod-{len(self.pods)}"
        variables = {HOST_VARIABLE: str(index)}
        for source in container.get("envFrom", []):
            variables |= self.secrets[source["secretRef"]["name"]]
        folders = {one["mountPath"]: self._fill(folder, one, spec["volumes"]) for one in container["volumeMounts"]}
        with (folder / "log").open("wb") as log:
            process = self.runtime(Container(spec, index, folder, self._hosts, variables, folders), log)
        pod = Pod(index, folder, process)
        self.pods.append(pod)
        return pod

    def _fill(self, folder: Path, mount: Mapping[str, str], volumes: list[Manifest]) -> Path:
        [volume] = [one for one in volumes if one["name"] == mount["name"]]
        path = folder / mount["mountPath"].lstrip("/")
        path.mkdir(parents=True)
        if "configMap" in volume:
            for name, text in self._objects["ConfigMap", volume["configMap"]["name"]]["data"].items():
                (path / name).write_text(text)
            path.chmod(0o555)
        return path


def _job(manifest: Manifest) -> tuple[Manifest, str, str] | None:
    """The Job's spec that this object makes, what its pods' names begin with, and their subdomain.

    Of a runtime Kubeflow Trainer makes a JobSet, which names its pods and their Service by itself.
    """
    name = manifest["metadata"]["name"]
    if manifest["kind"] == "Job":
        return manifest["spec"], name, manifest["spec"]["template"]["spec"].get("subdomain", "")
    if manifest["kind"] == "TrainingRuntime":
        [replicated] = manifest["spec"]["template"]["spec"]["replicatedJobs"]
        return replicated["template"]["spec"], f"{name}-{replicated['name']}-0", name
    return None


def _image_variables() -> dict[str, str]:
    """That the image, built for CPUs, sets for every process in it."""
    text = (ROOT / "infra/image/Dockerfile").read_text().replace("\\\n", " ").replace("${ACCELERATOR}", "cpu")
    return dict(pair.split("=", 1) for line in re.findall(r"^ENV (.*)$", text, re.MULTILINE) for pair in line.split())
