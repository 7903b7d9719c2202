"""What a use case stands on: the installation's settings and its edges, made once a process."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from spotune.aws.base import (
    DeliveryQueue,
    MarketSource,
    MessageQueue,
    MetricSink,
    NotificationTopic,
    ObjectStore,
    RotatedSecretSource,
    SecretSource,
    TrainingJobService,
    WebhookSender,
)
from spotune.aws.models import ModelRegistry
from spotune.contracts import layout
from spotune.contracts.addresses import parse_networks
from spotune.contracts.base import MICRO, MicroUSD, Timestamp
from spotune.contracts.bounds import UNBOUNDED, Bounds
from spotune.contracts.errors import Unavailable
from spotune.contracts.job import JobRecord
from spotune.contracts.money import LONGEST_RUNTIME
from spotune.contracts.sources import SourceGrant, parse_grants
from spotune.store.base import Store


@dataclass(frozen=True, slots=True)
class Settings:
    """The installation, as `infra/template.yaml` writes it into each function's environment."""

    stage: str
    table: str
    data_bucket: str
    artifacts_bucket: str
    models_bucket: str
    mirror_bucket: str
    """Where base models lie: `models_bucket`, or one that several installations share."""
    queue_url: str
    training_role: str
    training_image: str
    monthly_limit: MicroUSD
    default_budget: MicroUSD
    jobs: int = 100
    """How many may run at a time in all."""
    jobs_per_tenant: int = 20
    region: str = "us-east-1"
    requests_per_minute: int = 600
    """Of a key that has no limit of its own."""
    jwt_issuer: str = ""
    """Whose tokens API Gateway verifies; empty where it takes none."""
    advisor_url: str = ""
    """Of the Spot Instance Advisor's feed; the public one where it is empty."""
    further_regions: tuple[str, ...] = ()
    """Where jobs may run beside `region`, the home of everything else."""
    bucket_prefix: str = ""
    """What the names of a further region's buckets begin with."""
    code: str = ""
    """The key of the bundle that runs, which carries its content's hash."""
    sources: tuple[SourceGrant, ...] = ()
    """Buckets beside the data bucket that tenants' rules may watch."""
    network_isolation: bool = True
    """No container has a network; False gives it to those whose trackers need one."""
    tenants: tuple[str, ...] = ()
    """Who may train, each under a role of its own; empty: everybody, under one."""
    tenant_roles: str = ""
    """What the ARNs of tenants' roles begin with."""
    bounds: Bounds = UNBOUNDED
    subnets: tuple[str, ...] = ()
    """That training jobs run in; empty for SageMaker's own network."""
    security_groups: tuple[str, ...] = ()
    kms_key: str = ""
    """ARN of the key of volumes and results; empty for AWS's own."""

    def role_of(self, tenant: str) -> str:
        """The role that a tenant's training jobs run under."""
        return self.tenant_roles + tenant if self.tenants else self.training_role

    def key_in(self, region: str) -> str:
        """The ARN of our own key in a region: replicas of a multi-Region key differ in their region alone."""
        return self.kms_key.replace(f":kms:{self.region}:", f":kms:{region or self.region}:", 1)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """Read the settings.

        Raises:
            KeyError: one is missing; a fault of the deployment.
            ValueError: one cannot be read.
        """
        region = environment.get("AWS_REGION", "us-east-1")
        return cls(
            stage=environment["SPOTUNE_STAGE"],
            table=environment["SPOTUNE_TABLE"],
            data_bucket=environment["SPOTUNE_DATA_BUCKET"],
            artifacts_bucket=environment["SPOTUNE_ARTIFACTS_BUCKET"],
            models_bucket=environment["SPOTUNE_MODELS_BUCKET"],
            mirror_bucket=environment["SPOTUNE_MIRROR_BUCKET"],
            queue_url=environment.get("SPOTUNE_QUEUE_URL", ""),
            training_role=environment.get("SPOTUNE_TRAINING_ROLE_ARN", ""),
            training_image=environment.get("SPOTUNE_TRAINING_IMAGE", ""),
            monthly_limit=round(float(environment["SPOTUNE_MONTHLY_LIMIT_USD"]) * MICRO),
            default_budget=round(float(environment["SPOTUNE_DEFAULT_BUDGET_USD"]) * MICRO),
            jobs=int(environment["SPOTUNE_JOBS"]),
            jobs_per_tenant=int(environment["SPOTUNE_JOBS_PER_TENANT"]),
            requests_per_minute=int(environment["SPOTUNE_REQUESTS_PER_MINUTE"]),
            jwt_issuer=environment.get("SPOTUNE_JWT_ISSUER", ""),
            region=region,
            advisor_url=environment.get("SPOTUNE_ADVISOR_URL", ""),
            further_regions=tuple(name for name in _named(environment, "SPOTUNE_REGIONS") if name != region),
            bucket_prefix=environment.get("SPOTUNE_BUCKET_PREFIX", ""),
            code=environment.get("SPOTUNE_CODE", ""),
            sources=parse_grants(environment.get("SPOTUNE_SOURCE_TENANTS", "")),
            network_isolation=environment.get("SPOTUNE_NETWORK_ISOLATION", "true") != "false",
            tenants=_named(environment, "SPOTUNE_TENANTS"),
            tenant_roles=environment.get("SPOTUNE_TENANT_ROLES", ""),
            bounds=Bounds(
                instance_types=_named(environment, "SPOTUNE_INSTANCE_TYPES"),
                longest=int(environment.get("SPOTUNE_MAX_RUNTIME_SECONDS", LONGEST_RUNTIME)),
            ),
            subnets=_named(environment, "SPOTUNE_SUBNETS"),
            security_groups=_named(environment, "SPOTUNE_SECURITY_GROUPS"),
            kms_key=environment.get("SPOTUNE_KMS_KEY", ""),
        )


def _named(environment: Mapping[str, str], variable: str) -> tuple[str, ...]:
    """What a variable lists with commas between, each once."""
    names = (name.strip() for name in environment.get(variable, "").split(","))
    return tuple(name for name in dict.fromkeys(names) if name)


@dataclass(frozen=True, slots=True)
class Outlets:
    """Where notifications leave: the queue of deliveries, and what its messages are delivered by."""

    deliveries: DeliveryQueue
    topic: NotificationTopic
    webhooks: WebhookSender
    secret: SecretSource


@dataclass(frozen=True, slots=True)
class Place:
    """One region of the installation: its buckets, its image, and AWS's services there."""

    region: str
    data_bucket: str
    artifacts_bucket: str
    models_bucket: str
    training_image: str
    training_jobs: TrainingJobService
    market: MarketSource


@dataclass(frozen=True, slots=True)
class Installation:
    """Settings, store, AWS edges and clock. `objects` reaches the buckets of all regions."""

    settings: Settings
    store: Store
    objects: ObjectStore
    training_jobs: TrainingJobService
    queue: MessageQueue
    market: MarketSource
    metrics: MetricSink
    outlets: Outlets
    model_registry: ModelRegistry
    clock: Callable[[], Timestamp] = time.time
    further: tuple[Place, ...] = ()
    """Regions beside the home, where API, table, files and base models are."""
    edge: RotatedSecretSource | None = None
    """What CloudFront proves itself with, where a web ACL guards the API; None where callers come directly."""

    @property
    def home(self) -> Place:
        """The region of everything that is not a training job."""
        settings = self.settings
        return Place(
            region=settings.region,
            data_bucket=settings.data_bucket,
            artifacts_bucket=settings.artifacts_bucket,
            models_bucket=settings.models_bucket,
            training_image=settings.training_image,
            training_jobs=self.training_jobs,
            market=self.market,
        )

    @property
    def places(self) -> tuple[Place, ...]:
        """All regions, the home first."""
        return (self.home, *self.further)

    def runs_in(self, region: str) -> bool:
        """True where `place` finds it: False for a region that was taken away while its jobs are still shown."""
        return not region or any(place.region == region for place in self.places)

    def place(self, region: str) -> Place:
        """The place of a region, the home where none is named.

        Raises:
            Unavailable: it is no region of the installation, or not any more.
        """
        found = next((place for place in self.places if place.region == (region or self.settings.region)), None)
        if found is None:
            raise Unavailable(
                f"{region} is no region of this installation, and something in it is asked for.",
                code="region_not_configured",
                remedy="Name it in the template's FurtherRegions until the last job in it has ended.",
            )
        return found

    def job_folder(self, job: JobRecord) -> str:
        """Where a job's config, checkpoints and results lie: all of it in the region that it runs in.

        Raises:
            Unavailable: as `place`.
        """
        return layout.job_uri(self.place(job.region).artifacts_bucket, job.tenant, job.id)


_installed: list[Installation] = []


def installation() -> Installation:
    """The installation of this process: the one that was set, else by the environment, at first use."""
    if not _installed:
        _installed.append(_from_environment())
    return _installed[0]


def install(here: Installation) -> None:
    """Set this process's installation: in-process use without AWS."""
    _installed[:] = [here]


def _from_environment() -> Installation:
    # Imported late: boto3 costs a cold start 0.1 s that a request without AWS calls need not pay.
    from spotune.aws.clients import client
    from spotune.aws.market import MarketSources
    from spotune.aws.metrics import EmbeddedMetrics
    from spotune.aws.model_registry import SageMakerRegistry
    from spotune.aws.objects import Objects
    from spotune.aws.queue import Queue
    from spotune.aws.training_jobs import TrainingJobs
    from spotune.store.dynamo import DynamoStore

    settings = Settings.from_environment(os.environ)
    further = tuple(_place(settings, region) for region in settings.further_regions)
    regions = {
        bucket: place.region
        for place in further
        for bucket in (place.data_bucket, place.artifacts_bucket, place.models_bucket)
    }
    return Installation(
        settings=settings,
        store=DynamoStore(settings.table, client("dynamodb"), hasty=partial(client, "dynamodb", hasty=True)),
        objects=Objects(regions=regions),
        training_jobs=TrainingJobs(),
        queue=Queue(settings.queue_url),
        market=MarketSources(settings.region, settings.advisor_url),
        metrics=EmbeddedMetrics(settings.stage, time.time),
        outlets=_outlets(os.environ),
        model_registry=SageMakerRegistry(settings.stage),
        further=further,
        edge=_edge(os.environ),
    )


def _place(settings: Settings, region: str) -> Place:
    """A further region as `infra/region.yaml` makes it, with the home's image under its own registry."""
    from spotune.aws.market import MarketSources
    from spotune.aws.training_jobs import TrainingJobs

    return Place(
        region=region,
        data_bucket=layout.region_bucket(settings.bucket_prefix, region, "data"),
        artifacts_bucket=layout.region_bucket(settings.bucket_prefix, region, "jobs"),
        models_bucket=layout.region_bucket(settings.bucket_prefix, region, "models"),
        training_image=settings.training_image.replace(f".ecr.{settings.region}.", f".ecr.{region}."),
        training_jobs=TrainingJobs(region=region),
        market=MarketSources(region, settings.advisor_url),
    )


def _outlets(environment: Mapping[str, str]) -> Outlets:
    """Each function has the settings of those outlets that it uses."""
    from spotune.aws.deliveries import Deliveries
    from spotune.aws.secrets import Secret
    from spotune.aws.topic import Topic
    from spotune.aws.webhooks import Webhooks

    return Outlets(
        deliveries=Deliveries(environment.get("SPOTUNE_DELIVERY_QUEUE_URL", "")),
        topic=Topic(environment.get("SPOTUNE_TOPIC_ARN", "")),
        webhooks=Webhooks(parse_networks(environment.get("SPOTUNE_WEBHOOK_NETWORKS", ""))),
        secret=Secret(environment.get("SPOTUNE_SIGNING_SECRET_ARN", "")),
    )


def _edge(environment: Mapping[str, str]) -> RotatedSecretSource | None:
    from spotune.aws.secrets import RotatedSecret

    arn = environment.get("SPOTUNE_EDGE_SECRET_ARN", "")
    return RotatedSecret(arn) if arn else None
