"""A run of two hosts, to be rendered, with its inputs in a real S3."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from spotune.cli.cluster import as_yaml
from spotune.clusters import Machine, Manifest, Workload
from spotune.contracts.training import TrainingConfig, TrainingReport
from tests.clusters.cluster import Cluster
from tests.pod.conftest import BUCKET, Bucket
from tests.polling import wait_for
from tests.training_container.building import CONFIG, rows, save_model

DEADLINE = 900
SHARED = {
    **CONFIG,
    "hardware": {"precision": "fp32", "sharding": "ddp", "micro_batch_size": 1, "gradient_checkpointing": False},
    "evaluation": {"generation_examples": 0},
}


@pytest.fixture
def bucket(s3_url: str, tmp_path: Path) -> Bucket:
    return Bucket(s3_url, f"run-{tmp_path.name}".replace("_", "-"))


@pytest.fixture
def workload(bucket: Bucket, tmp_path: Path) -> Callable[..., Workload]:
    def make(**changes: Any) -> Workload:
        training = b"".join(json.dumps(row).encode() + b"\n" for row in rows(30))
        # Its own folder in S3 is the bucket's fixture's.
        return Workload(
            name=bucket.folder,
            config=TrainingConfig.model_validate({**SHARED, **changes}),
            channels={
                "training": bucket.put("train.jsonl", training),
                "model": bucket.put_folder("base", save_model(tmp_path / "base")),
            },
            storage=f"s3://{BUCKET}/",
            image="example.com/spotune-training:1",
            hosts=2,
            machine=Machine(instance_type="g5.xlarge", gpus=1, cpus=4, memory_gib=16, disk_gb=1),
            interruptions=0.5,
        )

    return make


def applied(cluster: Cluster, manifests: list[Manifest]) -> None:
    """As they are read from what `spotune render` prints."""
    cluster.apply(list(yaml.safe_load_all(as_yaml(manifests))))


def until_it_trains(cluster: Cluster) -> None:
    wait_for(lambda: '"train_loss"' in cluster.pods[0].log or None, "a logged step", DEADLINE, pause=0.05)


def report(bucket: Bucket) -> TrainingReport:
    return TrainingReport.model_validate_json(bucket.read("output/model/report.json"))


def met(cluster: Cluster) -> list[set[str]]:
    """What the ranks of each pod said of themselves when they had met."""
    return [set(re.findall(r"^(Rank .*) has met the others\.$", pod.log, re.MULTILINE)) for pod in cluster.pods]
