"""What a deployment's options grant, in an emulator that checks policies: to the roles that need it, and nobody else.

The deployment of test_roles.py has none of these options: here are a further region with its own stack, source buckets,
a shared mirror, an MLflow server and a web ACL. Of all this, three things are not decided here. S3's buckets are of one
account in the emulator, so that `aws:ResourceAccount` always holds; test_template.py reads it in the template. The
emulator forwards no event to another region; whether ForwardingRole could is decided. And neither the emulator nor the
double has SageMaker's MLflow: its actions are put to the policies without the service.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from spotune.aws.base import TrainingJobSpec
from spotune.aws.training_jobs import create_request
from spotune.local.guard import DECISIONS_PATH
from tests.guarded import Guarded, guarded, post
from tests.infra.calls import CALLS, arn
from tests.infra.optional_calls import AWAY, ELSEWHERE, MIRROR, OPTIONAL, SOURCES, bucket_elsewhere
from tests.infra.test_roles import (
    ALLOWED,
    BROKEN_CAPS,
    SEE_TRAINING,
    STOP_TRAINING,
    answer,
    assert_lets_through,
    never_asked_for,
    of_stages,
    of_tenants,
    spec,
)
from tests.infra.test_template import listed, shared_statements

SERVER, STRANGER = (arn("sagemaker", f"mlflow-tracking-server/{name}") for name in ("ours", "strangers"))
OPTIONS = {
    "Subnets": "",
    "SecurityGroups": "",
    "FurtherRegions": AWAY,
    "MlflowServers": SERVER,
    "SourceBuckets": f"arn:aws:s3:::{SOURCES}",
    "MirrorBucket": MIRROR,
    "WebAclArn": "arn:aws:wafv2:us-east-1:000000000000:global/webacl/api/0a1b2c3d",
}

READ_SOURCES = {"read source", "read source's version", "list source", "list source's versions"}
READ_MIRROR = {"read mirror", "list mirror's models", "list all of mirror"}
READ_FURTHER = of_tenants("read copy", "read further job", "list copies", "list further jobs") | {
    *("read further base model", "list further base models"),
    *(f"list all of further {what}" for what in ("Data", "Jobs", "Models")),
}
SEE_TRAINING_AWAY, STOP_TRAINING_AWAY = ({f"{one} away" for one in home} for home in (SEE_TRAINING, STOP_TRAINING))
PRUNE_FURTHER = of_tenants("delete further checkpoint", "tag further checkpoint")


def trains_away(*tenants: str) -> set[str]:
    """What a training role may do there that reaches the folders of these tenants."""
    own = {
        *("read copy", "read further job", "list copies", "list further jobs"),
        *(f"{verb} further {what}" for verb in ("write", "abort") for what in ("checkpoint", "output")),
    }
    return {f"{tenant}: {what}" for tenant in tenants for what in own} | {
        *("read mirror", "list mirror's models", "read further base model", "list further base models", "pull away"),
        *("begin training's logs away", "begin a training log away"),
        *("look at training logs away", "write a training log away"),
    }


GRANTED: dict[str, set[str]] = {
    "ApiRole": READ_SOURCES | READ_MIRROR | READ_FURTHER | of_tenants("delete copy") | {"read edge secret"},
    "LaunchRole": READ_SOURCES
    | READ_MIRROR
    | READ_FURTHER
    | PRUNE_FURTHER
    | of_tenants("write copy", "delete copy", "list parts of copy")
    | of_tenants(*(f"write further {what}" for what in ("config", "inputs", "checkpoint")))
    | of_tenants(*(f"abort further {what}" for what in ("config", "checkpoint")))
    | {
        *("write further base model", "delete further base model"),
        *("list uploads to further Data", "list uploads to further Models"),
    }
    | SEE_TRAINING_AWAY
    | STOP_TRAINING_AWAY,
    "DataArrivedRole": READ_SOURCES,
    "DeliverRole": set(),
    "TrainingChangedRole": READ_MIRROR | READ_FURTHER | SEE_TRAINING_AWAY,
    "ReconcileRole": READ_MIRROR
    | READ_FURTHER
    | PRUNE_FURTHER
    | of_tenants("delete copy", "delete further output")
    | SEE_TRAINING_AWAY
    | STOP_TRAINING_AWAY,
    "RefreshMarketRole": set(),
    "KeysRole": set(),
    "TrainingRole": trains_away("acme", "globex"),
    "TenantRoleacme": trains_away("acme"),
    "TenantRoleglobex": trains_away("globex"),
}
"""Of each role of the installation, the calls that an option lets it make."""


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    with guarded(tmp_path_factory.mktemp("optional"), **OPTIONS) as home:
        made = home.with_region(AWAY)
        for bucket in (SOURCES, MIRROR, "strangers-bucket"):
            made.root("s3").create_bucket(Bucket=bucket)
        there = {"CreateBucketConfiguration": {"LocationConstraint": ELSEWHERE}}
        for what in ("data", "jobs", "models"):
            made.root("s3", ELSEWHERE).create_bucket(Bucket=bucket_elsewhere(what), **there)
        yield made


@pytest.mark.parametrize("role", GRANTED)
def test_an_option_lets_those_roles_in_that_need_it_and_nobody_else(training: Guarded, role: str) -> None:
    assert_lets_through(training, role, OPTIONAL, GRANTED[role])


def test_what_forwards_events_may_do_nothing_but_tell_home(here: Guarded) -> None:
    """In the further region and at home, where it would say it with its own default bus."""
    role = "FurtherForwardingRole"
    assert_lets_through(here, role, {**CALLS, **OPTIONAL}, {"tell home", "send an event"})


def test_every_role_of_both_templates_is_here(here: Guarded) -> None:
    roles = {name for name in here.resources if name.endswith("Role") or "TenantRole" in name}
    assert roles == {*GRANTED, "FurtherForwardingRole"} == {*ALLOWED, "FurtherForwardingRole"}


TRACKS = sorted(action for statement in shared_statements("TrackPolicy") for action in listed(statement["Action"]))
BEYOND_TRACKING = tuple(
    f"sagemaker-mlflow:{verb}"
    for verb in ("DeleteExperiment", "DeleteRun", "CreateRegisteredModel", "UpdateExperiment", "AccessUI")
)


@pytest.mark.parametrize("role", GRANTED)
def test_training_jobs_alone_track_and_on_the_named_server_alone(here: Guarded, role: str) -> None:
    trains = role.startswith(("TrainingRole", "TenantRole"))
    assert {action for action in TRACKS if here.judge(role, action, SERVER)} == (set(TRACKS) if trains else set())
    assert not [action for action in BEYOND_TRACKING if here.judge(role, action, SERVER)]
    assert not [action for action in TRACKS if here.judge(role, action, STRANGER)]


def away(here: Guarded, **changes: Any) -> TrainingJobSpec:
    """A training job that the installation allows in the further region."""
    jobs, data, models = (here.resources[f"Further{what}Bucket"] for what in ("Jobs", "Data", "Models"))
    folder = f"s3://{jobs}/acme/jobs/ftjob-a/"
    values = {
        "subnets": (),
        "security_groups": (),
        "kms_key": here.key.replace("us-east-1", AWAY),
        "config_uri": f"{folder}config/1/",
        "training_uri": f"s3://{data}/acme/copies/f/a.jsonl",
        "model_uri": f"s3://{models}/base/tiny/",
        "checkpoints_uri": f"{folder}checkpoints/",
        "output_uri": f"{folder}output/",
    }
    return spec(here, **{**values, **changes})


@pytest.fixture(scope="module")
def seeded(here: Guarded) -> Guarded:
    """With what a training job there reads."""
    s3 = here.root("s3", AWAY)
    s3.put_object(Bucket=here.resources["FurtherDataBucket"], Key="acme/copies/f/a.jsonl", Body=b"{}")
    s3.put_object(
        Bucket=here.resources["FurtherJobsBucket"], Key="acme/jobs/ftjob-a/config/1/training.json", Body=b"{}"
    )
    s3.put_object(Bucket=here.resources["FurtherModelsBucket"], Key="base/tiny/config.json", Body=b"{}")
    return here


@pytest.fixture(scope="module")
def training(seeded: Guarded) -> Guarded:
    """With training jobs there, of whatever stage."""
    for request in of_stages(away(seeded)):
        seeded.root("sagemaker", AWAY).create_training_job(**request)
    return seeded


@pytest.mark.parametrize("role", ["ApiRole", "LaunchRole", "TrainingRole", "TenantRoleacme"])
def test_what_is_read_there_is_decrypted_with_the_replica_of_our_key(seeded: Guarded, role: str) -> None:
    s3 = seeded.client(role, "s3", AWAY)
    assert s3.get_object(Bucket=seeded.resources["FurtherModelsBucket"], Key="base/tiny/config.json")["Body"].read()
    assert (away(seeded).kms_key, True) in decided(seeded, role, "kms:Decrypt")


def decided(here: Guarded, role: str, action: str) -> set[tuple[str, bool]]:
    """On which resources it was decided for a role, and how."""
    found = post(here.url, DECISIONS_PATH)["decisions"]
    mine = (one for one in found if (one["role"], one["action"]) == (here.resources[role], action))
    return {(one["resource"], one["allowed"]) for one in mine}


def test_a_training_job_within_the_caps_is_started_there_on_each_market(seeded: Guarded) -> None:
    assert answer(seeded, create_request(away(seeded, name="ftjob-spot-1")), region=AWAY) == ""
    both = ("ml.g5.xlarge", "ml.g5.2xlarge")
    ladder = away(seeded, name="ftjob-demand-1", market="on_demand", instance_types=both)
    assert answer(seeded, create_request(ladder), region=AWAY) == ""
    volume = away(seeded, name="ftjob-volume-1", instance_types=("ml.p3.2xlarge",), volume_kms_key=away(seeded).kms_key)
    assert answer(seeded, create_request(volume), region=AWAY) == ""


CAPS_AWAY = {name: cap for name, cap in BROKEN_CAPS.items() if not {"subnets", "security_groups"} & set(cap)}
"""Without subnets: those are home's, and with them there are no further regions."""


@pytest.mark.parametrize("broken", CAPS_AWAY)
def test_a_training_job_beyond_a_cap_is_refused_there_too(seeded: Guarded, broken: str) -> None:
    request = create_request(away(seeded, **CAPS_AWAY[broken]))
    assert answer(seeded, request, region=AWAY) == "AccessDeniedException"


def test_what_our_own_code_never_asks_for_is_refused_there_too(seeded: Guarded) -> None:
    for one in never_asked_for(create_request(away(seeded))):
        assert answer(seeded, one, region=AWAY) == "AccessDeniedException"
    bare = away(seeded, instance_types=("ml.p3.2xlarge",), volume_kms_key="")
    assert answer(seeded, create_request(bare), region=AWAY) == "AccessDeniedException"


def test_a_region_that_is_not_named_trains_nothing(seeded: Guarded) -> None:
    assert answer(seeded, create_request(away(seeded)), region=ELSEWHERE) == "AccessDeniedException"
    job = arn("sagemaker", "training-job/ftjob-a-1", ELSEWHERE)
    start = "sagemaker:CreateTrainingJob"
    assert {one for one in decided(seeded, "LaunchRole", start) if one[0] == job} == {(job, False)}, "not by its tags"


@pytest.mark.parametrize("role", ["TrainingRole", "LaunchRole", "FurtherForwardingRole"])
def test_only_tenants_roles_are_handed_to_training_there(seeded: Guarded, role: str) -> None:
    passed = create_request(away(seeded, role_arn=seeded.role_arn(role)))
    assert answer(seeded, passed, region=AWAY) == "AccessDeniedException"


@pytest.mark.parametrize("role", sorted({*GRANTED, "FurtherForwardingRole"} - {"LaunchRole"}))
def test_no_other_role_starts_training_there(seeded: Guarded, role: str) -> None:
    assert answer(seeded, create_request(away(seeded)), role, AWAY) == "AccessDeniedException"


def test_a_tenants_role_finds_nothing_of_another_tenants_there(seeded: Guarded) -> None:
    role = seeded.role_arn("TenantRoleglobex")
    request = create_request(away(seeded, name="ftjob-mixed-1", role_arn=role))
    assert answer(seeded, request, region=AWAY) == "ValidationException"
