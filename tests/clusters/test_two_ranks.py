"""The container as the manifests start it, with two hosts on one machine: a run comes to its end, also disturbed."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from spotune.clusters import Placement, Workload, kubeflow_manifests, kubernetes_manifests
from tests.clusters.cluster import Cluster
from tests.clusters.running import DEADLINE, SHARED, applied, bucket, met, report, until_it_trains, workload
from tests.pod.conftest import Bucket, credentials, s3_url
from tests.training_container.building import CONFIG

pytestmark = [pytest.mark.torch, pytest.mark.embedded]

__all__ = ["bucket", "s3_url", "workload"]

SPREAD = {**SHARED["hardware"], "sharding": "fsdp"}
LONG = {"optimization": {**CONFIG["optimization"], "epochs": 3}}


@pytest.fixture
def cluster(bucket: Bucket, tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path / "cluster", {"s3-keys": credentials(bucket.url)})
    yield made
    made.kill()


def test_two_hosts_of_a_trainjob_publish_one_model(
    cluster: Cluster, bucket: Bucket, workload: Callable[..., Workload]
) -> None:
    applied(cluster, kubeflow_manifests(workload(), Placement(secret="s3-keys")))
    assert cluster.run(DEADLINE), cluster.logs

    assert len(cluster.pods) == 2, cluster.logs
    assert met(cluster) == [{"Rank 0 of 2"}, {"Rank 1 of 2"}]
    published = report(bucket)
    assert published.steps == published.total_steps > 0
    assert published.tuned.eval_loss < published.base.eval_loss
    assert "output/model/adapter_model.safetensors" in bucket.names("output/model/")


def test_a_drained_node_costs_no_failure_and_the_job_goes_on_from_its_last_checkpoint(
    cluster: Cluster, bucket: Bucket, workload: Callable[..., Workload]
) -> None:
    """Each host's part of the optimizer's state comes from the other's disk by way of S3."""
    applied(cluster, kubernetes_manifests(workload(**LONG, hardware=SPREAD), Placement(secret="s3-keys")))
    until_it_trains(cluster)
    cluster.disrupt(1)
    assert cluster.run(DEADLINE), cluster.logs

    assert len(cluster.pods) == 4, cluster.logs
    assert [pod.process.returncode for pod in cluster.pods] == [3, 3, 0, 0]
    assert cluster.counted == 0, "a stop that was asked for is nobody's failure"
    published = report(bucket)
    assert [resume.step > 0 for resume in published.resumes] == [True]
    assert published.steps == published.total_steps


def test_a_fault_of_the_user_s_ends_the_job_at_once_and_says_why(
    cluster: Cluster, bucket: Bucket, workload: Callable[..., Workload]
) -> None:
    run = workload(hardware={**SHARED["hardware"], "sharding": "none"})
    applied(cluster, kubernetes_manifests(run, Placement(secret="s3-keys")))
    assert not cluster.run(DEADLINE)
    assert len(cluster.pods) == 2
    assert json.loads(bucket.read("output/failure"))["code"] == "hosts_not_supported"


def test_a_node_that_is_lost_without_a_word_costs_one_try(
    cluster: Cluster, bucket: Bucket, workload: Callable[..., Workload]
) -> None:
    applied(cluster, kubernetes_manifests(workload(**LONG), Placement(secret="s3-keys")))
    until_it_trains(cluster)
    cluster.lose(0)
    assert cluster.run(DEADLINE), cluster.logs

    assert [pod.process.returncode for pod in cluster.pods] == [-signal.SIGKILL, 1, 0, 0]
    assert cluster.counted == 1, "the survivor's; the lost node's own pod was disrupted"
    assert report(bucket).steps == report(bucket).total_steps
