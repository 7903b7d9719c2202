"""The pods of a rendered job, started from the image as their manifests say: two nodes train one model together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from spotune.clusters import Placement, Workload, kubeflow_manifests
from tests.clusters.cluster import Cluster, Pod
from tests.clusters.running import DEADLINE, applied, bucket, met, report, workload
from tests.image.kubelet import kubelet
from tests.pod.conftest import Bucket, credentials, s3_url
from tests.polling import wait_for

pytestmark = pytest.mark.image

__all__ = ["bucket", "s3_url", "workload"]

MOUNTS = {"/": "ro", "/etc/spotune": "ro", "/opt/ml": "rw", "/tmp": "rw", "/dev/shm": "rw"}


@pytest.fixture
def cluster(reference: str, bucket: Bucket, tmp_path: Path) -> Iterator[Cluster]:
    with kubelet(reference) as runtime:
        made = Cluster(tmp_path / "cluster", {"s3-keys": credentials(bucket.url)}, runtime)
        yield made
        made.kill()


def first_process(pod: Pod) -> Path:
    """The kernel's folder on the pod's process 1, once it is the image's program."""

    def found() -> Path | None:
        first = next(iter(psutil.Process(pod.process.pid).children()), None)
        return Path(f"/proc/{first.pid}") if first is not None and first.name() == "python" else None

    return wait_for(found, "the pod's program to start", 60, pause=0.05)


def allowed(process: Path) -> dict[str, str]:
    lines = (process / "status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def mounts(process: Path) -> dict[str, str]:
    """Whether a mount is `ro` or `rw`, by its path as the process sees it."""
    words = [line.split() for line in (process / "mountinfo").read_text().splitlines()]
    return {path: options[:2] for _, _, _, _, path, options, *_ in words}


def test_two_nodes_of_a_rendered_trainjob_train_one_model_from_the_image(
    cluster: Cluster, bucket: Bucket, workload: Callable[..., Workload]
) -> None:
    applied(cluster, kubeflow_manifests(workload(), Placement(secret="s3-keys")))
    for process in map(first_process, cluster.pods):
        status = allowed(process)
        assert {status[name] for name in ("Uid", "Gid")} == {"\t".join(["1000"] * 4)}
        assert [status[name] for name in ("Groups", "NoNewPrivs", "CapBnd")] == ["1000", "1", "0" * 16]
        assert mounts(process).items() >= MOUNTS.items()
    assert cluster.run(DEADLINE), cluster.logs

    assert [pod.process.returncode for pod in cluster.pods] == [0, 0]
    assert met(cluster) == [{"Rank 0 of 2"}, {"Rank 1 of 2"}], cluster.logs
    assert report(bucket).steps == report(bucket).total_steps > 0
    assert "output/model/adapter_model.safetensors" in bucket.names("output/model/")
