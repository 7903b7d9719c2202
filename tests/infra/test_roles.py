"""Each role of the template, in an emulator that checks policies: what it may do, and that it may do nothing else.

Every role makes every call of `calls.py`. Whether it was let through is read twice: from the answer, and from the
decision that was taken on the very action, so that a call that fails for another reason counts for neither.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from spotune.aws.base import TrainingJobSpec
from spotune.aws.training_jobs import create_request
from spotune.local.guard import DECISIONS_PATH
from spotune.local.state import REGION
from tests.guarded import Guarded, guarded, post
from tests.infra.calls import CALLS, Call

FEWEST_DENIED = 30
DENIED = frozenset({"AccessDenied", "AccessDeniedException", "AuthorizationError", "UnauthorizedOperation", "403"})

LOG = {"begin", "write"}
TENANTS = ("acme", "globex")
RECORDS = {f"{verb} {kind}" for verb in ("delete", "get", "put", "update") for kind in ("JOB", "KEY", "WEBHOOKS")} | {
    *("get AUDIT", "query", "query index"),
}
AUDIT = {"put AUDIT", "put AUDIT behind JOB"}
"""Nobody changes or deletes a record of it."""
READ_OBJECTS = {f"{tenant}: {what}" for tenant in TENANTS for what in ("read file", "read job")} | {
    *("read base model", "read market", "list base models", "list all of ModelsBucket"),
    *(f"list all of {bucket}" for bucket in ("DataBucket", "ArtifactsBucket")),
    *(f"{tenant}: list {bucket}" for tenant in TENANTS for bucket in ("DataBucket", "ArtifactsBucket")),
}
SHOW_MODELS = {
    *("make spotune-local-acme", "describe spotune-local-acme", "show in spotune-local-acme"),
    *("look at spotune-local-acme/1", "change spotune-local-acme/1", "delete spotune-local-acme/1"),
    "list model packages",
}

SEE_TRAINING = {f"describe {name}" for name in ("ftjob-ours-1", "ftjob-theirs-1", "ftjob-untagged-1")}
"""Whose a training job is, is read from its description."""
STOP_TRAINING = {"stop ftjob-ours-1", "stop ftjob-untagged-1"}
"""One without a stage is of a version that named none."""


def of_tenants(*what: str) -> set[str]:
    return {f"{tenant}: {one}" for tenant in TENANTS for one in what}


def takes_from(queue: str) -> set[str]:
    return {f"receive from {queue}", f"delete from {queue}", f"look at {queue}"}


def trains_for(*tenants: str) -> set[str]:
    """What a training role may do that reaches the folders of these tenants."""
    own = {
        *("read file", "read job", "write checkpoint", "write output"),
        *("list DataBucket", "list ArtifactsBucket"),
    }
    return {f"{tenant}: {what}" for tenant in tenants for what in own} | {
        *(f"read secret spotune/local/trackers/{tenant}/wandb" for tenant in tenants),
        *("read base model", "list base models", "measure /aws/sagemaker/TrainingJobs"),
        # By the container itself; what S3 does by the key for it is asked for with each object.
        "encrypt by the key",
        *("sign in to registry", "pull spotune-training"),
        *("begin training's logs", "begin a training log", "look at training logs", "write a training log"),
    }


ALLOWED: dict[str, set[str]] = {
    "ApiRole": RECORDS
    | AUDIT
    | READ_OBJECTS
    | of_tenants("write file", "delete file", "write quality")
    | {"read file's version", "send to LaunchQueue", "read signing secret", "begin ApiLogs", "write ApiLogs"},
    "LaunchRole": RECORDS
    | READ_OBJECTS
    | SHOW_MODELS
    | SEE_TRAINING
    | STOP_TRAINING
    | of_tenants("write rule", "write config", "write quality", "write checkpoint")
    | of_tenants("tag checkpoints", "delete checkpoint")
    | takes_from("LaunchQueue")
    | {
        *("read file's version", "list versions", "send to LaunchQueue", "send to DeliveryQueue"),
        *("begin LaunchLogs", "write LaunchLogs"),
    },
    "DataArrivedRole": RECORDS
    | of_tenants("read file", "list DataBucket", "write rule")
    | takes_from("ArrivalsQueue")
    | {"read file's version", "list all of DataBucket", "send to DeliveryQueue"},
    # Of the table, the items of webhooks alone.
    "DeliverRole": takes_from("DeliveryQueue")
    | {"postpone in DeliveryQueue", "get WEBHOOKS", "put WEBHOOKS", "publish to Notifications", "read signing secret"},
    "TrainingChangedRole": RECORDS | READ_OBJECTS | SEE_TRAINING | {"send to LaunchQueue"},
    "ReconcileRole": RECORDS
    | READ_OBJECTS
    | SHOW_MODELS
    | SEE_TRAINING
    | STOP_TRAINING
    | of_tenants("delete output", "tag checkpoints", "delete checkpoint")
    | {"send to LaunchQueue", "send to DeliveryQueue", "list training jobs"},
    "RefreshMarketRole": {
        *("read market", "write market", "list base models", "list all of ModelsBucket"),
        *("read prices", "read spot", "read scores", "read quotas"),
    },
    "KeysRole": {"put AUDIT", "put KEY", "begin KeysLogs", "write KeysLogs"},
    "TrainingRole": trains_for("acme", "globex"),
    "TenantRoleacme": trains_for("acme"),
    "TenantRoleglobex": trains_for("globex"),
}
"""Of each role, the calls that it may make. All the others it may not."""


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    with guarded(tmp_path_factory.mktemp("guarded")) as made:
        root = made.root("secretsmanager")
        for name in ("spotune/local/trackers/acme/wandb", "spotune/local/trackers/globex/wandb", "strangers/secret"):
            root.create_secret(Name=name, SecretString="x")
        made.root("s3").create_bucket(Bucket="strangers-bucket")
        yield made


def is_let_through(here: Guarded, role: str, call: Call, clients: dict[str, Any]) -> bool:
    where = f"{call.service} {call.region}"
    if where not in clients:
        clients[where] = here.client(role, call.service, call.region)
    try:
        getattr(clients[where], call.operation)(**call.arguments(here))
    except ClientError as error:
        return error.response["Error"]["Code"] not in DENIED
    return True


def assert_lets_through(here: Guarded, role: str, calls: Mapping[str, Call], allowed: set[str]) -> None:
    """Of these calls, the role may make those that are named, and enough others it may not."""
    clients: dict[str, Any] = {}
    let_through = {name for name, call in calls.items() if is_let_through(here, role, call, clients)}
    assert let_through == allowed
    assert len(calls) - len(let_through) >= FEWEST_DENIED
    decided = decisions(here, role)
    undecided = [name for name, call in calls.items() if (call.action, name in allowed) not in decided]
    assert undecided == [], "what was answered was not decided by a policy"


def decisions(here: Guarded, role: str) -> set[tuple[str, bool]]:
    name = here.resources[role]
    found = post(here.url, DECISIONS_PATH)["decisions"]
    return {(one["action"], one["allowed"]) for one in found if one["role"] == name}


@pytest.mark.parametrize("role", ALLOWED)
def test_a_role_may_do_what_it_is_for_and_nothing_else(training: Guarded, role: str) -> None:
    assert_lets_through(training, role, CALLS, ALLOWED[role])
    assert ("kms:Decrypt", True) in decisions(training, role), "what it reads lies encrypted with our key"


def test_every_role_of_the_template_is_here(here: Guarded) -> None:
    assert {name for name in here.resources if name.endswith("Role") or "TenantRole" in name} == set(ALLOWED)


def spec(here: Guarded, **changes: Any) -> TrainingJobSpec:
    """A training job that the installation allows."""
    artifacts, tenant = here.outputs["ArtifactsBucket"], changes.pop("folder", "acme")
    folder = f"s3://{artifacts}/{tenant}/jobs/ftjob-a/"
    values: dict[str, Any] = {
        "name": "ftjob-a-1",
        "stage": "local",
        "job_id": "ftjob-a",
        "tenant": "acme",
        "attempt": 1,
        "role_arn": here.role_arn("TenantRoleacme"),
        "image": "000000000000.dkr.ecr.us-east-1.amazonaws.com/spotune-training:1",
        "market": "spot",
        "instance_types": ("ml.g5.xlarge",),
        "instance_count": 1,
        "volume_gb": 50,
        "max_runtime": 7200,
        "max_wait": 8000,
        "config_uri": f"{folder}config/1/",
        "training_uri": f"s3://{here.outputs['DataBucket']}/{tenant}/files/f/a.jsonl",
        "validation_uri": None,
        "model_uri": f"s3://{here.outputs['ModelsBucket']}/base/tiny/",
        "champion_uri": None,
        "golden_uri": None,
        "checkpoints_uri": f"{folder}checkpoints/",
        "output_uri": f"{folder}output/",
        "environment": {},
        "subnets": ("subnet-0a",),
        "security_groups": ("sg-0a",),
        "kms_key": here.key,
    }
    return TrainingJobSpec(**{**values, **changes})


def answer(here: Guarded, request: dict[str, Any], role: str = "LaunchRole", region: str = REGION) -> str:
    """What SageMaker says to a role's request: the error's code, or nothing."""
    try:
        here.client(role, "sagemaker", region).create_training_job(**request)
    except ClientError as error:
        return str(error.response["Error"]["Code"])
    return ""


@pytest.fixture(scope="module")
def seeded(here: Guarded) -> Guarded:
    """With the files of both tenants, and a base model."""
    s3 = here.root("s3")
    for tenant in TENANTS:
        s3.put_object(Bucket=here.outputs["DataBucket"], Key=f"{tenant}/files/f/a.jsonl", Body=b"{}")
        key = f"{tenant}/jobs/ftjob-a/config/1/training.json"
        s3.put_object(Bucket=here.outputs["ArtifactsBucket"], Key=key, Body=b"{}")
    s3.put_object(Bucket=here.outputs["ModelsBucket"], Key="base/tiny/config.json", Body=b"{}")
    return here


@pytest.fixture(scope="module")
def training(seeded: Guarded) -> Guarded:
    """With training jobs of this stage, of another one, and of a version that named none."""
    for request in of_stages(spec(seeded)):
        seeded.root("sagemaker").create_training_job(**request)
    return seeded


def of_stages(one: TrainingJobSpec) -> Iterator[dict[str, Any]]:
    """Requests for the same training job of this stage, of another one, and of a version that named none."""
    for name, stage in (("ours", "local"), ("theirs", "prod"), ("untagged", "")):
        request = create_request(replace(one, name=f"ftjob-{name}-1", stage=stage))
        yield request if stage else {**request, "Tags": []}


def test_a_training_job_within_the_caps_is_started_on_each_market(seeded: Guarded) -> None:
    assert answer(seeded, create_request(spec(seeded, name="ftjob-spot-1"))) == ""
    both = ("ml.g5.xlarge", "ml.g5.2xlarge")
    ladder = spec(seeded, name="ftjob-demand-1", market="on_demand", instance_types=both)
    assert answer(seeded, create_request(ladder)) == ""


def test_a_volume_has_our_key_and_local_storage_which_takes_none_does_without(seeded: Guarded) -> None:
    """Of types without local storage no job starts without the key; of types with it, none starts with one."""
    volumes, local = ("ml.p3.2xlarge", "ml.p3.8xlarge"), ("ml.g5.xlarge", "ml.g5.2xlarge")
    evil = "arn:aws:kms:us-east-1:000000000000:key/evil"

    def asked(name: str, types: tuple[str, ...], key: str) -> str:
        return answer(
            seeded,
            create_request(
                spec(seeded, name=f"ftjob-{name}", market="on_demand", instance_types=types, volume_kms_key=key)
            ),
        )

    assert asked("volume-1", volumes[:1], seeded.key) == asked("volumes-1", volumes, seeded.key) == ""
    assert asked("local-1", local, "") == ""
    assert asked("bare-1", volumes[:1], "") == asked("bare-2", volumes, "") == "AccessDeniedException"
    assert asked("mixed-1", (local[0], volumes[0]), "") == "AccessDeniedException"
    assert asked("evil-1", volumes[:1], evil) == asked("evil-2", local[:1], evil) == "AccessDeniedException"
    assert asked("refused-1", local[:1], seeded.key) == "ValidationException"


BROKEN_CAPS: dict[str, dict[str, Any]] = {
    "another type": {"instance_types": ("ml.p5.48xlarge",)},
    "another type among allowed ones": {"market": "on_demand", "instance_types": ("ml.g5.xlarge", "ml.p5.48xlarge")},
    "a longer run": {"max_runtime": 7201},
    "a network": {"network_isolation": False},
    "another subnet": {"subnets": ("subnet-0a", "subnet-evil")},
    "another security group": {"security_groups": ("sg-evil",)},
    "no subnets": {"subnets": (), "security_groups": ()},
    "another key": {"kms_key": "arn:aws:kms:us-east-1:000000000000:key/evil"},
    "no key": {"kms_key": ""},
    "a name that is not ours": {"name": "strangers-job"},
    "another stage": {"stage": "prod"},
}


@pytest.mark.parametrize("broken", BROKEN_CAPS)
def test_a_training_job_beyond_a_cap_is_refused_by_iam(seeded: Guarded, broken: str) -> None:
    assert answer(seeded, create_request(spec(seeded, **BROKEN_CAPS[broken]))) == "AccessDeniedException"


def _with(request: dict[str, Any], part: str, **values: Any) -> dict[str, Any]:
    return {**request, part: {**request.get(part, {}), **values}}


def never_asked_for(request: dict[str, Any]) -> tuple[dict[str, Any], ...]:
    """Requests like this one as our own code makes none."""
    warm = _with(request, "ResourceConfig", KeepAlivePeriodInSeconds=3600)
    shell = _with(request, "RemoteDebugConfig", EnableRemoteDebug=True)
    plain = {**request, "EnableInterContainerTrafficEncryption": False}
    typeless = {**request, "ResourceConfig": {"InstanceCount": 1, "VolumeSizeInGB": 1}}
    silent = {key: value for key, value in request.items() if key != "EnableNetworkIsolation"}
    untagged = {key: value for key, value in request.items() if key != "Tags"}
    return warm, shell, plain, typeless, silent, untagged


def test_what_our_own_code_never_asks_for_is_refused_too(seeded: Guarded) -> None:
    for one in never_asked_for(create_request(spec(seeded))):
        assert answer(seeded, one) == "AccessDeniedException"


@pytest.mark.parametrize("role", ["TrainingRole", "LaunchRole", "KeysRole"])
def test_only_tenants_roles_are_handed_to_training_where_tenants_have_roles(seeded: Guarded, role: str) -> None:
    passed = create_request(spec(seeded, role_arn=seeded.role_arn(role)))
    assert answer(seeded, passed) == "AccessDeniedException"


@pytest.mark.parametrize("role", sorted(set(ALLOWED) - {"LaunchRole"}))
def test_no_other_role_starts_training(seeded: Guarded, role: str) -> None:
    assert answer(seeded, create_request(spec(seeded)), role) == "AccessDeniedException"


def test_a_tenants_role_finds_nothing_of_another_tenants(seeded: Guarded) -> None:
    """The launcher itself may go wrong: what it hands to a job still reaches one tenant's folders alone."""
    assert answer(seeded, create_request(spec(seeded, name="ftjob-mixed-1", folder="globex"))) == "ValidationException"


def test_nobody_reads_a_bucket_without_tls(seeded: Guarded) -> None:
    s3 = seeded.client("ApiRole", "s3")
    asked = {"Bucket": seeded.outputs["DataBucket"], "Key": "acme/files/f/a.jsonl"}
    assert s3.get_object(**asked)["Body"].read() == b"{}"

    def in_clear(request: Any, **_: Any) -> None:
        request.headers["X-Forwarded-Proto"] = "http"

    s3.meta.events.register("before-send.s3.*", in_clear)
    with pytest.raises(ClientError, match=r"AccessDenied|Access Denied"):
        s3.get_object(**asked)
