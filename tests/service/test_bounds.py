"""What the installation says of every training job: its role, network, key and bounds, and its checkpoints' end."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from spotune.contracts import layout
from spotune.contracts.bounds import Bounds
from spotune.service.installation import install
from spotune.service.jobs.changes import apply
from spotune.service.jobs.checkpoints import TAG
from tests import tiny_model
from tests.factories import observed
from tests.in_process import Answer, World, client_of, world
from tests.infra.test_template import BUCKETS

JOBS = "/v1/fine_tuning/jobs"
ROLES = "arn:aws:iam::123456789012:role/spotune/test/training/spotune-test-"
KEY = "arn:aws:kms:us-east-1:123456789012:key/mrk-1"


def set_up(**changes: object) -> World:
    made = world()
    made = replace(made, here=replace(made.here, settings=replace(made.here.settings, **changes)))
    install(made.here)
    return made


def submit(made: World, tenant: str = "acme", **constraints: object) -> Answer:
    client = client_of(made.here, tenant)
    file_id = client.upload(tiny_model.chat_rows(30))
    return client.call("POST", JOBS, {"model": tiny_model.NAME, "training_file": file_id, "constraints": constraints})


def started(made: World, answer: Answer) -> Any:
    assert answer.status == 200, answer.raw
    made.run_queue()
    return made.training_jobs.specs[f"{answer.body['id']}-1"]


def test_each_tenants_jobs_run_under_its_own_role_where_tenants_have_roles() -> None:
    made = set_up(tenants=("acme", "globex"), tenant_roles=ROLES)
    assert {started(made, submit(made, name)).role_arn for name in ("acme", "globex")} == {
        f"{ROLES}acme",
        f"{ROLES}globex",
    }


def test_without_tenants_all_jobs_run_under_the_one_role() -> None:
    made = set_up(tenant_roles=ROLES)
    assert started(made, submit(made, "anybody")).role_arn == made.here.settings.training_role


def test_a_tenant_without_a_role_is_refused_before_anything_is_recorded_and_gets_nobody_elses() -> None:
    made = set_up(tenants=("acme",), tenant_roles=ROLES)
    answer = submit(made, "globex")
    assert (answer.status, answer.error["code"]) == (403, "tenant_without_role")
    assert made.store.list_jobs("globex", after=None, limit=10).items == ()
    source, trigger = {"uri": "s3://data/globex/in/*.jsonl"}, {"min_rows": 10}
    rule = {"name": "nightly", "source": source, "trigger": trigger, "job": {"model": tiny_model.NAME}}
    answer = client_of(made.here, "globex").call("POST", "/v1/rules", rule)
    assert answer.error["code"] == "tenant_without_role", answer.raw


def test_network_and_key_of_the_installation_reach_the_training_job() -> None:
    made = set_up(subnets=("subnet-1",), security_groups=("sg-1",), kms_key=KEY)
    spec = started(made, submit(made))
    assert (spec.subnets, spec.security_groups, spec.kms_key) == (("subnet-1",), ("sg-1",), KEY)


def test_volumes_have_the_key_and_local_storage_which_takes_none_is_not_given_it() -> None:
    on_demand = {"market": "on_demand", "budget_usd": 400}
    made = set_up(kms_key=KEY)
    local = started(made, submit(made, instance_types=["ml.g5.xlarge", "ml.g5.2xlarge"], **on_demand))
    assert (len(local.instance_types), local.volume_kms_key, local.kms_key) == (2, "", KEY)
    volumes = started(made, submit(made, instance_types=["ml.p3.2xlarge"], **on_demand))
    assert (volumes.volume_kms_key, volumes.kms_key) == (KEY, KEY)
    plain = set_up()
    assert started(plain, submit(plain, instance_types=["ml.p3.2xlarge"], **on_demand)).volume_kms_key == ""


def test_with_a_key_an_attempt_names_no_types_that_store_otherwise_than_its_first() -> None:
    """One request has one key for all its types."""
    mixed = {"market": "on_demand", "budget_usd": 900, "instance_types": ["ml.g5.4xlarge", "ml.p3.2xlarge"]}
    plain = set_up()
    types = started(plain, submit(plain, **mixed)).instance_types
    assert set(types) == {"ml.g5.4xlarge", "ml.p3.2xlarge"}
    keyed = set_up(kms_key=KEY)
    spec = started(keyed, submit(keyed, **mixed))
    assert spec.instance_types == types[:1]
    assert spec.volume_kms_key == ("" if types[0] == "ml.g5.4xlarge" else KEY)


def test_in_a_further_region_the_key_is_the_replica_there() -> None:
    settings = set_up(kms_key=KEY).here.settings
    assert settings.key_in("eu-west-1") == KEY.replace("us-east-1", "eu-west-1")
    assert settings.key_in("") == settings.key_in("us-east-1") == KEY
    assert set_up().here.settings.key_in("eu-west-1") == ""


def test_only_allowed_types_are_planned_on_and_asking_for_another_says_so() -> None:
    made = set_up(bounds=Bounds(instance_types=("ml.g6.xlarge", "ml.g6.2xlarge")))
    answer = submit(made)
    spec = started(made, answer)
    assert set(spec.instance_types) <= {"ml.g6.xlarge", "ml.g6.2xlarge"}
    refused = submit(made, instance_types=["ml.g5.xlarge"])
    assert (refused.status, refused.error["code"]) == (400, "instance_type_not_allowed")
    assert "ml.g6.2xlarge" in refused.error["message"]
    unknown = submit(made, instance_types=["ml.g99.xlarge"])
    assert unknown.error["code"] == "unknown_instance_type"


def test_no_training_job_is_let_run_longer_than_the_installation_allows() -> None:
    made = set_up(bounds=Bounds(longest=7200))
    assert started(made, submit(made, budget_usd=900)).max_runtime == 7200


def test_a_job_that_was_planned_before_the_bound_was_set_runs_within_it_too() -> None:
    made = world()
    install(made.here)
    answer = submit(made, budget_usd=900)
    bounded = replace(made, here=replace(made.here, settings=replace(made.here.settings, bounds=Bounds(longest=3600))))
    install(bounded.here)
    spec = started(bounded, answer)
    assert spec.max_runtime == 3600
    assert b'"max_runtime_seconds": 3600' in made.objects.read(spec.config_uri + "training.json")


def test_a_run_that_would_take_longer_than_allowed_is_refused_with_the_reason() -> None:
    made = set_up(bounds=Bounds(longest=60))
    refused = submit(made, budget_usd=900)
    assert (refused.status, refused.error["code"]) == (400, "no_candidate"), refused.raw
    assert "the installation lets a training job run for" in refused.error["message"]


def test_an_ended_jobs_checkpoints_carry_the_tag_that_the_lifecycle_rule_looks_for_and_nothing_else_does() -> None:
    made = set_up()
    answer = submit(made)
    spec = started(made, answer)
    folder = layout.job_uri("artifacts", "acme", answer.body["id"])
    kept = [f"{folder}checkpoints/checkpoint-{step}/manifest.json" for step in (10, 20)]
    for uri in (*kept, f"{folder}output/model.safetensors"):
        made.objects.write(uri, b"weights")
    apply(made.here, answer.body["id"], observed(name=spec.name))
    made.run_queue()
    assert made.objects.marks == {}, "it runs"
    client_of(made.here, "acme").call("POST", f"{JOBS}/{answer.body['id']}/cancel")
    apply(made.here, answer.body["id"], observed(name=spec.name, status="Stopped", secondary_status="Stopped"))
    made.run_queue()
    assert made.objects.marks == dict.fromkeys(kept, TAG)
    rules = BUCKETS["ArtifactsBucket"]["LifecycleConfiguration"]["Rules"]
    assert [{"Key": TAG[0], "Value": TAG[1]}] in [rule.get("TagFilters") for rule in rules]
