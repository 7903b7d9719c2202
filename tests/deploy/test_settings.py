"""The settings of an installation, and the template's parameters that they become."""

from __future__ import annotations

import json
from typing import Any

import boto3
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from spotune.deploy import templates
from spotune.deploy.settings import Settings, parameters, region_parameters, settings_listed
from tests.infra.test_region import DOCUMENT as REGION
from tests.infra.test_template import DOCUMENT

IMAGE = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/team/spotune-training:1.2"
NOT_SETTINGS = {"CodeBucket", "CodeKey", "EventSource", "AdvisorUrl"}
"""What a deployment or the emulator says itself."""


OWN_NETWORK = {"subnets": ("subnet-0a", "subnet-0b"), "security_groups": ("sg-0a",)}
KEY = "arn:aws:kms:eu-west-1:123456789012:key/mrk-1"


def settings(**fields: Any) -> Settings:
    return Settings.model_validate({"region": "eu-west-1", "image": IMAGE, **fields})


def test_every_parameter_of_the_template_has_a_setting_and_none_is_made_up() -> None:
    assert parameters(settings()).keys() == DOCUMENT["Parameters"].keys() - NOT_SETTINGS


def test_a_setting_has_the_default_of_its_parameter() -> None:
    said = parameters(Settings(region="eu-west-1"))
    for name, value in said.items():
        if name not in ("PythonRuntime", "TrainingImage"):
            assert value == str(DOCUMENT["Parameters"][name]["Default"]), name


def test_every_setting_says_what_it_is() -> None:
    assert [one.name for one in settings_listed() if not one.description.endswith(".")] == []


def test_lists_are_joined_and_switches_spelt_as_cloudformation_takes_them() -> None:
    said = parameters(
        settings(
            further_regions=("eu-north-1", "us-east-1"),
            webhook_networks=("10.0.0.0/8", "fd00::/8"),
            deletion_protection=False,
            jwt={"issuer": "https://login.example", "audience": ("spotune", "cli")},
        )
    )
    assert said["FurtherRegions"] == "eu-north-1,us-east-1"
    assert said["WebhookNetworks"] == "10.0.0.0/8,fd00::/8"
    assert said["DeletionProtection"] == "false"
    assert (said["JwtIssuer"], said["JwtAudience"]) == ("https://login.example", "spotune,cli")


@given(st.floats(min_value=0, max_value=1e9, allow_nan=False))
def test_no_amount_is_spelt_with_an_exponent_or_loses_a_cent(amount: float) -> None:
    said = parameters(settings(budgets={"monthly_limit_usd": amount}))["MonthlyLimitUsd"]
    assert "e" not in said
    assert float(said) == pytest.approx(amount, abs=0.005)


def test_the_image_says_which_repository_may_be_pulled_from() -> None:
    assert parameters(settings())["TrainingRepository"] == "team/spotune-training"


def test_sources_become_grants_and_each_bucket_once() -> None:
    said = parameters(settings(region="cn-north-1", image=None, sources={"acme": ("in/a", "in/b"), "beta": ("other",)}))
    assert said["SourceTenants"] == "acme=in/a,acme=in/b,beta=other"
    assert said["SourceBuckets"] == "arn:aws-cn:s3:::in,arn:aws-cn:s3:::other"


def test_yaml_reads_a_python_version_as_a_number() -> None:
    assert parameters(settings(python=3.12))["PythonRuntime"] == "python3.12"


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"image": "docker.io/library/python:3.11"}, "ECR"),
        ({"image": IMAGE.replace("eu-west-1", "us-east-1")}, "us-east-1"),
        ({"further_regions": ("eu-west-1",)}, "further_regions"),
        ({"further_regions": ("us-east-1", "us-east-1")}, "further_regions"),
        ({"jwt": {"issuer": "https://login.example"}}, "audience"),
        ({"stage": "s" * 20, "further_regions": ("us-east-1", "ap-southernmost-1")}, "3 shorter"),
        ({"log_retention_days": 31}, "log_retention_days"),
        ({"budget": 3}, "budget"),
        ({"tenants": ("acme",)}, "first_tenant"),
        ({"instance_types": ("ml.g99.xlarge",)}, "ml.g99.xlarge"),
        ({"max_runtime_hours": 673}, "max_runtime_hours"),
        ({"tenants": ("a-b", "ab")}, "hyphens"),
        ({"stage": "s" * 20, "tenants": ("t" * 36,)}, "64"),
        ({"vpc": {"subnets": ("subnet-1",)}}, "together"),
        ({"vpc": {"security_groups": ("sg-1",)}}, "together"),
        ({"vpc": OWN_NETWORK, "further_regions": ("us-east-1",)}, "further_regions"),
        ({"kms_key_arn": KEY.replace("eu-west-1", "us-east-1")}, "another region"),
        ({"kms_key_arn": KEY.replace("mrk-", ""), "further_regions": ("us-east-1",)}, "multi-Region"),
    ],
)
def test_what_cannot_be_deployed_is_refused_before_anything_is_asked_of_aws(fields: dict[str, Any], word: str) -> None:
    with pytest.raises(ValidationError, match=word):
        settings(**fields)


WRITTEN: tuple[tuple[dict[str, Any], str, str], ...] = (
    ({"stage": "Prod"}, "'Prod'", "staging2"),
    ({"stage": "2nd"}, "'2nd'", "a letter first"),
    ({"stage": "s" * 21}, "20 at most", "staging2"),
    ({"stage": "prod-eu"}, "'prod-eu'", "small letters and digits"),
    ({"stage": "prod\n"}, "prod", "small letters and digits"),
    ({"region": "Ireland"}, "'Ireland'", "eu-west-1"),
    ({"further_regions": ("us-east",)}, "'us-east'", "eu-west-1"),
    ({"first_tenant": "Team"}, "'Team'", "small letters"),
    ({"tenants": ("-acme",)}, "'-acme'", "no hyphen first"),
    ({"jwt": {"issuer": "login.example", "audience": ("a",)}}, "'login.example'", "https://"),
    ({"vpc": {"subnets": ("net-1",), "security_groups": ("sg-1",)}}, "'net-1'", "subnet-"),
    ({"vpc": {"subnets": ("subnet-1",), "security_groups": ("default",)}}, "'default'", "sg-"),
    ({"kms_key_arn": "alias/team"}, "'alias/team'", "key/"),
    ({"alarm_email": "team"}, "'team'", "team@example.com"),
    ({"mirror_bucket": "s3://models"}, "'s3://models'", "without s3://"),
    ({"web_acl_arn": "arn:aws:wafv2:eu-west-1:123456789012:regional/webacl/a/b"}, "regional", "us-east-1"),
    ({"edge_secret_version": "AWSCURRENT"}, "'AWSCURRENT'", "32 to 64"),
)


@pytest.mark.parametrize(("fields", "told", "instead"), WRITTEN)
def test_what_is_misspelt_is_told_with_what_to_write(fields: dict[str, Any], told: str, instead: str) -> None:
    with pytest.raises(ValidationError) as refused:
        settings(**fields)
    (message,) = (one["msg"] for one in refused.value.errors())
    assert told in message
    assert instead in message
    assert "pattern" not in message


def test_no_setting_is_refused_in_the_words_of_a_pattern() -> None:
    assert "pattern" not in json.dumps(Settings.model_json_schema())


@given(st.from_regex(r"[a-z0-9-]{1,12}", fullmatch=True), st.from_regex(r"[a-z0-9-]{0,12}", fullmatch=True))
def test_a_name_is_of_one_stage_alone(stage: str, rest: str) -> None:
    """Roles, buckets, groups of models and stacks are called spotune-<stage>-<anything>, and granted by that."""
    words = f"{stage}-{rest}".split("-")
    readings = ["-".join(words[:count]) for count in range(1, len(words) + 1)]
    assert [reading for reading in readings if is_stage(reading)] == ([words[0]] if is_stage(words[0]) else [])


def is_stage(name: str) -> bool:
    try:
        return settings(stage=name).stage == name
    except ValidationError:
        return False


def test_the_templates_take_no_other_stage_than_the_settings() -> None:
    patterns = {
        templates.parsed(path.read_text())["Parameters"]["Stage"]["AllowedPattern"]
        for path in (templates.CODE, templates.INSTALLATION, templates.REGION)
    }
    assert patterns == {"[a-z][a-z0-9]{0,19}"}


def test_the_longest_stage_has_buckets_in_every_region_that_there_is() -> None:
    regions = boto3.Session().get_available_regions("sagemaker")
    assert len(regions) > 20
    settings(stage="s" * 20, further_regions=tuple(region for region in regions if region != "eu-west-1"))


def test_trackers_that_no_container_could_reach_are_refused() -> None:
    server = "arn:aws:sagemaker:eu-west-1:123456789012:mlflow-tracking-server/team"
    with pytest.raises(ValidationError, match="set it to false"):
        settings(mlflow_servers=(server,))
    said = parameters(settings(mlflow_servers=(server,), network_isolation=False))
    assert (said["MlflowServers"], said["NetworkIsolation"]) == (server, "false")


def test_bounds_network_and_key_become_parameters() -> None:
    own = {"instance_types": ("ml.g6.xlarge",), "max_runtime_hours": 1.5, "tenants": ("acme", "globex")}
    own |= {"first_tenant": "acme"}
    said = parameters(settings(vpc=OWN_NETWORK, kms_key_arn=KEY, **own))
    assert (said["InstanceTypes"], said["MaxRuntimeSeconds"]) == ("ml.g6.xlarge", "5400")
    assert (said["Subnets"], said["SecurityGroups"]) == ("subnet-0a,subnet-0b", "sg-0a")
    assert (said["Tenants"], said["KmsKeyArn"]) == ("acme,globex", KEY)


def test_a_further_region_gets_the_replica_of_the_key_and_every_parameter_of_its_template() -> None:
    said = region_parameters(settings(kms_key_arn=KEY, further_regions=("us-east-1",)), "us-east-1")
    assert said["KmsKeyArn"] == KEY.replace("eu-west-1", "us-east-1")
    assert said.keys() == REGION["Parameters"].keys() - {"EventSource"}
    assert region_parameters(settings(), "us-east-1")["KmsKeyArn"] == ""
