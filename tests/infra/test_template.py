"""What the template promises, read from the template itself."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
import yaml

from spotune.contracts.addresses import parse_networks
from spotune.planner.interruptions import KEPT_DAYS
from spotune.service.jobs.pruning import TAG
from tests import pages

TEMPLATE = Path(__file__).parents[2] / "infra" / "template.yaml"

STARS: dict[tuple[str, str], str] = pages.script("permissions")["REASONS"]
"""The only grants on every resource, by where they are written, with their reasons."""


class _Loader(yaml.SafeLoader):
    """CloudFormation's short forms, as the long ones."""


def _function(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    name = suffix if suffix == "Ref" else f"Fn::{suffix}"
    if isinstance(node, yaml.ScalarNode):
        return {name: loader.construct_scalar(node)}
    if isinstance(node, yaml.SequenceNode):
        return {name: loader.construct_sequence(node, deep=True)}
    return {name: loader.construct_mapping(node, deep=True)}


_Loader.add_multi_constructor("!", _function)


def _each(resources: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Every resource; what a loop makes is there once, with the loop's variable as it is written."""
    for name, body in resources.items():
        if name.startswith("Fn::ForEach::"):
            yield from ((made.partition("&")[0], each) for made, each in body[2].items())
        else:
            yield name, body


DOCUMENT: dict[str, Any] = yaml.load(TEMPLATE.read_text(), _Loader)
RESOURCES: dict[str, Any] = dict(_each(DOCUMENT["Resources"]))


def of_type(kind: str) -> dict[str, Any]:
    return {name: body["Properties"] for name, body in RESOURCES.items() if body["Type"] == kind}


FUNCTIONS = of_type("AWS::Serverless::Function")
BUCKETS = {name: body for name, body in of_type("AWS::S3::Bucket").items() if name != "AccessLogsBucket"}
"""Those that hold data. The other one is looked at in test_access_logs.py."""
ROLES = of_type("AWS::IAM::Role")


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def statements(role: str) -> list[dict[str, Any]]:
    """All that a role may do, its shared policies included."""
    return [statement for _, statement in grants(role)]


def grants(role: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every statement of a role, with the role or the shared policy that it is written in."""
    for policy in map(unconditional, ROLES[role].get("Policies", ())):
        yield from ((role, statement) for statement in policy["PolicyDocument"]["Statement"])
    attached = [policy_of(ref) for ref in ROLES[role].get("ManagedPolicyArns", ())]
    attached += [name for name, body in of_type("AWS::IAM::Policy").items() if {"Ref": role} in body["Roles"]]
    for name in attached:
        yield from ((name, statement) for statement in shared_statements(name))


def unconditional(value: dict[str, Any]) -> dict[str, Any]:
    """What there is where its condition holds."""
    inner: dict[str, Any] = value["Fn::If"][1] if "Fn::If" in value else value
    return inner


def policy_of(ref: dict[str, Any]) -> str:
    """The policy of a reference, of a conditional one too, made under the same condition or nothing."""
    if "Fn::If" in ref:
        condition, ref, otherwise = ref["Fn::If"]
        assert otherwise == {"Ref": "AWS::NoValue"}
        assert RESOURCES[ref["Ref"]]["Condition"] == condition
    return str(ref["Ref"])


def shared_statements(policy: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = RESOURCES[policy]["Properties"]["PolicyDocument"]["Statement"]
    return found


def actions(role: str, service: str) -> set[str]:
    return {a for s in statements(role) for a in listed(s["Action"]) if a.startswith(f"{service}:")}


def test_cfn_lint_finds_nothing() -> None:
    lint = Path(sys.executable).with_name("cfn-lint")
    found = subprocess.run([lint, TEMPLATE], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout) == (0, "")


def test_the_template_uses_no_yaml_alias_since_cloudformation_takes_none() -> None:
    assert not [event for event in yaml.parse(TEMPLATE.read_text(), _Loader) if isinstance(event, yaml.AliasEvent)]


def test_each_function_has_a_role_and_a_log_of_its_own() -> None:
    roles = [body["Role"]["Fn::GetAtt"] for body in FUNCTIONS.values()]
    logs = [body["LoggingConfig"]["LogGroup"]["Ref"] for body in FUNCTIONS.values()]
    assert len(set(roles)) == len(set(logs)) == len(FUNCTIONS) == 8


@pytest.mark.parametrize("role", ROLES)
def test_no_role_has_a_wildcard_beyond_the_written_reasons(role: str) -> None:
    for where, statement in grants(role):
        assert not [a for a in listed(statement["Action"]) if "*" in a], statement["Sid"]
        if "*" in listed(statement["Resource"]):
            assert (where, statement["Sid"]) in STARS


def test_every_written_reason_is_still_needed() -> None:
    stars = {(w, s["Sid"]) for role in ROLES for w, s in grants(role) if "*" in listed(s["Resource"])}
    assert stars == set(STARS)


def test_every_wildcard_within_a_resource_has_a_reason_and_every_reason_is_needed() -> None:
    assert [pattern for pattern, places in pages.script("permissions")["wildcards"]().items() if not places] == []


def test_a_wildcard_without_a_reason_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    page = pages.script("permissions")
    monkeypatch.delitem(page["WILDCARDS"], "sagemaker: training-job/ftjob-*")
    monkeypatch.delitem(page["WILDCARDS"], "sagemaker: training-job/*")
    with pytest.raises(LookupError, match=r"training-job/\* has a wildcard"):
        page["wildcards"]()


@pytest.mark.parametrize("role", ROLES)
def test_what_reaches_every_region_names_those_that_it_may(role: str) -> None:
    """Replicas of one key have one name, in whatever region."""
    for _, statement in grants(role):
        away = any(
            re.match(r"arn:aws:(?!kms)[a-z]+:\*:", str(unsubstituted(one))) for one in listed(statement["Resource"])
        )
        if away and statement["Effect"] == "Allow":
            assert "aws:RequestedRegion" in statement["Condition"]["StringEquals"], statement["Sid"]


def unsubstituted(resource: Any) -> Any:
    text = resource.get("Fn::Sub", "") if isinstance(resource, dict) else resource
    return str(text[0] if isinstance(text, list) else text).replace("${AWS::Partition}", "aws")


@pytest.mark.parametrize("role", ROLES)
def test_no_role_takes_a_policy_that_is_not_in_the_template(role: str) -> None:
    assert all(policy_of(arn) in RESOURCES for arn in ROLES[role].get("ManagedPolicyArns", ()))


def test_only_the_launcher_starts_training_and_hands_roles_of_training_to_sagemaker_alone() -> None:
    starts = {role for role in ROLES if "sagemaker:CreateTrainingJob" in actions(role, "sagemaker")}
    passes = {role: s for role in ROLES for s in statements(role) if "iam:PassRole" in listed(s["Action"])}
    assert starts == set(passes) == {"LaunchRole"}
    condition, of_tenants, shared = passes["LaunchRole"]["Resource"]["Fn::If"]
    assert (condition, shared) == ("HasTenants", {"Fn::GetAtt": "TrainingRole.Arn"})
    assert of_tenants["Fn::Sub"].endswith(":iam::${AWS::AccountId}:role" + ROLES["TenantRole"]["Path"]["Fn::Sub"] + "*")
    assert passes["LaunchRole"]["Condition"] == {"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}}


def test_no_role_lies_below_the_path_of_tenants_but_theirs() -> None:
    assert [name for name, body in ROLES.items() if "Path" in body] == ["TenantRole"]


def test_the_service_finds_a_tenants_role_by_the_name_that_the_template_gives_it() -> None:
    variables = DOCUMENT["Globals"]["Function"]["Environment"]["Variables"]
    role = ROLES["TenantRole"]
    beginning = "arn:${AWS::Partition}:iam::${AWS::AccountId}:role" + role["Path"]["Fn::Sub"]
    assert variables["SPOTUNE_TENANT_ROLES"]["Fn::Sub"] + "${Tenant}" == beginning + role["RoleName"]["Fn::Sub"]


def test_a_tenants_role_is_the_shared_one_with_the_tenants_folder_in_every_place_of_any() -> None:
    shared, own = ROLES["TrainingRole"], ROLES["TenantRole"]
    for part in ("AssumeRolePolicyDocument", "ManagedPolicyArns"):
        assert own[part] == shared[part]
    assert str(own["Policies"]).replace("/${Tenant}/", "/*/").replace("{'Fn::Sub': '${Tenant}/*'}", "'*/*'") == str(
        shared["Policies"]
    )
    narrowed = [s for policy in map(unconditional, own["Policies"]) for s in policy["PolicyDocument"]["Statement"]]
    for statement in narrowed:
        of_a_tenant = str(statement.get("Condition", {}).get("StringLike", "")) + str(statement["Resource"])
        assert "${Tenant}/" in of_a_tenant, statement["Sid"]


def test_nobody_trains_but_tenants_with_a_role_where_tenants_are_named() -> None:
    assert RESOURCES["TenantRole"]["Condition"] == "HasTenants"
    assert "Condition" not in RESOURCES["TrainingRole"], "what runs when tenants are first named goes on"
    assert DOCUMENT["Parameters"]["Tenants"]["Default"] == ""


CAPS = {
    "aws:RequestedRegion",
    "sagemaker:EnableRemoteDebug",
    "sagemaker:InstanceTypes",
    "sagemaker:InterContainerTrafficEncryption",
    "sagemaker:KeepAlivePeriod",
    "sagemaker:MaxRuntimeInSeconds",
    "sagemaker:NetworkIsolation",
    "sagemaker:OutputKmsKey",
    "sagemaker:VolumeKmsKey",
}


def test_the_caps_of_a_training_job_hold_outside_our_code_too() -> None:
    found = [s for s in statements("LaunchRole") if "CreateTrainingJob" in str(s["Action"])]
    starts = {s["Sid"]: s["Condition"] for s in found if s["Effect"] == "Allow"}
    used = {name: {key for block in each.values() for key in unconditional(block)} for name, each in starts.items()}
    vpc = {"sagemaker:VpcSecurityGroupIds", "sagemaker:VpcSubnets"}
    assert used == {"StartFurtherTraining": CAPS, "StartTraining": CAPS - {"aws:RequestedRegion"} | vpc}
    for condition in starts.values():
        assert condition["NumericLessThanEquals"] == {"sagemaker:MaxRuntimeInSeconds": {"Ref": "MaxRuntimeSeconds"}}
        # ForAllValues holds for no values at all: they must be there.
        assert set(condition["ForAllValues:StringEquals"]) == set(condition["Null"])
        assert condition["Bool"]["sagemaker:NetworkIsolation"]["Fn::If"][:2] == ["IsIsolated", "true"]


def test_a_stage_stops_its_own_training_jobs_alone_in_every_region() -> None:
    """And tags none that runs, which would make it its own. Those without a stage are of versions that named none."""
    about = [s for role in ROLES for s in statements(role) if "training-job/" in str(s["Resource"])]
    found = [(s["Action"], s.get("Condition", {})) for s in about]
    stops = [condition for action, condition in found if action == "sagemaker:StopTrainingJob"]
    tags = [condition for action, condition in found if action == "sagemaker:AddTags"]
    assert (len(stops), len(tags)) == (4, 2), "of the launcher and the reconciler, at home and further away"
    own = {"aws:ResourceTag/spotune:stage": {"Ref": "Stage"}}
    assert all(condition["StringEqualsIfExists"] == own for condition in stops)
    assert all(condition["StringEquals"]["sagemaker:TaggingAction"] == "CreateTrainingJob" for condition in tags)


def test_a_version_that_names_no_stage_starts_training_until_it_is_replaced() -> None:
    """A role is updated before the function that has it."""
    assert RESOURCES["OwnStagePolicy"]["DependsOn"] == "LaunchFunction"
    starts = [s for s in statements("LaunchRole") if "CreateTrainingJob" in str(s["Action"]) and s["Effect"] == "Allow"]
    assert not [s["Sid"] for s in starts if "spotune:stage" in str(s["Condition"])]
    (denied,) = shared_statements("OwnStagePolicy")
    assert denied["Condition"] == {"StringNotEquals": {"aws:RequestTag/spotune:stage": {"Ref": "Stage"}}}
    assert ":sagemaker:*:" in denied["Resource"]["Fn::Sub"], "in every region"


def test_types_with_local_storage_alone_may_do_without_our_key() -> None:
    from spotune.planner import has_local_storage, load_catalog

    (denied,) = (s for s in statements("LaunchRole") if s["Sid"] == "VolumesWithoutOurKey")
    assert denied["Effect"] == "Deny"
    patterns = denied["Condition"]["ForAnyValue:StringNotLike"]["sagemaker:InstanceTypes"]
    types = load_catalog().instances
    matching = {name for name in types if any(fnmatchcase(name, pattern) for pattern in patterns)}
    assert matching == {name for name in types if has_local_storage(name)}
    assert all(any(fnmatchcase(name, pattern) for name in types) for pattern in patterns), "none is left over"
    assert not has_local_storage("ml.unknown.xlarge")


def test_every_type_of_the_catalog_may_be_trained_on_unless_the_deployment_says_otherwise() -> None:
    from spotune.planner.catalog import load_catalog

    allowed = DOCUMENT["Parameters"]["InstanceTypes"]["Default"].split(",")
    assert sorted(allowed) == sorted(load_catalog().instances)


def test_no_policy_is_longer_than_aws_takes_with_every_type_in_it() -> None:
    types = DOCUMENT["Parameters"]["InstanceTypes"]["Default"].split(",")

    def length(document: object) -> int:
        text = json.dumps(document).replace('{"Ref": "InstanceTypes"}', json.dumps(types))
        return len("".join(text.split()))

    for name, body in of_type("AWS::IAM::ManagedPolicy").items():
        assert length(body["PolicyDocument"]) < 6144 - 500, name
    for name, body in ROLES.items():
        own = [unconditional(policy)["PolicyDocument"] for policy in body.get("Policies", ())]
        own += [
            each["PolicyDocument"] for each in of_type("AWS::IAM::Policy").values() if {"Ref": name} in each["Roles"]
        ]
        assert sum(map(length, own)) < 10_240 - 1000, name


def test_a_role_has_no_more_managed_policies_than_aws_attaches_by_default() -> None:
    assert all(len(body.get("ManagedPolicyArns", ())) <= 10 for body in ROLES.values())


def test_the_launcher_writes_a_jobs_config_its_quality_its_first_checkpoint_and_rules_datasets_alone() -> None:
    written = [
        r for s in statements("LaunchRole") if "s3:PutObject" in listed(s["Action"]) for r in listed(s["Resource"])
    ]
    at_home = [r["Fn::Sub"] for r in written if "Bucket.Arn" in r["Fn::Sub"]]
    away = [r["Fn::Sub"].partition("-*-")[2] for r in written if "Bucket.Arn" not in r["Fn::Sub"]]
    assert {r.partition("/*/")[2] for r in at_home} == {
        "jobs/*/checkpoints/*",
        "jobs/*/config/*",
        "jobs/*/quality.json",
        "rules/*",
    }
    jobs = {f"jobs/*/jobs/*/{what}" for what in ("checkpoints/*", "config/*", "inputs.json")}
    assert set(away) == {"data/*/copies/*", "models/base/*"} | jobs


def test_whoever_only_looks_at_jobs_writes_no_object_and_starts_no_job() -> None:
    assert actions("TrainingChangedRole", "s3") == {"s3:GetObject", "s3:ListBucket"}
    assert actions("TrainingChangedRole", "sagemaker") == {"sagemaker:DescribeTrainingJob"}
    orphans = {"sagemaker:ListTrainingJobs", "sagemaker:StopTrainingJob"}
    jobs = {one for one in actions("ReconcileRole", "sagemaker") if "TrainingJob" in one}
    assert jobs == {"sagemaker:DescribeTrainingJob"} | orphans


def test_the_reconciler_deletes_results_and_checkpoints_of_jobs_and_writes_nothing_else_of_theirs() -> None:
    deleted = [
        r
        for s in statements("ReconcileRole")
        if "s3:DeleteObject" in listed(s["Action"])
        for r in listed(s["Resource"])
    ]
    assert {r["Fn::Sub"].partition("/*/jobs/*/")[2] for r in deleted if "/jobs/" in r["Fn::Sub"]} == {
        *("checkpoints/*", "output/*")
    }


def test_models_are_shown_in_groups_of_this_stage_alone() -> None:
    shows = {role for role in ROLES if "sagemaker:CreateModelPackage" in actions(role, "sagemaker")}
    assert shows == {"LaunchRole", "ReconcileRole"}
    resources = [r for s in shared_statements("ShowModelsPolicy") for r in listed(s["Resource"]) if r != "*"]
    assert all(":model-package" in r["Fn::Sub"] and "/spotune-${Stage}-*" in r["Fn::Sub"] for r in resources)


def test_the_keys_function_writes_keys_and_reads_nothing() -> None:
    assert actions("KeysRole", "dynamodb") == {"dynamodb:PutItem"}
    (grant,) = (s for s in statements("KeysRole") if s["Action"] == "dynamodb:PutItem")
    assert grant["Condition"]["ForAllValues:StringLike"] == {"dynamodb:LeadingKeys": ["AUDIT#*", "KEY#*"]}
    assert not actions("KeysRole", "s3")


WRITES = {"dynamodb:DeleteItem", "dynamodb:PutItem", "dynamodb:UpdateItem"}


@pytest.mark.parametrize("role", sorted(role for role in ROLES if WRITES & actions(role, "dynamodb")))
def test_audit_records_are_put_by_who_answers_callers_and_changed_by_nobody(role: str) -> None:
    """Whoever may write to the table either names what, or is denied these."""
    may_put = role in ("ApiRole", "KeysRole")
    denied: set[str] = set()
    for statement in statements(role):
        condition = statement.get("Condition", {})
        written = WRITES & set(listed(statement["Action"]))
        if written and statement["Effect"] == "Allow" and condition:
            leading = condition["ForAllValues:StringLike"]["dynamodb:LeadingKeys"]
            assert condition["Null"] == {"dynamodb:LeadingKeys": "false"}
            audits = [key for key in leading if fnmatchcase("AUDIT#acme", key)]
            denied |= WRITES - (written if audits else set())
        if written and statement["Effect"] == "Deny":
            assert condition == {"ForAnyValue:StringLike": {"dynamodb:LeadingKeys": ["AUDIT#*"]}}
            assert statement["Resource"] == {"Fn::GetAtt": "Table.Arn"}
            denied |= written
    assert WRITES - denied == ({"dynamodb:PutItem"} if may_put else set())


def test_training_reaches_no_table_and_no_queue_and_writes_below_jobs_alone() -> None:
    assert {a.partition(":")[0] for s in statements("TrainingRole") for a in listed(s["Action"])} == {
        *("cloudwatch", "ec2", "ecr", "kms", "logs", "s3", "sagemaker-mlflow", "secretsmanager")
    }
    written = [r for s in statements("TrainingRole") if "s3:PutObject" in s["Action"] for r in listed(s["Resource"])]
    assert {r["Fn::Sub"].partition("/*/jobs/*/")[2] for r in written} == {"checkpoints/*", "output/*"}
    assert len(written) == 4


def test_whoever_reads_a_dataset_may_read_it_anywhere_in_the_data_bucket() -> None:
    wanted = {"Fn::Sub": "${DataBucket.Arn}/*"}
    of_any_tenant = {"Fn::Sub": "${DataBucket.Arn}/*/*"}
    for role, place in (("ApiRole", wanted), ("LaunchRole", wanted), ("TrainingRole", of_any_tenant)):
        read = [r for s in statements(role) if s["Action"] == "s3:GetObject" for r in listed(s["Resource"])]
        assert place in read, role
    changes = [
        s for role in ROLES for s in statements(role) if {"s3:PutObject", "s3:DeleteObject"} & {*listed(s["Action"])}
    ]
    assert wanted not in [r for s in changes for r in listed(s["Resource"])]


def test_the_api_may_read_the_versions_and_sources_that_it_hands_out_urls_of() -> None:
    read = [s for s in statements("ApiRole") if "s3:GetObjectVersion" in listed(s["Action"])]
    assert {"Fn::Sub": "${DataBucket.Arn}/*"} in [r for s in read for r in listed(s["Resource"])]
    assert {s["Sid"] for s in read} == {"ReadSources", "HandOutVersions"}


def test_no_policy_reaches_a_bucket_that_is_not_in_the_template() -> None:
    policies = [body["PolicyDocument"] for body in of_type("AWS::IAM::ManagedPolicy").values()]
    own = (policy for role in ROLES.values() for policy in role.get("Policies", ()))
    policies += [unconditional(policy)["PolicyDocument"] for policy in own]
    granted = [s for policy in policies for s in policy["Statement"] if "s3:" in str(s["Action"])]
    named = [str(resource) for statement in granted for resource in listed(statement["Resource"])]
    assert named
    # Further buckets are those that the operator names, read and never written.
    ours = [*(f"{name}.Arn" for name in BUCKETS), ":s3:::spotune-${Stage}-${AWS::AccountId}-*"]
    ours += ["SourceBuckets", "HasMirror"]
    assert [resource for resource in named if not any(one in resource for one in ours)] == []


def test_what_is_granted_in_further_regions_names_exactly_them_and_is_not_there_without_any() -> None:
    further = {name: body for name, body in RESOURCES.items() if body.get("Condition") == "HasFurtherRegions"}
    assert len(further) == 7
    used = [
        arn["Fn::If"][1]["Ref"]
        for role in ROLES.values()
        for arn in role.get("ManagedPolicyArns", ())
        if arn.get("Fn::If", ("",))[0] == "HasFurtherRegions"
    ]
    assert set(used) == set(further)
    training = [ROLES[name]["Policies"][1]["Fn::If"] for name in ("TrainingRole", "TenantRole")]
    assert all((when, otherwise) == ("HasFurtherRegions", {"Ref": "AWS::NoValue"}) for when, _, otherwise in training)
    granted = [shared_statements(name) for name in further]
    granted += [policy["PolicyDocument"]["Statement"] for _, policy, _ in training]
    for statements_there in granted:
        for statement in statements_there:
            equals = statement["Condition"]["StringEquals"]
            assert equals["aws:RequestedRegion"] == {"Ref": "FurtherRegions"}, statement["Sid"]
            if "s3:" in str(statement["Action"]):
                assert equals["aws:ResourceAccount"] == {"Ref": "AWS::AccountId"}, statement["Sid"]
    for name, body in RESOURCES.items():
        if name not in further and name not in ("TrainingRole", "TenantRole"):
            assert "FurtherRegions" not in str(body).replace("HasFurtherRegions", ""), name


def test_without_a_further_region_the_condition_does_not_hold() -> None:
    assert DOCUMENT["Parameters"]["FurtherRegions"]["Default"] == ""
    assert DOCUMENT["Conditions"]["HasFurtherRegions"] == {
        "Fn::Not": [{"Fn::Equals": [{"Fn::Join": ["", {"Ref": "FurtherRegions"}]}, ""]}]
    }


@pytest.mark.parametrize("name", BUCKETS)
def test_every_bucket_is_versioned_encrypted_private_and_tells_eventbridge(name: str) -> None:
    bucket = BUCKETS[name]
    assert bucket["VersioningConfiguration"] == {"Status": "Enabled"}
    assert bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    assert bucket["NotificationConfiguration"]["EventBridgeConfiguration"] == {"EventBridgeEnabled": True}
    assert any("AbortIncompleteMultipartUpload" in rule for rule in bucket["LifecycleConfiguration"]["Rules"])
    assert RESOURCES[name]["DeletionPolicy"] == "Retain"


@pytest.mark.parametrize("name", BUCKETS)
def test_every_bucket_refuses_plain_http(name: str) -> None:
    (policy,) = (p for p in of_type("AWS::S3::BucketPolicy").values() if p["Bucket"] == {"Ref": name})
    (statement,) = policy["PolicyDocument"]["Statement"]
    assert (statement["Effect"], statement["Principal"], statement["Action"]) == ("Deny", "*", "s3:*")
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


OWN_KEY = {"Fn::If": ["HasKey", {"Ref": "KmsKeyArn"}, {"Ref": "AWS::NoValue"}]}


def test_whatever_is_kept_is_encrypted_and_with_our_own_key_where_there_is_one() -> None:
    for queue in of_type("AWS::SQS::Queue").values():
        assert queue["SqsManagedSseEnabled"] == {"Fn::If": ["HasKey", False, True]}
        assert queue["KmsMasterKeyId"] == OWN_KEY
    for bucket in BUCKETS.values():
        (encryption,) = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
        assert encryption == {
            "ServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": OWN_KEY},
            "BucketKeyEnabled": True,
        }, "without a key of ours, AWS's own for S3"
    assert all(group["KmsKeyId"] == OWN_KEY for group in of_type("AWS::Logs::LogGroup").values())
    assert RESOURCES["SigningSecret"]["Properties"]["KmsKeyId"] == OWN_KEY
    assert RESOURCES["AlarmTopic"]["Properties"]["KmsMasterKeyId"] == OWN_KEY
    own = RESOURCES["Table"]["Properties"]["SSESpecification"]["Fn::If"][1]
    assert own == {"SSEEnabled": True, "SSEType": "KMS", "KMSMasterKeyId": {"Ref": "KmsKeyArn"}}


def test_code_is_encrypted_with_awss_own_key_whatever_key_is_ours() -> None:
    code = yaml.load(TEMPLATE.with_name("code.yaml").read_text(), _Loader)
    (encryption,) = code["Resources"]["CodeBucket"]["Properties"]["BucketEncryption"][
        "ServerSideEncryptionConfiguration"
    ]
    assert encryption == {"ServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms"}, "BucketKeyEnabled": True}
    assert set(code["Parameters"]) == {"Stage"}


def test_every_function_may_use_our_own_key_and_through_the_services_that_keep_things_alone() -> None:
    roles = {body["Role"]["Fn::GetAtt"].partition(".")[0] for body in FUNCTIONS.values()}
    assert {role["Ref"] for role in RESOURCES["UseKeyPolicy"]["Properties"]["Roles"]} == roles
    (grant,) = shared_statements("UseKeyPolicy")
    assert (grant["Effect"], set(grant["Action"])) == (
        "Allow",
        {"kms:Decrypt", "kms:DescribeKey", "kms:GenerateDataKey"},
    )
    assert via(grant) == {"dynamodb", "s3", "secretsmanager", "sns", "sqs"}
    assert names_of_key(grant) == {"${KmsKeyArn}/"}


def via(grant: dict[str, Any]) -> set[str]:
    """The services through which alone a grant holds."""
    assert list(grant["Condition"]) == ["StringLike"]
    return {one["Fn::Sub"].partition(".")[0] for one in grant["Condition"]["StringLike"]["kms:ViaService"]}


def names_of_key(grant: dict[str, Any]) -> set[str]:
    """What the name of the one key in a grant's resource is taken from."""
    arn, names = grant["Resource"]["Fn::Sub"]
    assert arn == "arn:${AWS::Partition}:kms:*:${AWS::AccountId}:key/${Name}"
    position, (_, text) = names["Name"]["Fn::Select"][0], names["Name"]["Fn::Select"][1]["Fn::Split"]
    assert position == 1
    return {text["Fn::Sub"]}


def test_a_training_role_reads_by_our_key_through_s3_and_secrets_alone() -> None:
    """Its container has the role's credentials where it has a network: by the key itself it could read anything."""
    grants_of_key = {s["Sid"]: s for s in statements("TrainingRole") if "kms:" in str(s["Action"])}
    assert {sid: set(listed(s["Action"])) for sid, s in grants_of_key.items()} == {
        "UseKey": {"kms:Decrypt", "kms:GenerateDataKey"},
        "EncryptOutput": {"kms:DescribeKey", "kms:Encrypt"},
        "EncryptVolumes": {"kms:CreateGrant"},
    }
    assert via(grants_of_key["UseKey"]) == {"s3", "secretsmanager"}
    assert grants_of_key["EncryptVolumes"]["Condition"] == {"Bool": {"kms:GrantIsForAWSResource": "true"}}
    assert {name for grant in grants_of_key.values() for name in names_of_key(grant)} == {"${KmsKeyArn}/"}


def test_a_superseded_checkpoint_is_kept_as_long_as_the_planner_reckons() -> None:
    rules = BUCKETS["ArtifactsBucket"]["LifecycleConfiguration"]["Rules"]
    (kept,) = (rule for rule in rules if rule.get("TagFilters") == [{"Key": TAG[0], "Value": TAG[1]}])
    to_midnight = 1
    assert kept["NoncurrentVersionExpiration"]["NoncurrentDays"] + to_midnight == KEPT_DAYS


def test_the_checkpoints_of_ended_jobs_are_forgotten_and_nothing_else_is() -> None:
    expiring = {
        name: rule
        for name, bucket in BUCKETS.items()
        for rule in bucket["LifecycleConfiguration"]["Rules"]
        if "ExpirationInDays" in rule
    }
    assert set(expiring) == {"ArtifactsBucket"}
    assert expiring["ArtifactsBucket"]["ExpirationInDays"] == {"Ref": "CheckpointDays"}
    assert expiring["ArtifactsBucket"]["TagFilters"] == [{"Key": "spotune-job", "Value": "ended"}]
    tagging = {role for role in ROLES if "s3:PutObjectTagging" in actions(role, "s3")}
    assert tagging == {"LaunchRole", "ReconcileRole"}
    tags = [s for role in tagging for s in statements(role) if "s3:PutObjectTagging" in listed(s["Action"])]
    tagged = [r["Fn::Sub"].partition("/jobs/*/")[2] for s in tags for r in listed(s["Resource"])]
    assert tagged == ["checkpoints/*"] * 4, "of both, at home and in further regions"


def test_the_queue_hides_a_message_six_times_as_long_as_its_function_runs() -> None:
    queue = RESOURCES["LaunchQueue"]["Properties"]
    assert queue["VisibilityTimeout"] >= 6 * FUNCTIONS["LaunchFunction"]["Timeout"]
    assert queue["RedrivePolicy"]["deadLetterTargetArn"] == {"Fn::GetAtt": "LaunchDeadLetters.Arn"}


def test_a_delivery_is_tried_as_often_as_its_pauses_say_and_is_then_a_dead_letter() -> None:
    from spotune.service.notifications.deliver import JITTER, PAUSES, TRIES

    queue = RESOURCES["DeliveryQueue"]["Properties"]
    assert queue["VisibilityTimeout"] >= 6 * FUNCTIONS["DeliverFunction"]["Timeout"]
    assert queue["RedrivePolicy"] == {
        "deadLetterTargetArn": {"Fn::GetAtt": "DeliveryDeadLetters.Arn"},
        "maxReceiveCount": TRIES,
    }
    assert queue["MessageRetentionPeriod"] > sum(PAUSES) * (1 + JITTER) + TRIES * queue["VisibilityTimeout"]


def test_a_delivery_waits_for_no_other_and_its_failure_is_reported_by_its_message() -> None:
    events = FUNCTIONS["DeliverFunction"]["Events"]["Deliveries"]["Properties"]
    assert (events["BatchSize"], events["FunctionResponseTypes"]) == (1, ["ReportBatchItemFailures"])
    assert events["ScalingConfig"]["MaximumConcurrency"] >= 10


def test_a_delivery_has_time_for_a_name_server_an_exchange_and_our_own_services() -> None:
    from spotune.aws.webhooks import TIME_LIMIT

    assert FUNCTIONS["DeliverFunction"]["Timeout"] >= TIME_LIMIT + 15
    assert FUNCTIONS["ApiFunction"]["Timeout"] >= TIME_LIMIT + 15


def test_whoever_posts_to_strangers_reads_no_job_and_no_object_and_starts_nothing() -> None:
    """What a receiver could make it do is bounded by what it may do."""
    assert actions("DeliverRole", "dynamodb") == {"dynamodb:GetItem", "dynamodb:PutItem"}
    (grant,) = (s for s in statements("DeliverRole") if "dynamodb:GetItem" in s["Action"])
    assert grant["Condition"]["ForAllValues:StringLike"] == {"dynamodb:LeadingKeys": ["WEBHOOKS#*"]}
    assert grant["Condition"]["Null"] == {"dynamodb:LeadingKeys": "false"}
    assert not actions("DeliverRole", "s3") | actions("DeliverRole", "sagemaker") | actions("DeliverRole", "iam")
    assert "sqs:SendMessage" not in actions("DeliverRole", "sqs")


def test_training_jobs_read_the_keys_of_trackers_and_no_other_secret() -> None:
    (grant,) = (s for s in statements("TrainingRole") if "secretsmanager" in str(s["Action"]))
    assert grant["Action"] == "secretsmanager:GetSecretValue"
    assert grant["Resource"]["Fn::Sub"].endswith(":secret:spotune/${Stage}/trackers/*/*")
    (track,) = (s for s in statements("TrainingRole") if "sagemaker-mlflow" in str(s["Action"]))
    assert track["Resource"] == {"Ref": "MlflowServers"}
    assert not [action for action in track["Action"] if "Delete" in action or "*" in action]


def test_the_signing_secret_is_made_by_the_stack_and_read_by_two_roles() -> None:
    secret = RESOURCES["SigningSecret"]
    assert secret["DeletionPolicy"] == "Retain"
    assert secret["Properties"]["GenerateSecretString"]["PasswordLength"] >= 43
    readers = {role for role in ROLES if actions(role, "secretsmanager")} - {"TrainingRole", "TenantRole"}
    assert readers == {"ApiRole", "DeliverRole"}
    for role in readers:
        grants = [s for s in statements(role) if "secretsmanager" in str(s["Action"]) and s["Sid"] != "ReadEdgeSecret"]
        (grant,) = grants
        assert (grant["Action"], grant["Resource"]) == (
            "secretsmanager:GetSecretValue",
            {"Fn::GetAtt": "SigningSecret.Id"},
        )


def test_only_deliveries_are_published_and_only_commands_and_repairs_send_deliveries() -> None:
    assert {role for role in ROLES if actions(role, "sns")} == {"DeliverRole"}
    queues = {
        role: s for role in ROLES for s in statements(role) if s["Resource"] == {"Fn::GetAtt": "DeliveryQueue.Arn"}
    }
    senders = {role for role, s in queues.items() if "sqs:SendMessage" in listed(s["Action"])}
    assert senders == {"LaunchRole", "DataArrivedRole", "ReconcileRole"}, "files are quarantined, champions changed"
    keys = ["HasKey", {"Ref": "KmsKeyArn"}, "alias/aws/sns"]
    assert RESOURCES["Notifications"]["Properties"]["KmsMasterKeyId"] == {"Fn::If": keys}


def test_no_network_is_opened_to_webhooks_unless_the_deployment_says_so() -> None:
    parameter = DOCUMENT["Parameters"]["WebhookNetworks"]
    pattern = re.compile(parameter["AllowedPattern"])
    assert parameter["Default"] == ""
    for text in ("", "10.0.0.0/8", "10.0.0.0/8,fd00::/8"):
        assert pattern.fullmatch(text)
        parse_networks(text)
    assert not [text for text in ("10.0.0.0", "internal", "10.0.0.0/8,", "*") if pattern.fullmatch(text)]
    for name in ("ApiFunction", "DeliverFunction"):
        variables = FUNCTIONS[name]["Environment"]["Variables"]
        assert variables["SPOTUNE_WEBHOOK_NETWORKS"] == {"Ref": "WebhookNetworks"}


def test_the_functions_environments_name_every_outlet_that_they_use() -> None:
    wanted = {
        "ApiFunction": {"SIGNING_SECRET_ARN"},
        "LaunchFunction": {"DELIVERY_QUEUE_URL"},
        "DataArrivedFunction": {"DELIVERY_QUEUE_URL"},
        "DeliverFunction": {"DELIVERY_QUEUE_URL", "TOPIC_ARN", "SIGNING_SECRET_ARN"},
    }
    for name, variables in wanted.items():
        assert {f"SPOTUNE_{one}" for one in variables} <= {*FUNCTIONS[name]["Environment"]["Variables"]}


def test_a_dataset_check_has_time_and_holds_back_no_other_command() -> None:
    launch = FUNCTIONS["LaunchFunction"]
    events = launch["Events"]["Commands"]["Properties"]
    assert (launch["Timeout"], launch["MemorySize"]) == (900, 1769)
    assert (events["BatchSize"], events["ScalingConfig"]) == (1, {"MaximumConcurrency": 10})


def test_a_bad_command_is_reported_by_its_message() -> None:
    events = FUNCTIONS["LaunchFunction"]["Events"]["Commands"]["Properties"]
    assert events["FunctionResponseTypes"] == ["ReportBatchItemFailures"]


def test_no_function_answers_later_than_the_api_waits() -> None:
    waits = RESOURCES["ApiIntegration"]["Properties"]["TimeoutInMillis"]
    assert FUNCTIONS["ApiFunction"]["Timeout"] * 1000 <= waits


def test_the_table_can_be_recovered_and_forgets_by_expires_at() -> None:
    table = RESOURCES["Table"]["Properties"]
    assert table["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
    assert table["SSESpecification"]["Fn::If"][2] == {"SSEEnabled": True}
    assert table["TimeToLiveSpecification"] == {"AttributeName": "expires_at", "Enabled": True}
    assert {index["IndexName"] for index in table["GlobalSecondaryIndexes"]} == {"gsi1", "gsi2", "gsi3"}


def test_every_log_is_forgotten_in_time() -> None:
    assert all("RetentionInDays" in group for group in of_type("AWS::Logs::LogGroup").values())


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_handler_exists(name: str) -> None:
    module, _, function = FUNCTIONS[name]["Handler"].rpartition(".")
    source = TEMPLATE.parents[1].joinpath(*module.split(".")).with_suffix(".py")
    assert f"def {function}(" in source.read_text()


def test_the_environment_is_what_the_service_reads() -> None:
    from spotune.service.installation import Settings

    written = DOCUMENT["Globals"]["Function"]["Environment"]["Variables"]
    settings = Settings.from_environment({**dict.fromkeys(written, "1"), "SPOTUNE_SOURCE_TENANTS": "acme=one/in"})
    assert settings.sources[0].bucket == "one"
    assert settings.queue_url == settings.training_role == settings.training_image == "1"


def test_events_come_from_the_source_that_the_deployment_names() -> None:
    rule = FUNCTIONS["TrainingChangedFunction"]["Events"]["StateChange"]["Properties"]["Pattern"]
    assert rule["source"] == [{"Ref": "EventSource"}]
    assert DOCUMENT["Parameters"]["EventSource"]["Default"] == "aws.sagemaker"


def test_three_routes_lead_to_one_function_and_only_the_plain_one_lets_everybody_in() -> None:
    routes = {body["RouteKey"]: body for body in of_type("AWS::ApiGatewayV2::Route").values()}
    assert {key: body.get("AuthorizationType", "NONE") for key, body in routes.items()} == {
        "ANY /{proxy+}": "NONE",
        "ANY /iam/{proxy+}": "AWS_IAM",
        "ANY /jwt/{proxy+}": "JWT",
    }
    assert {str(body["Target"]) for body in routes.values()} == {str({"Fn::Sub": "integrations/${ApiIntegration}"})}


def test_tokens_are_taken_from_the_issuer_that_is_named_and_from_nobody_where_none_is() -> None:
    authorizer = RESOURCES["JwtAuthorizer"]
    assert authorizer["Properties"]["JwtConfiguration"] == {
        "Issuer": {"Ref": "JwtIssuer"},
        "Audience": {"Ref": "JwtAudience"},
    }
    assert RESOURCES["JwtRoute"]["Properties"]["AuthorizerId"] == {"Ref": "JwtAuthorizer"}
    assert authorizer["Condition"] == RESOURCES["JwtRoute"]["Condition"] == "TakesTokens"
    assert DOCUMENT["Conditions"]["TakesTokens"] == {"Fn::Not": [{"Fn::Equals": [{"Ref": "JwtIssuer"}, ""]}]}
    assert DOCUMENT["Parameters"]["JwtIssuer"]["Default"] == ""
    variables = DOCUMENT["Globals"]["Function"]["Environment"]["Variables"]
    assert variables["SPOTUNE_JWT_ISSUER"] == {"Ref": "JwtIssuer"}, "the handler checks against the same issuer"


def test_a_key_has_a_limit_where_nothing_is_said() -> None:
    from spotune.contracts.identity import MOST_REQUESTS_PER_MINUTE
    from spotune.service.installation import Settings

    limit = DOCUMENT["Parameters"]["RequestsPerMinute"]
    assert (limit["MinValue"], limit["MaxValue"]) == (1, MOST_REQUESTS_PER_MINUTE)
    variables = DOCUMENT["Globals"]["Function"]["Environment"]["Variables"]
    assert variables["SPOTUNE_REQUESTS_PER_MINUTE"] == {"Ref": "RequestsPerMinute"}
    values = dict.fromkeys(variables, "1") | {"SPOTUNE_REQUESTS_PER_MINUTE": str(limit["Default"])}
    values["SPOTUNE_SOURCE_TENANTS"] = ""
    assert Settings.from_environment(values).requests_per_minute == 600


def test_only_the_api_counts_requests_and_the_keys_function_still_only_puts() -> None:
    assert "dynamodb:UpdateItem" in actions("ApiRole", "dynamodb")
    assert actions("KeysRole", "dynamodb") == {"dynamodb:PutItem"}


@pytest.mark.parametrize("isolated", [True, False])
def test_containers_have_no_network_where_nothing_is_said(isolated: bool) -> None:
    from spotune.service.installation import Settings

    parameter = DOCUMENT["Parameters"]["NetworkIsolation"]
    assert parameter["Default"] == "true"
    variables = DOCUMENT["Globals"]["Function"]["Environment"]["Variables"]
    assert variables["SPOTUNE_NETWORK_ISOLATION"] == {"Ref": "NetworkIsolation"}
    values = dict.fromkeys(variables, "1") | {"SPOTUNE_SOURCE_TENANTS": ""}
    values["SPOTUNE_NETWORK_ISOLATION"] = parameter["Default"] if isolated else "false"
    assert Settings.from_environment(values).network_isolation is isolated


def test_base_models_may_lie_in_a_bucket_that_installations_share_and_are_read_there_alone() -> None:
    from spotune.service.installation import Settings

    assert DOCUMENT["Parameters"]["MirrorBucket"]["Default"] == ""
    chosen = {"Fn::If": ["HasMirror", {"Ref": "MirrorBucket"}, {"Ref": "ModelsBucket"}]}
    variables = DOCUMENT["Globals"]["Function"]["Environment"]["Variables"]
    assert variables["SPOTUNE_MIRROR_BUCKET"] == DOCUMENT["Outputs"]["MirrorBucket"]["Value"] == chosen
    values = dict.fromkeys(variables, "1") | {"SPOTUNE_SOURCE_TENANTS": "", "SPOTUNE_MIRROR_BUCKET": "shared"}
    assert Settings.from_environment(values).mirror_bucket == "shared"
    statements = [
        statement
        for name in ("ReadObjectsPolicy", "TrainPolicy")
        for statement in RESOURCES[name]["Properties"]["PolicyDocument"]["Statement"]
    ]
    named = [one for one in statements if "MirrorBucket" in str(one["Resource"])]
    assert {one["Action"] for one in named} == {"s3:GetObject", "s3:ListBucket"}
    assert "MirrorBucket" not in str(
        [body for name, body in RESOURCES.items() if name not in ("ReadObjectsPolicy", "TrainPolicy")]
    )
