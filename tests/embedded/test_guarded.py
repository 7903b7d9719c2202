"""Jobs under the real roles: the emulator and the double judge every call by the template's own policies."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from spotune.local import stack as embedded
from spotune.local.deployment import STACK, TENANT, client
from spotune.local.guard import DECISIONS_PATH
from spotune.local.models import add_base_model
from spotune.local.state import StackState
from spotune.store.dynamo import DynamoStore
from tests import tiny_model
from tests.embedded.functions import invoke
from tests.embedded.test_end_to_end import details, finished, submit
from tests.guarded import post
from tests.infra.test_template import listed
from tests.landings import rows
from tests.polling import wait_for
from tests.receiver import receiving

pytestmark = [pytest.mark.embedded, pytest.mark.torch]

PARAMETERS = {
    "Tenants": f"{TENANT},globex",
    "NetworkIsolation": "true",
    "Subnets": "subnet-0a",
    "SecurityGroups": "sg-0a",
    "MaxRuntimeSeconds": "36000",
    "KmsKeyArn": "arn:aws:kms:us-east-1:000000000000:key/00000000-0000-0000-0000-000000000000",
}


BY_AWS = frozenset(
    {
        *("logs:CreateLogGroup", "logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"),
        *("xray:PutTelemetryRecords", "xray:PutTraceSegments", "cloudwatch:PutMetricData"),
        *("sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"),
        *("ecr:GetAuthorizationToken", "ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage"),
        *("ecr:GetDownloadUrlForLayer", "kms:CreateGrant", "kms:DescribeKey", "kms:Encrypt"),
        *(f"ec2:{verb}NetworkInterface{what}" for verb in ("Create", "Delete") for what in ("", "Permission")),
        *(f"ec2:Describe{what}" for what in ("DhcpOptions", "NetworkInterfaces", "SecurityGroups", "Subnets", "Vpcs")),
    }
)
"""What AWS itself does under a role, and the emulator does without: Lambda's logs, traces and polling, DynamoDB's look
at a table's key, and what SageMaker does before a container starts, by the keys of its output and volume, too. That
they are let through is in tests/infra/test_roles.py, as far as a caller can ask for it."""

IN_PARTS = {"s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"}
MODEL_REGISTRY = {
    *(f"sagemaker:{verb}ModelPackage" for verb in ("Create", "Delete", "Describe", "Update")),
    *("sagemaker:AddTags", "sagemaker:CreateModelPackageGroup", "sagemaker:DescribeModelPackageGroup"),
    "sagemaker:ListModelPackages",
}
SHOWN = {"sagemaker:AddTags", "sagemaker:CreateModelPackage", "sagemaker:CreateModelPackageGroup"}
RECORDS = {f"dynamodb:{verb}" for verb in ("DeleteItem", "GetItem", "PutItem", "Query", "UpdateItem")}
COUNTED = {"dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:Query"}

UNUSED: dict[str, set[str]] = {
    # A retraining's versions; what is not there.
    "ApiRole": {"s3:GetObjectVersion", "s3:ListBucket"},
    # Rows beyond one part; a bad file, which is told of; what others need of the shared policy; what is not there.
    "DataArrivedRole": IN_PARTS | RECORDS - COUNTED | {"s3:ListBucket", "sqs:SendMessage"},
    # Retrainings; models in groups, where the reconciler comes first; money that an event has settled first;
    # checkpoints that a further attempt lets go.
    "LaunchRole": IN_PARTS
    | MODEL_REGISTRY
    | {"s3:GetObjectVersion", "s3:ListBucketVersions", "dynamodb:UpdateItem"}
    | {"s3:DeleteObject", "s3:PutObjectTagging"},
    # Whatever was left undone.
    "ReconcileRole": RECORDS
    | MODEL_REGISTRY
    | {"s3:DeleteObject", "s3:GetObject", "s3:ListBucket", "s3:PutObjectTagging", "sqs:SendMessage"}
    | {"sagemaker:DescribeTrainingJob", "sagemaker:StopTrainingJob", "kms:GenerateDataKey"},
    # What is not there: no market yet, no report.
    "RefreshMarketRole": {"s3:ListBucket"},
    "TrainingChangedRole": {"dynamodb:DeleteItem", "dynamodb:Query", "s3:ListBucket"},
    # A checkpoint of many parts; a tracker's key, without network isolation.
    "TenantRolelocal": {"s3:AbortMultipartUpload", "secretsmanager:GetSecretValue"},
    # The policy of the key is all functions' in common.
    "KeysRole": {"kms:GenerateDataKey"},
}
"""Of each role, what it needs on days that these tests do not have. A grant of any other kind has to be used here."""

IDLE = {"TrainingRole", "TenantRoleglobex"}
"""Nobody trains under the shared role where tenants have their own, and one of the two tenants does not train here."""


@pytest.fixture(scope="module")
def guarded(
    pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path
) -> Iterator[StackState]:
    """A stack of its own that checks signatures and policies, with training roles for two tenants."""
    home = tmp_path_factory.mktemp("guarded-stack")
    (home / "cache").mkdir()
    (home / "cache" / "bundles").symlink_to(pytestconfig.cache.mkdir("bundles"), target_is_directory=True)
    try:
        state = embedded.up(home, emulator_port=0, double_port=0, guarded=True, parameters=PARAMETERS)
        add_base_model(state, tiny_folder, tiny_model.NAME)
        yield state
    finally:
        embedded.down(home)


@pytest.fixture(scope="module")
def sdk(guarded: StackState) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{guarded.api_url}/v1", api_key=guarded.api_key, max_retries=0)


def roles(state: StackState) -> dict[str, str]:
    """The template's names of the roles, by those that they got."""
    listed = client("cloudformation", state.emulator_url).describe_stack_resources(StackName=STACK)["StackResources"]
    return {
        one["PhysicalResourceId"]: one["LogicalResourceId"] for one in listed if one["ResourceType"] == "AWS::IAM::Role"
    }


def decisions(state: StackState) -> list[dict[str, Any]]:
    names = roles(state)
    found = post(state.emulator_url, DECISIONS_PATH)["decisions"]
    return [{**one, "role": names[one["role"]]} for one in found if one["role"] in names]


@pytest.fixture(scope="module")
def ended(guarded: StackState, sdk: openai.OpenAI) -> str:
    """The id of a job that ran to its end, its checkpoints marked and all its attempts reconciled."""
    job = finished(sdk, submit(sdk, epochs=1, registry={"group": "guarded"}))
    assert job.status == "succeeded", (job.error, details(job)["error"])
    assert job.fine_tuned_model is not None
    wait_for(lambda: marked(guarded, job.id) or None, "the tag of the ended job's checkpoints")
    wait_for(lambda: shown(guarded) or None, "the model in SageMaker's registry")
    invoke(guarded, "Reconcile")
    return job.id


def test_a_job_runs_to_its_end_under_the_roles_and_nothing_that_it_needs_is_denied(
    guarded: StackState, ended: str
) -> None:
    seen = decisions(guarded)
    assert [one for one in seen if not one["allowed"]] == []
    workers = {one["role"] for one in seen}
    assert workers >= {"ApiRole", "LaunchRole", "TrainingChangedRole", "ReconcileRole", "TenantRolelocal", "KeysRole"}
    assert "TrainingRole" not in workers, "tenants have roles of their own here"
    written = {one["resource"] for one in seen if one["role"] == "TenantRolelocal" and one["action"] == "s3:PutObject"}
    assert all(f"/{TENANT}/jobs/{ended}/" in resource for resource in written)


def marked(state: StackState, job_id: str) -> bool:
    """Whether every file of the job's checkpoints carries the tag that S3 forgets them by."""
    s3 = client("s3", state.emulator_url)
    prefix = f"{TENANT}/jobs/{job_id}/checkpoints/"
    found = s3.list_objects_v2(Bucket=state.artifacts_bucket, Prefix=prefix)["Contents"]
    tags = [s3.get_object_tagging(Bucket=state.artifacts_bucket, Key=one["Key"])["TagSet"] for one in found]
    return all(tag == [{"Key": "spotune-job", "Value": "ended"}] for tag in tags)


def shown(state: StackState) -> bool:
    """Whether a model version is in SageMaker's registry, approved."""
    sagemaker = client("sagemaker", state.double_url)
    groups = sagemaker.list_model_package_groups()["ModelPackageGroupSummaryList"]
    listed = [sagemaker.list_model_packages(ModelPackageGroupName=one["ModelPackageGroupName"]) for one in groups]
    found = [package for one in listed for package in one["ModelPackageSummaryList"]]
    return [package["ModelApprovalStatus"] for package in found] == ["Approved"]


@pytest.fixture(scope="module")
def kept(guarded: StackState) -> None:
    """A file was uploaded in parts, gone on with, and deleted; so was one that was never whole."""
    headers = {"Authorization": f"Bearer {guarded.api_key}"}
    rows = tiny_model.chat_rows(30)
    with httpx.Client(base_url=f"{guarded.api_url}/v1", headers=headers, timeout=60) as api:
        whole, cut_off = (
            api.post("/files", json={"filename": "large.jsonl", "bytes": len(rows), "purpose": "fine-tune"}).json()
            for _ in range(2)
        )
        (part,) = whole["parts"]
        assert httpx.put(part["url"], content=rows).is_success
        path = f"/files/{whole['file']['id']}"
        assert api.get(f"{path}/upload").json()["done"] == [1]
        assert api.post(f"{path}/complete").json()["status"] == "processed"
        for one in (whole, cut_off):
            assert api.delete(f"/files/{one['file']['id']}").is_success


@pytest.fixture(scope="module")
def told(guarded: StackState, sdk: openai.OpenAI) -> None:
    """A webhook was delivered, one failed, one is gone for good, and the rows of new data were counted by a rule."""
    with receiving() as receiver, receiving() as failing, receiving() as gone:
        failing.answers.append(500)
        gone.answers.append(410)
        kinds: list[Any] = ["fine_tuning.job.cancelled"]
        hooks = [sdk.webhooks.create(name="test", url=one.url, event_types=kinds) for one in (receiver, failing, gone)]
        sdk.fine_tuning.jobs.cancel(submit(sdk, epochs=40))
        wait_for(lambda: receiver.requests or None, "the delivery")
        both = {("DeliverRole", "sqs:ChangeMessageVisibility"), ("DeliverRole", "dynamodb:PutItem")}
        wait_for(lambda: both <= used(guarded) or None, "a delivery that is postponed and one that is the last")
        for hook in hooks:
            sdk.webhooks.delete(hook.id)
    headers = {"Authorization": f"Bearer {guarded.api_key}"}
    source = {"uri": f"s3://{guarded.data_bucket}/{TENANT}/in/**"}
    rule = {"name": "nightly", "source": source, "trigger": {"min_rows": 10**6}, "job": {"model": tiny_model.NAME}}
    with httpx.Client(base_url=f"{guarded.api_url}/v1", headers=headers, timeout=60) as api:
        made = api.post("/rules", json=rule).json()
        s3 = client("s3", guarded.emulator_url)
        s3.put_object(Bucket=guarded.data_bucket, Key=f"{TENANT}/in/a.jsonl", Body=rows(1, 2))
        store = DynamoStore(guarded.table, client("dynamodb", guarded.emulator_url))

        def counted() -> bool | None:
            found = store.find_rule(made["id"])
            return True if found is not None and found.pending_rows == 2 else None

        wait_for(counted, "the new rows to be counted")
        assert api.delete(f"/rules/{made['id']}").is_success


@pytest.mark.usefixtures("told")
def test_webhooks_rules_and_new_data_work_under_the_roles(guarded: StackState) -> None:
    seen = decisions(guarded)
    assert {one["role"] for one in seen} >= {"DeliverRole", "DataArrivedRole", "RefreshMarketRole"}
    assert [one for one in seen if not one["allowed"]] == []


def test_a_tenant_without_a_role_may_not_train(guarded: StackState) -> None:
    key = issued(guarded, "initech")
    headers = {"Authorization": f"Bearer {key}"}
    with httpx.Client(base_url=f"{guarded.api_url}/v1", headers=headers, timeout=60) as api:
        upload = {"file": ("train.jsonl", tiny_model.chat_rows(30)), "purpose": (None, "fine-tune")}
        uploaded = api.post("/files", files=upload).json()
        answer = api.post("/fine_tuning/jobs", json={"model": tiny_model.NAME, "training_file": uploaded["id"]})
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "tenant_without_role")


def issued(state: StackState, tenant: str) -> str:
    import json

    functions = client("lambda", state.emulator_url)
    (name,) = (
        one["FunctionName"]
        for one in functions.list_functions()["Functions"]
        if one["Handler"].startswith("handlers.keys")
    )
    answer = functions.invoke(FunctionName=name, Payload=json.dumps({"tenant": tenant, "name": "test"}))
    return str(json.loads(answer["Payload"].read())["key"])


@pytest.mark.usefixtures("kept")
def test_files_in_parts_come_and_go_under_the_roles(guarded: StackState) -> None:
    assert [one for one in decisions(guarded) if not one["allowed"]] == []


@pytest.mark.usefixtures("ended", "kept", "told")
def test_what_was_granted_was_needed_or_has_its_reason(guarded: StackState) -> None:
    seen = used(guarded)
    given = {(role, action) for role, actions in granted(guarded).items() for action in actions if role not in IDLE}
    assert {role for role, _ in seen} == {role for role, _ in given}
    assert unexplained(given, seen) == []
    assert unexplained(given | {("ApiRole", "sqs:PurgeQueue")}, seen) == [("ApiRole", "sqs:PurgeQueue")]
    reasons = {(role, action) for role, actions in UNUSED.items() for action in actions}
    assert reasons <= given, "a reason for what is granted no more"
    assert {action for _, action in given} >= BY_AWS
    assert {action for _, action in seen} >= SHOWN, "by the launcher or the reconciler, whoever came first"


def used(state: StackState) -> set[tuple[str, str]]:
    """What each role did and was let do."""
    return {(one["role"], one["action"]) for one in decisions(state) if one["allowed"]}


def unexplained(given: set[tuple[str, str]], seen: set[tuple[str, str]]) -> list[tuple[str, str]]:
    """Grants that nothing above has used, and that are not written down with a reason."""
    return [
        (role, action)
        for role, action in sorted(given - seen)
        if action not in BY_AWS and action not in UNUSED.get(role, set())
    ]


def granted(state: StackState) -> dict[str, set[str]]:
    """What each role's policies name, as they are deployed."""
    iam, found = client("iam", state.emulator_url), dict[str, set[str]]()
    for physical, role in roles(state).items():
        documents = [
            iam.get_role_policy(RoleName=physical, PolicyName=name)["PolicyDocument"]
            for name in iam.list_role_policies(RoleName=physical)["PolicyNames"]
        ]
        for attached in iam.list_attached_role_policies(RoleName=physical)["AttachedPolicies"]:
            arn = attached["PolicyArn"]
            version = iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
            documents.append(iam.get_policy_version(PolicyArn=arn, VersionId=version)["PolicyVersion"]["Document"])
        statements = [one for document in documents for one in document["Statement"]]
        found[role] = {action for one in statements for action in listed(one["Action"])}
    return found
