"""`render`: from a job file or a job to manifests, against the real handlers, and with no API at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from spotune.contracts.pod import PodConfig
from spotune.contracts.training import TrainingConfig
from tests import tiny_model
from tests.cli.conftest import Run, Service
from tests.clusters.published import check

MODEL = "Qwen/Qwen2.5-1.5B-Instruct"
TO = ("--image", "example.com/spotune-training:1", "--storage", "s3://runs/team")


@pytest.fixture
def job_file(tmp_path: Path) -> Path:
    (tmp_path / "train.jsonl").write_bytes(tiny_model.chat_rows(60))
    path = tmp_path / "Support Routing.yaml"
    path.write_text(f"model: {MODEL}\ntraining_file: train.jsonl\n")
    return path


@pytest.fixture
def tiny_file(job_file: Path) -> Path:
    job_file.write_text(job_file.read_text().replace(MODEL, tiny_model.NAME))
    return job_file


def of_kind(manifests: list[Any], kind: str) -> Any:
    return next(one for one in manifests if one["kind"] == kind)


def told(manifests: list[Any]) -> tuple[PodConfig, TrainingConfig]:
    data = of_kind(manifests, "ConfigMap")["data"]
    return PodConfig.model_validate_json(data["pod.json"]), TrainingConfig.model_validate_json(data["training.json"])


@pytest.mark.parametrize(("target", "kind"), [("kubernetes", "Job"), ("kubeflow", "TrainJob")])
def test_what_is_printed_is_yaml_that_the_cluster_takes(run: Run, job_file: Path, target: str, kind: str) -> None:
    ran = run("render", job_file, "--target", target, "--offline", *TO)
    assert ran.code == 0, ran.err
    manifests = list(yaml.safe_load_all(ran.out))
    for manifest in manifests:
        check(manifest)
    assert manifests[-1]["kind"] == kind
    printed = run("render", job_file, "--target", target, "--offline", *TO, "--json").json
    assert (printed["kind"], printed["items"]) == ("List", manifests), "the same for programs, which kubectl takes, too"
    written = run("render", job_file, "--target", target, "--offline", *TO, "--out", job_file.with_name("run.yaml"))
    assert (written.code, written.out) == (0, "")
    assert job_file.with_name("run.yaml").read_text() == ran.out


def test_without_an_api_it_says_what_to_upload_and_the_pods_look_for_it_there(run: Run, job_file: Path) -> None:
    ran = run("render", job_file, "--target", "kubernetes", "--offline", *TO)
    pod, config = told(list(yaml.safe_load_all(ran.out)))
    assert pod.channels.keys() == {"training", "model"}
    assert config.job_id.startswith("support-routing-")
    assert pod.channels["training"] == f"s3://runs/team/{config.job_id}/inputs/training/train.jsonl"
    uploads = [line for line in ran.err.splitlines() if "aws s3 cp" in line]
    assert len(uploads) == len(pod.channels)
    assert all(any(line.endswith(uri) for line in uploads) for uri in pod.channels.values())


def test_the_same_job_has_the_same_name_and_another_one_another(run: Run, job_file: Path) -> None:
    def name(*more: str) -> str:
        ran = run("render", job_file, "--target", "kubernetes", "--offline", *TO, *more, "--json")
        return str(of_kind(ran.json["items"], "Job")["metadata"]["name"])

    first = name()
    assert name() == first
    assert name("--set", "hyperparameters.n_epochs=5") != first
    (job_file.parent / "train.jsonl").write_bytes(tiny_model.chat_rows(61))
    assert name() != first
    assert name("--name", "mine") == "mine"


def test_the_image_machines_and_placement_are_those_that_were_asked_for(run: Run, job_file: Path) -> None:
    asked = ("--set", "constraints.instance_types=[ml.g5.12xlarge]", "--set", "hyperparameters.batch_size=8")
    place = ("--namespace", "ml", "--service-account", "spotune", "--secret", "s3", "--storage-class", "gp3")
    where = ("--node-selector", "pool=gpu", "--toleration", "pool=gpu:NoSchedule")
    ran = run("render", job_file, "--target", "kubernetes", "--offline", *TO, *asked, *place, *where, "--json")
    job = of_kind(ran.json["items"], "Job")
    pod = job["spec"]["template"]["spec"]
    assert job["metadata"]["namespace"] == "ml"
    assert pod["containers"][0]["image"] == "example.com/spotune-training:1"
    assert pod["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == 4
    assert (pod["serviceAccountName"], pod["nodeSelector"]) == ("spotune", {"pool": "gpu"})
    assert [one["key"] for one in pod["tolerations"]] == ["nvidia.com/gpu", "pool"]


def test_a_job_file_is_planned_by_the_api_and_its_data_lies_where_the_api_keeps_it(
    service: Service, run: Run, tiny_file: Path
) -> None:
    ran = run("render", tiny_file, "--target", "kubeflow", *TO, "--json")
    assert ran.code == 0, ran.err
    pod, config = told(ran.json["items"])
    objects = service.world.objects
    assert objects.head(pod.channels["training"]) is not None
    assert objects.head(f"{pod.channels['model']}config.json") is not None
    assert config.model.name == tiny_model.NAME
    assert run("list", "--json").json["data"] == [], "nothing is submitted"


def test_a_job_is_rendered_once_it_cannot_run_elsewhere_any_more(service: Service, run: Run, tiny_file: Path) -> None:
    job_id = str(run("submit", tiny_file, "--json").json["id"])
    refused = run("render", job_id, "--target", "kubernetes", *TO, "--json")
    assert (refused.code, "cannot be retried" in refused.error["message"]) == (2, True)
    run("cancel", job_id)
    service.world.run_queue()
    ran = run("render", job_id, "--target", "kubernetes", *TO, "--json")
    assert ran.code == 0, ran.err
    assert of_kind(ran.json["items"], "Job")["metadata"]["name"] == job_id
    pod, config = told(ran.json["items"])
    assert service.world.objects.head(pod.channels["training"]) is not None
    assert config.job_id == job_id


@pytest.mark.parametrize(
    ("more", "param"),
    [
        (("--storage", "runs/team"), "storage"),
        (("--name", "My Run"), "name"),
        (("--node-selector", "gpu"), "node_selector"),
        (("--toleration", "gpu"), "toleration"),
    ],
)
def test_what_is_wrong_is_refused_by_name(run: Run, job_file: Path, more: tuple[str, str], param: str) -> None:
    refused = run("render", job_file, "--target", "kubernetes", "--offline", *TO, *more, "--json")
    assert (refused.code, refused.error["param"]) == (2, param)
    assert json.loads(refused.err)["error"]["message"]
    assert refused.out == ""


def test_a_file_that_is_not_there_is_no_job_s_id(run: Run, tmp_path: Path) -> None:
    refused = run("render", tmp_path / "gone.yaml", "--target", "kubernetes", "--offline", *TO)
    assert (refused.code, "gone.yaml" in refused.err) == (2, True)
    assert run("render", "ftjob-none", "--target", "kubernetes", *TO).code == 5, "there is no API to ask"
