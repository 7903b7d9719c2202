"""Manifests as the published schemas have them, and what they promise a run."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotune.clusters import (
    Machine,
    Manifest,
    Placement,
    Toleration,
    Workload,
    check_name,
    kubeflow_manifests,
    kubernetes_manifests,
    name_of,
    parse_labels,
    parse_toleration,
)
from spotune.contracts.errors import RequestRefused
from spotune.contracts.pod import PodConfig
from spotune.contracts.training import ExitCode, TrainingConfig
from tests import factories
from tests.clusters.published import Refused, check

MACHINE = Machine(instance_type="g5.12xlarge", gpus=4, cpus=48, memory_gib=192, disk_gb=60)
RUN = Workload(
    name="routing-1a2b3c4d",
    config=factories.config(),
    channels={"training": "s3://data/acme/train.jsonl", "model": "s3://models/base/tiny/"},
    storage="s3://runs/",
    image="example.com/spotune-training:1",
    hosts=2,
    machine=MACHINE,
    interruptions=1.2,
)
PLAIN = Placement()
FULL = Placement(
    namespace="training",
    service_account="spotune",
    secret="s3-keys",
    node_selector={"nvidia.com/gpu.product": "NVIDIA-A10G"},
    tolerations=(Toleration("nvidia.com/gpu", "NoSchedule"), Toleration("team", "NoExecute", "nlp")),
    storage_class="gp3",
)
Make = Callable[[Workload, Placement], list[Manifest]]
MAKES: dict[str, Make] = {"kubernetes": kubernetes_manifests, "kubeflow": kubeflow_manifests}
both = pytest.mark.parametrize("make", MAKES.values(), ids=MAKES)


def named(manifests: list[Manifest], kind: str) -> Manifest:
    return next(one for one in manifests if one["kind"] == kind)


def job_of(manifests: list[Manifest]) -> Manifest:
    """The Job that makes the pods, whoever makes the Job."""
    if any(one["kind"] == "Job" for one in manifests):
        return named(manifests, "Job")["spec"]
    runtime = named(manifests, "TrainingRuntime")
    return runtime["spec"]["template"]["spec"]["replicatedJobs"][0]["template"]["spec"]


def pod_of(manifests: list[Manifest]) -> Manifest:
    return job_of(manifests)["template"]["spec"]


def told(manifests: list[Manifest]) -> PodConfig:
    return PodConfig.model_validate_json(named(manifests, "ConfigMap")["data"]["pod.json"])


@both
@pytest.mark.parametrize("hosts", [1, 2, 8])
@pytest.mark.parametrize("placement", [PLAIN, FULL], ids=["plain", "full"])
def test_every_manifest_is_as_the_published_schemas_have_it(make: Make, hosts: int, placement: Placement) -> None:
    for manifest in make(replace(RUN, hosts=hosts), placement):
        check(manifest)


SPOILS: dict[str, Callable[[Any], None]] = {
    "an unknown field of a pod": lambda job: job["template"]["spec"].update(nodeSelektor={}),
    "a wrong type": lambda job: job.update(completions="two"),
    "a container without a name": lambda job: job["template"]["spec"]["containers"][0].pop("name"),
    "an unknown field of the policy": lambda job: job["podFailurePolicy"]["rules"][0].update(onExitCode=[2]),
}


@both
@pytest.mark.parametrize("spoil", SPOILS.values(), ids=SPOILS)
def test_the_schemas_say_no_to_a_manifest_that_is_spoilt(make: Make, spoil: Callable[[Any], None]) -> None:
    manifests = copy.deepcopy(make(RUN, PLAIN))
    target = next(one for one in manifests if one["kind"] in ("Job", "TrainingRuntime"))
    within = target["spec"] if target["kind"] == "Job" else job_of(manifests)
    spoil(within)
    with pytest.raises(Refused):
        check(target)


@pytest.mark.parametrize("kind", ["TrainingRuntime", "TrainJob"])
def test_kubeflow_s_models_say_no_to_an_unknown_field(kind: str) -> None:
    manifest = named(kubeflow_manifests(RUN, PLAIN), kind)
    check(manifest)
    with pytest.raises(Refused):
        check({**manifest, "spec": {**manifest["spec"], "numNodes": 2}})


@both
def test_exit_codes_mean_on_a_cluster_what_they_mean_at_sagemaker(make: Make) -> None:
    rules = job_of(make(RUN, PLAIN))["podFailurePolicy"]["rules"]
    codes = {code: rule["action"] for rule in rules if "onExitCodes" in rule for code in rule["onExitCodes"]["values"]}
    assert codes == {ExitCode.USER_ERROR: "FailJob", ExitCode.STOPPED: "Ignore"}
    assert rules[-1] == {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
    assert rules[0]["action"] == "FailJob", "a fault of the user's is final, also in a pod that is being evicted"


def test_a_failed_host_is_borne_once_for_each_host_and_try_and_by_jobset_once_for_all() -> None:
    assert RUN.restarts == 2 + 3, "two as everywhere, and twice the 1.2 sudden ends that the plan expects"
    assert job_of(kubernetes_manifests(RUN, PLAIN))["backoffLimit"] == 10
    assert job_of(kubernetes_manifests(replace(RUN, hosts=1), PLAIN))["backoffLimit"] == 2
    policy = named(kubeflow_manifests(RUN, PLAIN), "TrainingRuntime")["spec"]["template"]["spec"]["failurePolicy"]
    assert (job_of(kubeflow_manifests(RUN, PLAIN))["backoffLimit"], policy["maxRestarts"]) == (0, 5)
    assert policy["rules"][0]["onJobFailureReasons"] == ["PodFailurePolicy"], "which a Job fails with by rule FailJob"


def test_a_host_s_name_is_the_one_that_the_cluster_gives_its_pod() -> None:
    manifests = kubernetes_manifests(RUN, PLAIN)
    service, name = named(manifests, "Service"), named(manifests, "Job")["metadata"]["name"]
    assert told(manifests).hosts == tuple(f"{name}-{index}.{service['metadata']['name']}" for index in (0, 1))
    assert pod_of(manifests)["subdomain"] == service["metadata"]["name"]
    assert service["spec"]["selector"].items() <= job_of(manifests)["template"]["metadata"]["labels"].items()
    assert (service["spec"]["clusterIP"], service["spec"]["publishNotReadyAddresses"]) == ("None", True)

    manifests = kubeflow_manifests(RUN, PLAIN)
    name = named(manifests, "TrainJob")["metadata"]["name"]
    assert told(manifests).hosts == (f"{name}-node-0-0.{name}", f"{name}-node-0-1.{name}")
    assert "subdomain" not in pod_of(manifests), "JobSet sets it"


def test_a_single_host_needs_no_service() -> None:
    manifests = kubernetes_manifests(replace(RUN, hosts=1), PLAIN)
    assert [one["kind"] for one in manifests] == ["ConfigMap", "NetworkPolicy", "Job"]
    assert "subdomain" not in pod_of(manifests)


def test_the_trainjob_takes_its_own_runtime_and_as_many_nodes_as_the_plan() -> None:
    manifests = kubeflow_manifests(RUN, PLAIN)
    job, runtime = named(manifests, "TrainJob"), named(manifests, "TrainingRuntime")
    assert job["spec"]["runtimeRef"] == {
        "apiGroup": "trainer.kubeflow.org",
        "kind": "TrainingRuntime",
        "name": runtime["metadata"]["name"],
    }
    assert job["spec"]["trainer"]["numNodes"] == runtime["spec"]["mlPolicy"]["numNodes"] == 2
    assert list(runtime["spec"]["mlPolicy"]) == ["numNodes"], "another policy would start torchrun"
    [replicated] = runtime["spec"]["template"]["spec"]["replicatedJobs"]
    assert replicated["template"]["metadata"]["labels"]["trainer.kubeflow.org/trainjob-ancestor-step"] == "trainer"
    assert [one["name"] for one in pod_of(manifests)["containers"]] == ["node"], "by which the Trainer finds it"
    kinds = [one["kind"] for one in manifests]
    assert kinds.index("TrainingRuntime") < kinds.index("TrainJob"), "which is refused before its runtime is there"


@both
def test_the_container_is_told_everything_by_files_and_nothing_by_its_environment(make: Make) -> None:
    manifests = make(RUN, PLAIN)
    data = named(manifests, "ConfigMap")["data"]
    assert TrainingConfig.model_validate_json(data["training.json"]) == RUN.config
    assert told(manifests).channels == RUN.channels
    assert told(manifests).checkpoints_uri == "s3://runs/routing-1a2b3c4d/checkpoints/"
    assert told(manifests).model_uri == "s3://runs/routing-1a2b3c4d/output/model/"
    [container] = pod_of(manifests)["containers"]
    assert not container.keys() & {"env", "envFrom"}
    mounts = {one["mountPath"]: one["name"] for one in container["volumeMounts"]}
    volumes = {one["name"]: one for one in pod_of(manifests)["volumes"]}
    assert volumes.keys() == set(mounts.values())
    assert volumes[mounts[container["command"][-1]]]["configMap"]["name"] == RUN.name


@both
def test_no_mount_lies_below_another_whose_folders_would_then_be_roots(make: Make) -> None:
    [container] = pod_of(make(RUN, FULL))["containers"]
    paths = [one["mountPath"] + "/" for one in container["volumeMounts"]]
    assert not [(one, other) for one in paths for other in paths if one != other and one.startswith(other)]


@both
def test_the_plan_s_machines_are_asked_for(make: Make) -> None:
    pod = pod_of(make(RUN, PLAIN))
    assert pod["nodeSelector"] == {"node.kubernetes.io/instance-type": "g5.12xlarge"}
    assert pod["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    assert pod["containers"][0]["resources"] == {
        "requests": {"cpu": "47", "memory": "163Gi"},
        "limits": {"memory": "163Gi", "nvidia.com/gpu": 4},
    }
    volumes = {one["name"]: one for one in pod["volumes"]}
    assert volumes["ml"]["emptyDir"] == {"sizeLimit": "60G"}
    assert volumes["shm"]["emptyDir"] == {"medium": "Memory", "sizeLimit": "48Gi"}


@both
def test_a_cluster_s_owner_says_where_and_as_whom(make: Make) -> None:
    manifests = make(RUN, FULL)
    assert {one["metadata"]["namespace"] for one in manifests} == {"training"}
    pod = pod_of(manifests)
    assert pod["serviceAccountName"] == "spotune"
    assert pod["nodeSelector"] == {"nvidia.com/gpu.product": "NVIDIA-A10G"}
    assert {"key": "team", "operator": "Equal", "value": "nlp", "effect": "NoExecute"} in pod["tolerations"]
    assert pod["containers"][0]["envFrom"] == [{"secretRef": {"name": "s3-keys"}}]
    claim = next(one for one in pod["volumes"] if one["name"] == "ml")["ephemeral"]["volumeClaimTemplate"]["spec"]
    assert (claim["storageClassName"], claim["resources"]["requests"]["storage"]) == ("gp3", "60G")


@both
def test_a_pod_keeps_to_the_restricted_security_standard(make: Make) -> None:
    pod = pod_of(make(RUN, PLAIN))
    [container] = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert pod["automountServiceAccountToken"] is False
    assert {next(iter(volume.keys() - {"name"})) for volume in pod["volumes"]} <= {"configMap", "emptyDir", "ephemeral"}


@both
def test_nobody_but_the_run_s_own_pods_reaches_them(make: Make) -> None:
    manifests = make(RUN, PLAIN)
    policy, own = named(manifests, "NetworkPolicy")["spec"], job_of(manifests)["template"]["metadata"]["labels"]
    assert policy["podSelector"]["matchLabels"].items() <= own.items()
    assert policy["ingress"] == [{"from": [{"podSelector": policy["podSelector"]}]}]
    assert policy["podSelector"]["matchLabels"] == {"spotune/run": RUN.name}


@both
def test_a_pod_that_hangs_is_ended_after_what_the_trainer_may_take(make: Make) -> None:
    pod = pod_of(make(RUN, PLAIN))
    assert pod["activeDeadlineSeconds"] > RUN.config.limits.max_runtime_seconds
    assert pod["terminationGracePeriodSeconds"] > 120, "what SageMaker gives for a last checkpoint"
    assert pod["restartPolicy"] == "Never", "without which a Job takes no pod failure policy"
    assert job_of(make(RUN, PLAIN))["podReplacementPolicy"] == "Failed", "two pods of one host never write at a time"


@given(st.text(max_size=80), st.text(max_size=20))
def test_a_name_made_of_a_file_s_serves_for_everything_that_is_made_of_it(stem: str, content: str) -> None:
    name = name_of(stem, RUN.config, {"training": content})
    assert check_name(name) == name
    for pod in (f"{name}-7-abcde", f"{name}-node-0-7-abcde"):
        assert re.fullmatch(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", pod)
    assert name == name_of(stem, RUN.config.with_(job_id="other"), {"training": content})
    assert name != name_of(stem, RUN.config.with_(seed=8), {"training": content})
    assert name != name_of(stem, RUN.config, {"training": content + "x"})


@pytest.mark.parametrize("name", ["", "Routing", "1-routing", "routing-", "a" * 46, "a_b"])
def test_a_name_that_the_cluster_would_refuse_is_refused(name: str) -> None:
    with pytest.raises(RequestRefused, match="no name for a run") as refused:
        check_name(name)
    assert refused.value.param == "name"


def test_labels_and_tolerations_are_read_as_kubectl_writes_them() -> None:
    assert parse_labels(["karpenter.sh/capacity-type=spot", "gpu="]) == {
        "karpenter.sh/capacity-type": "spot",
        "gpu": "",
    }
    assert parse_toleration("dedicated=training:NoSchedule") == Toleration("dedicated", "NoSchedule", "training")
    assert parse_toleration("spot:NoExecute") == Toleration("spot", "NoExecute")


@pytest.mark.parametrize("text", ["", "gpu", "=a10g", "-gpu=a", "gpu=a b", "gpu=" + "a" * 64])
def test_what_is_no_label_is_refused(text: str) -> None:
    with pytest.raises(RequestRefused):
        parse_labels([text])


@pytest.mark.parametrize("text", ["", "gpu", "gpu:Never", ":NoSchedule", "g u:NoSchedule"])
def test_what_is_no_toleration_is_refused(text: str) -> None:
    with pytest.raises(RequestRefused):
        parse_toleration(text)
