"""In a kubelet's place: starts a pod's container, as its manifest has it, from the built image.

Applied are command, variables, mounts, user and groups, capabilities, privileges and the read-only root. The pods share
this machine's network, each with an address of its own, and find each other by a hosts file in place of DNS.
Not applied are requests, limits and GPUs, the seccomp profile, and what a scheduler or a network policy does.
"""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from spotune.clusters import Manifest
from tests.clusters.cluster import Container
from tests.image.machine import entered

_KNOWN = {
    *("name", "image", "command", "envFrom", "volumeMounts", "securityContext"),
    *("resources", "terminationMessagePolicy"),
}
"""Of a container; the last two change nothing here."""
_ALONE = ("unshare", "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child")


@dataclass(frozen=True)
class Kubelet:
    """A `Runtime` of `tests.clusters.cluster`. Each pod has a root file system of its own."""

    reference: str
    roots: ExitStack

    def __call__(self, container: Container, log: IO[bytes]) -> subprocess.Popen[bytes]:
        assert container.spec.keys() <= _KNOWN, "the manifest says what is not applied here"
        image = self.roots.enter_context(entered(self.reference))
        variables = dict(pair.split("=", 1) for pair in image.config["Env"]) | dict(container.variables)
        inside = [*_as_user(container), "--", *container.spec["command"]]
        start = [*(f"{name}={value}" for name, value in variables.items()), "chroot", str(image.root), *inside]
        script = "\n".join([*_lay_out(container, image.root), f"exec env -i {shlex.join(start)}"])
        return subprocess.Popen(
            [*_ALONE, "sh", "-ec", script], stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )


@contextmanager
def kubelet(reference: str) -> Iterator[Kubelet]:
    """Its pods have to be ended before it is left."""
    with ExitStack() as roots:
        yield Kubelet(reference, roots)


def _lay_out(container: Container, root: Path) -> Iterator[str]:
    """Commands that make the file system as the container sees it, in its own namespace of mounts."""
    hosts = container.folder / "hosts"
    hosts.write_text("127.0.0.1 localhost\n" + "".join(map(_entry, enumerate(container.hosts))))
    (root / "etc" / "hosts").touch()
    for path in container.folders:
        _place(root, path).mkdir(parents=True, exist_ok=True)
    yield _line("hostname", container.hosts[container.index].partition(".")[0])
    yield _line("mount", "--bind", root, root)
    if container.spec["securityContext"]["readOnlyRootFilesystem"]:
        yield _line("mount", "-o", "remount,bind,ro", root)
    yield _line("mount", "-t", "proc", "proc", root / "proc")
    yield _line("mount", "--rbind", "/dev", root / "dev")
    yield _line("mount", "--bind", hosts, root / "etc" / "hosts")
    volumes = {volume["name"]: volume for volume in container.pod["volumes"]}
    for mount in container.spec["volumeMounts"]:
        yield from _volume(container, mount, volumes[mount["name"]], _place(root, mount["mountPath"]))


def _entry(numbered: tuple[int, str]) -> str:
    number, name = numbered
    return f"127.0.0.{number + 2} {name} {name.partition('.')[0]}\n"


def _volume(container: Container, mount: Manifest, volume: Manifest, place: Path) -> Iterator[str]:
    """A folder, or memory; the group's, as `fsGroup` has it, where the container writes."""
    if volume.get("emptyDir", {}).get("medium") == "Memory":
        size = volume["emptyDir"]["sizeLimit"].removesuffix("i")
        yield _line("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place)
    else:
        yield _line("mount", "--bind", container.folders[mount["mountPath"]], place)
    if mount.get("readOnly"):
        yield _line("mount", "-o", "remount,bind,ro", place)
    else:
        yield _line("chown", f"0:{container.pod['securityContext']['fsGroup']}", place)
        yield _line("chmod", "2777", place)


def _place(root: Path, path: str) -> Path:
    return root / path.lstrip("/")


def _line(*words: str | Path) -> str:
    return shlex.join(map(str, words))


def _as_user(container: Container) -> list[str]:
    """The image's own program that gives up what the manifest takes away."""
    pod, own = container.pod["securityContext"], container.spec["securityContext"]
    dropped = ",".join(f"-{name.lower()}" for name in own["capabilities"]["drop"])
    who = [f"--reuid={pod['runAsUser']}", f"--regid={pod['runAsGroup']}", f"--groups={pod['fsGroup']}"]
    privileges = [] if own["allowPrivilegeEscalation"] else ["--no-new-privs"]
    return ["setpriv", *who, f"--bounding-set={dropped}", f"--inh-caps={dropped}", *privileges]
