"""docker, podman and buildah: which of them is here, and what each is told. None of them needs more than its defaults;
how buildah isolates and where it stores are its own variables (BUILDAH_ISOLATION, STORAGE_DRIVER).
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from spotune.contracts.errors import RequestRefused, SpotuneError, Unavailable
from spotune.deploy.image.context import ImageSpec, lay_out
from spotune.deploy.image.pip_settings import Mounts, prepare, read_settings

BuilderName = Literal["docker", "podman", "buildah"]
NAME = "spotune-training"
"""Of the image on this machine, and of its repository in ECR."""
PLATFORM = "linux/amd64"
"""Of every instance type in the catalog."""

_STDERR = 2
_USER = "AWS"
"""To whom ECR gives its passwords."""
_DAEMON = "{{.Endpoints.docker.Host}}"
"""Of `docker context inspect`."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of a built image, from the base upwards.

    Attributes:
        made_by: the instruction, as the builder has recorded it.
        bytes: unpacked.
        digest: of its unpacked content; None where the builder does not say which layer is which.
    """

    made_by: str
    bytes: int
    digest: str | None


@dataclass(frozen=True, slots=True)
class Builder:
    """A program that builds images from a Dockerfile, stores and pushes them."""

    name: BuilderName
    executable: str

    def build_command(self, context: Path, reference: str, spec: ImageSpec, mounts: Mounts) -> list[str]:
        """How it is called. SageMaker takes docker's own manifest, neither OCI's nor an index of several.

        Raises:
            RequestRefused: pip's packages lie in a folder here, which docker mounts into no build.
        """
        command = [self.executable, "build", "--platform", PLATFORM, "--tag", reference]
        for name, value in spec.arguments.items():
            command += ["--build-arg", f"{name}={value}"]
        for name, value in spec.labels.items():
            command += ["--label", f"{name}={value}"]
        for name, path in mounts.secrets.items():
            command += ["--secret", f"id={name},src={path}"]
        if self.name == "docker":
            if mounts.folders:
                raise RequestRefused(
                    f"pip takes packages from {', '.join(map(str, mounts.folders))} on this machine, which docker "
                    "cannot mount into a build.",
                    code="folder_not_mounted",
                    remedy="Build with podman or buildah, or point pip at an index (PIP_INDEX_URL, PIP_FIND_LINKS).",
                )
            return [*command, "--provenance=false", "--output", "type=docker", str(context)]
        for path, inside in mounts.folders.items():
            command += ["--volume", f"{path}:{inside}:ro"]
        # One time for all files: a layer whose content is the same is the same layer.
        return [*command, "--layers", "--timestamp", "0", "--format", "docker", str(context)]

    def layers(self, reference: str) -> list[Layer]:
        """The layers of an image on this machine.

        Raises:
            SpotuneError: it is not there.
        """
        match self.name:
            case "buildah":
                found = self._json("inspect", "--type", "image", reference)
                return _of_manifest(found["OCIv1"]["history"], json.loads(found["Manifest"])["layers"])
            case "podman":
                steps = self._json("history", "--no-trunc", "--format", "json", reference)
                return [Layer(step["CreatedBy"], step["size"], None) for step in reversed(steps) if step["size"]]
        lines = self._run("history", "--no-trunc", "--human=false", "--format", "{{json .}}", reference).splitlines()
        steps = [json.loads(line) for line in reversed(lines)]
        return [Layer(step["CreatedBy"], int(step["Size"]), None) for step in steps if int(step["Size"])]

    def has(self, reference: str) -> bool:
        """True where an image of this name is on this machine."""
        kind = ["inspect", "--type", "image"] if self.name != "docker" else ["image", "inspect"]
        return self._try(*kind, reference).returncode == 0

    def push(self, reference: str, target: str, registry: str, password: str, *, secure: bool = True) -> None:
        """Send an image to a registry. The password is in a file of its own, which is gone afterwards: a `login` would
        leave it in the machine's keychain, where docker finds one.

        Args:
            reference: its name on this machine.
            target: its name there, registry and tag included.
            registry: host, which asks for the password.
            secure: False for a registry without TLS, such as one on this machine.

        Raises:
            SpotuneError: the registry did not take it; the builder's own words stand before this on the terminal.
        """
        plain = [] if secure or self.name == "docker" else ["--tls-verify=false"]
        with tempfile.TemporaryDirectory(prefix="spotune-") as folder:
            signed_in = _sign_in(Path(folder), registry, password)
            words = [*plain, "--format", "v2s2", reference, f"docker://{target}"]
            if self.name == "docker":
                self._run("tag", reference, target)
                words = [target]
                # Which daemon is meant stands in the folder of settings that DOCKER_CONFIG takes the place of.
                signed_in["DOCKER_HOST"] = self._run("context", "inspect", "--format", _DAEMON).strip()
            run_loudly([self.executable, "push", *words], "push_failed", signed_in)

    def works(self) -> bool:
        """True where it can build: docker needs its daemon, and buildx to mount a file into a build."""
        needed = (("version", "--format", "{{.Server.Version}}"), ("buildx", "version"))
        return self.name != "docker" or all(self._try(*words).returncode == 0 for words in needed)

    def _json(self, *words: str) -> Any:
        return json.loads(self._run(*words))

    def _run(self, *words: str) -> str:
        run = self._try(*words)
        if run.returncode != 0:
            raise SpotuneError(
                f"{self.name} {words[0]} failed: {run.stderr.strip()[-500:]}",
                code="builder_failed",
                remedy="See that the image is on this machine: spotune image build.",
            )
        return run.stdout

    def _try(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([self.executable, *words], capture_output=True, text=True, check=False)


def find_builder(name: BuilderName | None = None) -> Builder:
    """The named builder, or the first that this machine has and that can build.

    Raises:
        Unavailable: there is none.
    """
    for candidate in (name,) if name else get_args(BuilderName):
        executable = shutil.which(candidate)
        if executable is not None and (builder := Builder(candidate, executable)).works():
            return builder
    wanted = name or "docker, podman or buildah"
    raise Unavailable(
        f"There is no {wanted} here that can build.",
        code="builder_missing",
        param="builder",
        remedy="Install docker with buildx (its daemon has to run), podman or buildah, or build where there is one.",
    )


def local_reference(spec: ImageSpec) -> str:
    """The image's name on this machine."""
    return f"localhost/{NAME}:{spec.tag}"


def build(builder: Builder, spec: ImageSpec) -> str:
    """Build the image, or find that nothing has changed; what the builder says goes to stderr.

    Returns:
        Its name on this machine.

    Raises:
        SpotuneError: the builder failed. Its layers up to there are kept, and the next build goes on from them.
    """
    reference = local_reference(spec)
    with tempfile.TemporaryDirectory(prefix="spotune-") as folder:
        context, settings = Path(folder, "context"), Path(folder, "settings")
        context.mkdir()
        settings.mkdir()
        lay_out(context)
        command = builder.build_command(context, reference, spec, prepare(read_settings(), settings))
        run_loudly(command, "image_not_built", {"DOCKER_BUILDKIT": "1"})
    return reference


def run_loudly(command: Sequence[str], code: str, environment: Mapping[str, str]) -> None:
    """Run a builder, its words on stderr: stdout is the command's own.

    Raises:
        SpotuneError: it did not end well.
    """
    run = subprocess.run(command, env={**os.environ, **environment}, stdout=_STDERR, stderr=_STDERR, check=False)
    if run.returncode != 0:
        raise SpotuneError(
            f"{Path(command[0]).name} {command[1]} ended with exit code {run.returncode}.",
            code=code,
            remedy="Its last lines above say why. The same command again goes on from the layers that are done.",
        )


def _sign_in(folder: Path, registry: str, password: str) -> dict[str, str]:
    """Variables by which a builder knows the password, from a file in docker's format, which all of them read."""
    path = folder / "config.json"
    token = base64.b64encode(f"{_USER}:{password}".encode()).decode()
    path.write_text(json.dumps({"auths": {registry: {"auth": token}}}))
    return {"REGISTRY_AUTH_FILE": str(path), "DOCKER_CONFIG": str(folder)}


def _of_manifest(history: Sequence[Mapping[str, Any]], layers: Sequence[Mapping[str, Any]]) -> list[Layer]:
    steps = [step for step in history if not step.get("empty_layer")]
    return [
        Layer(str(step.get("created_by", "")), int(layer["size"]), str(layer["digest"]))
        for step, layer in zip(steps, layers, strict=True)
    ]
