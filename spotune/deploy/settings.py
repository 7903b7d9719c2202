"""The settings of one installation: what `spotune-deploy.yaml` may say, each field with its default and meaning.

A field that stands for one parameter of the template names it: `Annotated[int, Parameter("Jobs")]`. That is all it
takes to add one; `parameters`, the file that `spotune deploy --init` writes and the table in docs/deploying.md follow.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, Field, field_validator, model_validator

from spotune.contracts.base import Contract
from spotune.contracts.layout import region_bucket
from spotune.deploy.image_name import REGION, ImageName
from spotune.planner.catalog import load_catalog

FILE = "spotune-deploy.yaml"
"""Where the commands look for the settings unless told otherwise."""

_TENANT = (r"[a-z0-9][a-z0-9-]{0,39}", "small letters, digits and hyphens, 40 at most, and no hyphen first: team")
CODE, FURTHER = "code", "further"
"""What the names of an installation's stacks beside its own end in."""
_BUCKET_LENGTH = 63
_ACCOUNT = "0" * 12


def _written(pattern: str, rule: str) -> AfterValidator:
    """Refuses what the pattern does not match, with the rule in words."""

    def check(value: str) -> str:
        if not re.fullmatch(pattern, value, re.ASCII):
            raise ValueError(f"{value!r} does not do; write {rule}")
        return value

    return AfterValidator(check)


Region = Annotated[str, _written(REGION, "a region of AWS as its console spells it: eu-west-1")]


@dataclass(frozen=True, slots=True)
class Parameter:
    """Marks a field whose value is one parameter of infra/template.yaml, under this name."""

    name: str


class Budgets(Contract):
    """Dollars that may be spent on training. Caps hold whatever a job asks for; an alarm only tells."""

    monthly_limit_usd: Annotated[float, Parameter("MonthlyLimitUsd")] = Field(
        default=500, ge=0, description="What a tenant may spend in a calendar month (UTC)."
    )
    default_budget_usd: Annotated[float, Parameter("DefaultBudgetUsd")] = Field(
        default=25, ge=0, description="Cap of a job that names no budget."
    )
    daily_spend_alarm_usd: Annotated[float, Parameter("DailySpendAlarmUsd")] = Field(
        default=100, ge=0, description="An alarm goes off where more is booked in 24 hours, over all tenants."
    )


class Limits(Contract):
    """How much may happen at a time."""

    jobs: Annotated[int, Parameter("Jobs")] = Field(
        default=100, ge=1, description="Jobs that may run at a time in all; the others stand in line."
    )
    jobs_per_tenant: Annotated[int, Parameter("JobsPerTenant")] = Field(
        default=20, ge=1, description="Jobs of one tenant that may run at a time; its others stand in line."
    )
    requests_per_minute: Annotated[int, Parameter("RequestsPerMinute")] = Field(
        default=600, ge=1, le=60_000, description="Requests of a key that has no limit of its own."
    )


class Tokens(Contract):
    """Tokens of your own identity provider that open the API below /jwt/."""

    issuer: Annotated[
        str,
        Parameter("JwtIssuer"),
        _written(r"(https?://[^# ]+)?", "a URL without # or spaces: https://login.example"),
    ] = Field(
        default="",
        description="Whose tokens, spelt as in their claim iss; empty for none.",
    )
    audience: Annotated[tuple[str, ...], Parameter("JwtAudience")] = Field(
        default=(), description="Whom they have to be for (claim aud, else client_id)."
    )

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.issuer and not self.audience:
            raise ValueError("an issuer needs an audience; without one no token would open anything")
        return self


class Vpc(Contract):
    """Your own network for training jobs: private subnets with a way to S3; SageMaker's own where none is named."""

    subnets: Annotated[
        tuple[Annotated[str, _written(r"subnet-[0-9a-f]+", "ids of subnets: subnet-0a1b2c3d")], ...],
        Parameter("Subnets"),
    ] = Field(default=(), description="Subnets of the home region, with a gateway endpoint for S3.")
    security_groups: Annotated[
        tuple[Annotated[str, _written(r"sg-[0-9a-f]+", "ids of security groups: sg-0a1b2c3d")], ...],
        Parameter("SecurityGroups"),
    ] = Field(default=(), description="Their security groups, which let their members reach each other.")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if bool(self.subnets) != bool(self.security_groups):
            raise ValueError("subnets and security_groups are given together or not at all")
        return self


class Settings(Contract):
    """One installation in one account."""

    stage: Annotated[
        str,
        Parameter("Stage"),
        # Names of resources are spotune-<stage>-...: with a hyphen in a stage, one could be read as another one's.
        _written(r"[a-z][a-z0-9]{0,19}", "small letters and digits, 20 at most, a letter first: staging2"),
    ] = Field(
        default="prod",
        description="Name of this installation, of letters and digits. Several of one account stand side by side under "
        "different names.",
    )
    region: Region = Field(description="Home of its API, table, buckets and, unless more are named, all training.")
    further_regions: Annotated[tuple[Region, ...], Parameter("FurtherRegions")] = Field(
        default=(), description="Regions beside it that jobs may run in; each gets a stack of its own."
    )
    image: Annotated[str | None, Parameter("TrainingImage")] = Field(
        default=None,
        description="Full URI of the training image in this account's ECR; `spotune image push` writes it here.",
    )
    first_tenant: Annotated[str, _written(*_TENANT)] = Field(
        default="team",
        description="Tenant of the first admin key, which the first deployment prints.",
    )
    python: Literal["3.11", "3.12", "3.13", "3.14"] = Field(
        default="3.13", description="Lambda's Python. The bundle is made for it, whatever Python runs here."
    )
    architecture: Annotated[Literal["x86_64", "arm64"], Parameter("Architecture")] = Field(
        default="x86_64", description="Lambda's processor. The bundle is made for it, whatever machine runs this."
    )
    budgets: Budgets = Field(default=Budgets(), description=str(Budgets.__doc__))
    limits: Limits = Field(default=Limits(), description=str(Limits.__doc__))
    tenants: Annotated[tuple[Annotated[str, _written(*_TENANT)], ...], Parameter("Tenants")] = Field(
        default=(),
        description="Tenants whose training jobs run under a role of their own, which reaches their folders alone; "
        "nobody else may train then. None: all jobs run under one role.",
    )
    instance_types: tuple[str, ...] = Field(
        default=(), description="Types that training may run on; IAM refuses all others. None: all that are known."
    )
    max_runtime_hours: float = Field(
        default=120,
        ge=1,
        le=672,
        description="The longest that one training job may run; IAM refuses more. AWS's own quota is 120 h at first.",
    )
    checkpoint_days: Annotated[int, Parameter("CheckpointDays")] = Field(
        default=30,
        ge=1,
        le=3650,
        description="Days after which checkpoints of ended jobs are forgotten, counted from when each was written.",
    )
    vpc: Vpc = Field(default=Vpc(), description=str(Vpc.__doc__))
    kms_key_arn: Annotated[
        str,
        Parameter("KmsKeyArn"),
        _written(
            r"(arn:[a-z-]+:kms:[a-z0-9-]+:[0-9]{12}:key/[a-z0-9-]+)?",
            "a key's ARN, and no alias: arn:aws:kms:eu-west-1:111122223333:key/mrk-0a1b",
        ),
    ] = Field(
        default="",
        description="Key of your own for everything that is kept but code and access logs (docs/permissions.md has its "
        "policy); AWS's keys where it is empty. With further regions, a multi-Region key with a replica in each.",
    )
    alarm_email: Annotated[
        str, Parameter("AlarmEmail"), _written(r"([^@\s]+@[^@\s]+)?", "one address: team@example.com")
    ] = Field(
        default="",
        description="Address that alarms are sent to, once it has confirmed; empty for none.",
    )
    log_retention_days: Annotated[Literal[1, 3, 5, 7, 14, 30, 60, 90, 180, 365], Parameter("LogRetentionDays")] = Field(
        default=30, description="Days after which logs are forgotten."
    )
    mirror_bucket: Annotated[
        str,
        Parameter("MirrorBucket"),
        _written(r"([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])?", "a bucket's name without s3:// or a folder: base-models"),
    ] = Field(
        default="",
        description="Bucket of the home region with base models that several installations share; one of its own where "
        "it is empty.",
    )
    network_isolation: Annotated[bool, Parameter("NetworkIsolation")] = Field(
        default=True,
        description="Training containers have no network. Trackers that need one (mlflow, wandb with a key) want "
        "false, which gives one to their jobs and no others.",
    )
    mlflow_servers: Annotated[tuple[str, ...], Parameter("MlflowServers")] = Field(
        default=(), description="ARNs of SageMaker's managed MLflow servers that training jobs may log to."
    )
    sources: dict[str, tuple[str, ...]] = Field(
        default={},
        description="Buckets beside the data bucket that rules may watch: `tenant: [bucket, bucket/prefix]`.",
    )
    webhook_networks: Annotated[tuple[str, ...], Parameter("WebhookNetworks")] = Field(
        default=(), description="Networks (CIDR) that webhooks may lead to though they are not public."
    )
    jwt: Tokens = Field(default=Tokens(), description=str(Tokens.__doc__))
    web_acl_arn: Annotated[
        str,
        Parameter("WebAclArn"),
        _written(
            r"(arn:aws:wafv2:us-east-1:\d{12}:global/webacl/.+)?",
            "the ARN of a web ACL of CloudFront, which is in us-east-1: "
            "arn:aws:wafv2:us-east-1:111122223333:global/webacl/NAME/ID",
        ),
    ] = Field(
        default="",
        description="A web ACL of WAF (scope CLOUDFRONT) that the API stands behind, with CloudFront; empty for none.",
    )
    edge_secret_version: Annotated[
        str,
        Parameter("EdgeSecretVersion"),
        _written(r"([a-zA-Z0-9-]{32,64})?", "a version's id of Secrets Manager, 32 to 64 letters, digits and hyphens"),
    ] = Field(
        default="",
        description="After a rotation of CloudFront's secret the version that it is to send (docs/security.md).",
    )
    deletion_protection: Annotated[bool, Parameter("DeletionProtection")] = Field(
        default=True, description="AWS refuses to delete the stack, and the table, which holds jobs and money."
    )

    @field_validator("python", mode="before")
    @classmethod
    def _spelt(cls, value: object) -> object:
        return str(value) if isinstance(value, float) else value  # YAML reads 3.13 as a number

    @field_validator("image")
    @classmethod
    def _in_ecr(cls, value: str | None) -> str | None:
        if value is not None:
            ImageName.of(value)
        return value

    @field_validator("instance_types")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := [name for name in value if name not in load_catalog().instances]:
            raise ValueError(f"{', '.join(unknown)}: not in the catalog; see `spotune catalog`")
        return value

    @model_validator(mode="after")
    def _named(self) -> Self:
        """IAM's names end at 64 characters, a bucket's at 63, and CloudFormation's hold no hyphens."""
        for region in self.further_regions:
            bucket = region_bucket(f"{stack_name(self.stage)}-{_ACCOUNT}", region, "models")
            if len(bucket) > _BUCKET_LENGTH:
                raise ValueError(
                    f"further_regions: the buckets in {region} would have names of more than {_BUCKET_LENGTH} "
                    f"characters; a stage that is {len(bucket) - _BUCKET_LENGTH} shorter fits"
                )
        if long := [name for name in self.tenants if len(f"spotune-{self.stage}-{name}") > 64]:
            raise ValueError(f"tenants: the role of {long[0]} would have a name of more than 64 characters")
        alike = [name.replace("-", "") for name in self.tenants]
        if len(set(alike)) < len(alike):
            raise ValueError("tenants: two names are the same but for their hyphens")
        return self

    @model_validator(mode="after")
    def _in_their_regions(self) -> Self:
        if self.tenants and self.first_tenant not in self.tenants:
            raise ValueError(f"tenants leaves out the first_tenant, {self.first_tenant!r}")
        if self.vpc.subnets and self.further_regions:
            raise ValueError("vpc: its subnets are the home region's, so that there can be no further_regions")
        if self.kms_key_arn and self.kms_key_arn.split(":")[3] != self.region:
            raise ValueError(f"kms_key_arn names a key of another region than {self.region}")
        if self.kms_key_arn and self.further_regions and "key/mrk-" not in self.kms_key_arn:
            raise ValueError("kms_key_arn: with further_regions it has to be a multi-Region key (mrk-...)")
        return self

    @model_validator(mode="after")
    def _together(self) -> Self:
        if self.mlflow_servers and self.network_isolation:
            raise ValueError("mlflow_servers cannot be reached while network_isolation is true; set it to false")
        if self.region in self.further_regions or len(set(self.further_regions)) < len(self.further_regions):
            raise ValueError("further_regions names each region once, and not the home")
        if self.image is not None and (at := ImageName.of(self.image).region) != self.region:
            raise ValueError(f"image lies in {at}; SageMaker pulls from its own region, {self.region}")
        return self


@dataclass(frozen=True, slots=True)
class Setting:
    """One field as documents name it: dotted, with its default and its parameter, where it is one's."""

    name: str
    default: object
    required: bool
    description: str
    parameter: str | None
    group: bool
    """It holds further fields, which follow it."""


def settings_listed(model: type[BaseModel] = Settings, prefix: str = "") -> Iterator[Setting]:
    """Every field, groups before their fields, in the order of the file."""
    for name, field in model.model_fields.items():
        inner = field.annotation if isinstance(field.annotation, type) else None
        group = inner is not None and issubclass(inner, BaseModel)
        parameter = next((mark.name for mark in field.metadata if isinstance(mark, Parameter)), None)
        default = None if field.is_required() or group else field.default
        yield Setting(f"{prefix}{name}", default, field.is_required(), field.description or "", parameter, group)
        if group and inner is not None:
            yield from settings_listed(inner, f"{prefix}{name}.")


def parameters(settings: Settings) -> dict[str, str]:
    """The template's parameters that these settings say. Not said are the place of the code, and what has one value."""
    marked = {
        setting.parameter: _spelling(_value(settings, setting.name))
        for setting in settings_listed()
        if setting.parameter is not None
    }
    derived = {
        "PythonRuntime": f"python{settings.python}",
        "InstanceTypes": ",".join(settings.instance_types or load_catalog().instances),
        "MaxRuntimeSeconds": str(int(settings.max_runtime_hours * 3600)),
        "SourceBuckets": ",".join(_source_arns(settings)),
        "SourceTenants": ",".join(
            f"{tenant}={place}" for tenant, places in settings.sources.items() for place in places
        ),
    }
    if settings.image is not None:
        derived["TrainingRepository"] = ImageName.of(settings.image).repository
    return marked | derived


def region_parameters(settings: Settings, region: str) -> dict[str, str]:
    """The parameters of infra/region.yaml in a further region."""
    return {
        "Stage": settings.stage,
        "HomeRegion": settings.region,
        "KmsKeyArn": settings.kms_key_arn.replace(f":kms:{settings.region}:", f":kms:{region}:"),
        "CheckpointDays": str(settings.checkpoint_days),
        "LogRetentionDays": str(settings.log_retention_days),
    }


def stack_name(stage: str, ending: str = "") -> str:
    """What an installation's own stack is called, or the one beside it that has this ending."""
    return "-".join(filter(None, ("spotune", stage, ending)))


def partition(region: str) -> str:
    """AWS's name for the world that a region belongs to: the second word of every ARN there."""
    beginnings = {"cn-": "aws-cn", "us-gov-": "aws-us-gov"}
    return next((name for start, name in beginnings.items() if region.startswith(start)), "aws")


def _value(settings: Settings, dotted: str) -> object:
    found: object = settings
    for name in dotted.split("."):
        found = getattr(found, name)
    return found


def _spelling(value: object) -> str:
    """As CloudFormation takes it: every parameter is text."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case float():
            return f"{value:.6f}".rstrip("0").rstrip(".")
        case tuple():
            return ",".join(map(str, value))
    return str(value)


def _source_arns(settings: Settings) -> list[str]:
    buckets = {place.partition("/")[0] for places in settings.sources.values() for place in places}
    return [f"arn:{partition(settings.region)}:s3:::{bucket}" for bucket in sorted(buckets)]
