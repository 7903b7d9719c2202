"""In a container runtime's place: the image's own root file system, its entry point as process 1, no network."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BASE = "localhost/spotune-base"
SUITE = "bookworm"
GIVEN = "SPOTUNE_IMAGE_BASE"
"""Variable that names another base, which then need not be made."""
_START = """
mount --bind "$1" "$2/opt/ml" && mount -t proc proc "$2/proc" && mount --rbind /dev "$2/dev" &&
root=$2 user=$3 && shift 3 && exec env -i "$@"
"""


def buildah(*words: str) -> str:
    run = subprocess.run(["buildah", *words], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


def make_base(folder: Path) -> str:
    """The base's name: the one that is given, else Debian's smallest system, made unless it is there."""
    if given := os.environ.get(GIVEN):
        return given
    if BASE in buildah("images", "--format", "{{.Name}}"):
        return BASE
    tree = folder / "base"
    subprocess.run(["debootstrap", "--variant=minbase", SUITE, str(tree)], check=True, stdout=subprocess.DEVNULL)
    container = buildah("from", "scratch")
    buildah("add", container, str(tree), "/")
    buildah("commit", "--format", "docker", container, BASE)
    buildah("rm", container)
    shutil.rmtree(tree)
    return BASE


@dataclass(frozen=True)
class Entered:
    """A container of the image, its root file system mounted."""

    name: str
    root: Path
    config: dict[str, Any]

    def run(self, *words: str, user: str = "0:0") -> str:
        """A command inside, by buildah."""
        return buildah("run", "--isolation", "chroot", "--user", user, self.name, "--", *words)

    def start(self, ml: Path, *, user: str = "0:0", **variables: str) -> subprocess.Popen[str]:
        """The image's own entry point, as SageMaker starts it: process 1, with the argument `train`.

        Returns:
            The process that waits for it; its one child is process 1.
        """
        entry: Sequence[str] = [*self.config["Entrypoint"], "train"]
        environment = [*self.config["Env"], *(f"{name}={value}" for name, value in variables.items())]
        inside = [*environment, "chroot", f"--userspec={user}", str(self.root), *entry]
        alone = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child"]
        command = [*alone, "sh", "-c", _START, "sh", str(ml), str(self.root), user, *inside]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@contextmanager
def entered(reference: str) -> Iterator[Entered]:
    """A container of this image, removed afterwards."""
    config = json.loads(buildah("inspect", "--type", "image", reference))["OCIv1"]["config"]
    name = buildah("from", "--pull-never", reference)
    try:
        yield Entered(name, Path(buildah("mount", name)), config)
    finally:
        buildah("rm", name)
