"""What the service needs of AWS. `objects`, `training_jobs` and `queue` keep it by boto3, `memory` in a dict."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from spotune.contracts.base import MicroUSD, Seconds, Timestamp
from spotune.contracts.events import TrainingObserved
from spotune.contracts.market import Quotas
from spotune.contracts.measures import Measurement
from spotune.contracts.request import Market

RefusalReason = Literal["quota", "capacity", "invalid", "not_permitted"]


class AwsRefused(Exception):
    """AWS answered no, and asking again will not change it. `code` is AWS's own."""

    def __init__(self, code: str, message: str, *, status: int = 0) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status


class ObjectMissing(Exception):
    """There is no such object or upload, or its bucket does not show it to us."""

    def __init__(self, uri: str, reason: str = "missing") -> None:
        super().__init__(f"{uri}: {reason}")
        self.uri = uri
        self.reason = reason


class SourceChanged(Exception):
    """An object is not any more the one that was to be copied: it was replaced or deleted meanwhile."""

    def __init__(self, uri: str) -> None:
        super().__init__(f"{uri} changed while it was copied")
        self.uri = uri


class NameTaken(Exception):
    """A training job has this name already: an earlier request of ours came through. Describe and adopt it."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class TrainingJobRefused(Exception):
    """SageMaker would not take the training job; nothing runs under its name."""

    def __init__(self, reason: RefusalReason, message: str) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason: RefusalReason = reason
        self.message = message


class WebhookRefused(Exception):
    """A webhook leads to where nothing is ever sent. The words say where and why."""


class NoAnswer(Exception):
    """A webhook could not be looked up, connected to, or gave no HTTP answer in time. The words say which."""


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One object. `etag` is unquoted; `modified` is in seconds since the epoch."""

    uri: str
    bytes: int
    etag: str
    modified: Timestamp
    version_id: str = ""
    """Empty where the bucket keeps no versions; of what `list` yields always."""


@dataclass(frozen=True, slots=True)
class ObjectVersion:
    """One version of a key, as a bucket's history has it."""

    info: ObjectInfo
    latest: bool
    """What the key shows now."""
    deleted: bool = False
    """A delete marker: since then the key shows nothing."""


@dataclass(frozen=True, slots=True)
class UploadedPart:
    """A part of a multipart upload that S3 has."""

    number: int
    bytes: int
    etag: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingJobSpec:
    """One attempt: all that CreateTrainingJob needs. URIs of folders end with a slash.

    On spot, `instance_types` holds one type, and `max_wait` bounds waiting and training together. On demand it holds
    one to five in order of preference.
    """

    name: str
    stage: str
    """Which installation of the account starts it."""
    job_id: str
    tenant: str
    attempt: int
    role_arn: str
    image: str
    market: Market
    instance_types: tuple[str, ...]
    instance_count: int
    volume_gb: int
    max_runtime: Seconds
    max_wait: Seconds
    config_uri: str
    training_uri: str
    validation_uri: str | None
    model_uri: str
    champion_uri: str | None
    golden_uri: str | None
    checkpoints_uri: str
    output_uri: str
    environment: Mapping[str, str]
    """Visible to whoever may describe the job: nothing secret."""
    network_isolation: bool = True
    subnets: tuple[str, ...] = ()
    """That its instances lie in; none for SageMaker's own network."""
    security_groups: tuple[str, ...] = ()
    kms_key: str = ""
    """ARN of the key of its output; empty for AWS's own."""
    volume_kms_key: str = ""
    """The same of its volumes; empty also for types with local storage, which have none."""


class ObjectStore(Protocol):
    """S3. Every method raises `Unavailable` where S3 does not answer and `AwsRefused` where it refuses otherwise."""

    def read(self, uri: str) -> bytes:
        """A whole object.

        Raises:
            ObjectMissing: there is none, or we may not see it.
        """

    def stream(self, uri: str, *, version_id: str = "", etag: str = "") -> Iterator[bytes]:
        """An object in chunks, in constant memory. Raises `ObjectMissing` before the first chunk.

        Args:
            version_id: this version, though the key may show another one now or none.
            etag: only where the object is the one with this ETag.
        """

    def head(self, uri: str, *, version_id: str = "") -> ObjectInfo | None:
        """What is known of an object, or of one version, without reading it; None where there is none, or we may not
        see it."""

    def write(self, uri: str, body: bytes) -> None:
        """Write or replace an object. Raises `ObjectMissing` where the bucket is."""

    def copy(self, source_uri: str, target_uri: str) -> None:
        """Write or replace an object with what another holds, of any size, without its bytes passing through here.

        Raises:
            ObjectMissing: there is no such source, it changed meanwhile, or the target's bucket is missing.
        """

    def write_new(self, uri: str, body: bytes) -> bool:
        """Write an object where there is none; False where there is one, which stays. Raises as `write`."""

    def carry(self, source: ObjectInfo, target_uri: str, more_time: Callable[[], bool]) -> bool:
        """Copy one version of an object to another region, in parts where it is large, a slice of time after the other.

        The parts that an earlier call has copied are not copied again, so the target must stand for this very version
        of the source.

        Args:
            source: as it was seen; another version is not copied.
            more_time: asked before it begins, and before each part.

        Returns:
            True where the whole copy is there and has the source's size; False where time was up: call again.

        Raises:
            SourceChanged: the source is another one by now, or gone.
            ObjectMissing: a bucket is not there.
            Unavailable: as everywhere, or the copy came out different.
        """

    def list(self, prefix_uri: str) -> Iterator[ObjectInfo]:
        """Every object whose key begins so, in the order of keys. Raises `ObjectMissing` where the bucket is."""

    def versions(self, prefix_uri: str, *, after: str = "") -> Iterator[ObjectVersion]:
        """Every version of every object whose key begins so, in the order of keys, the latest of a key first. In a
        bucket that keeps none, the objects as they are. Raises `ObjectMissing` where the bucket is.

        Args:
            after: only keys after the one of this URI.
        """

    def write_stream(self, uri: str, chunks: Iterable[bytes]) -> None:
        """Write or replace an object in constant memory; nothing of it is seen before all of it is there.

        Raises:
            ObjectMissing: the bucket is not there.
        """

    def delete(self, uri: str) -> None:
        """Delete an object; what is not there stays so."""

    def mark(self, uri: str, key: str, value: str) -> None:
        """Put this tag on an object, in the place of those that it has. Raises `ObjectMissing`."""

    def start_upload(self, uri: str) -> str:
        """Begin a multipart upload; its id."""

    def presign_part(self, uri: str, upload_id: str, number: int, expires_in: Seconds) -> str:
        """A URL to which anybody can PUT this part's bytes, without further headers, for so many seconds."""

    def presign_read(self, uri: str, expires_in: Seconds, *, version_id: str = "") -> str:
        """A URL that anybody can GET this object from, whole or a range of it, for so many seconds."""

    def uploaded_parts(self, uri: str, upload_id: str) -> tuple[UploadedPart, ...]:
        """The parts that have arrived, by number. Raises `ObjectMissing` where the upload is completed or aborted."""

    def complete_upload(self, uri: str, upload_id: str) -> None:
        """Make the object of the parts that have arrived; a second time does nothing.

        Raises:
            ObjectMissing: a part is missing between those that have arrived, or there is neither upload nor object.
        """

    def abort_upload(self, uri: str, upload_id: str) -> None:
        """Drop an upload and its parts; a second time does nothing."""


class TrainingJobService(Protocol):
    """SageMaker's training jobs. Every method raises `Unavailable` where SageMaker does not answer."""

    def create(self, spec: TrainingJobSpec) -> None:
        """Start one.

        Raises:
            NameTaken: one of this name exists.
            TrainingJobRefused: SageMaker refuses; the reason is typed.
        """

    def describe(self, name: str) -> TrainingObserved | None:
        """How one stands; `report` and `output_uri` are left to the service. None where there is none."""

    def in_progress(self) -> Iterator[str]:
        """Names of those in progress that are called as ours are; other installations' may be among them."""

    def stage_of(self, name: str) -> str | None:
        """The stage of the installation that started it; None where it does not say, or is gone."""

    def stop(self, name: str) -> None:
        """Ask one to stop; nothing happens to one that has ended or never was."""


class MessageQueue(Protocol):
    """A queue. Raises `Unavailable` where it does not answer."""

    def send(self, body: Mapping[str, object]) -> None:
        """Send one message, as JSON."""


class MetricSink(Protocol):
    """Where measurements go. It never raises and never waits: work does not fail for being measured."""

    def send(self, measurements: Iterable[Measurement]) -> None:
        """Send them, with job, tenant and attempt of the present work as properties."""


class NotificationTopic(Protocol):
    """The SNS topic. Raises `Unavailable` where it does not answer and `AwsRefused` where it refuses."""

    def publish(self, body: str, attributes: Mapping[str, str]) -> None:
        """Publish one message; subscriptions can filter by its attributes."""


class DeliveryQueue(Protocol):
    """The queue of deliveries. Raises `Unavailable` where it does not answer and `AwsRefused` where it refuses."""

    def send(self, body: Mapping[str, object], tenant: str) -> None:
        """Send one message, as JSON. One tenant's many do not hold back another's."""

    def postpone(self, receipt: str, seconds: Seconds) -> None:
        """Let a message that was received come again after so many seconds, 12 hours at most."""


class SecretSource(Protocol):
    """The installation's secret. Raises `Unavailable` and `AwsRefused`."""

    def value(self) -> bytes:
        """The secret; the same as long as the installation lives."""


class RotatedSecretSource(Protocol):
    """A secret that is changed now and then. Raises `Unavailable` and `AwsRefused`."""

    def values(self) -> tuple[bytes, ...]:
        """All that count: the current one first, and the one before it, as long as that is kept."""


class WebhookSender(Protocol):
    """What posts to webhooks, and to nothing that is not public unless the installation opens it."""

    def check(self, url: str) -> None:
        """Refuse what nothing would ever be sent to, as far as it is known now.

        Raises:
            RequestRefused: the URL itself.
            WebhookRefused: an address that it leads to.
            NoAnswer: its name cannot be looked up.
        """

    def post(self, url: str, headers: Mapping[str, str], body: bytes) -> int:
        """Post once, without following redirects; the answer's status.

        Raises:
            RequestRefused, WebhookRefused: as `check`; nothing was sent.
            NoAnswer: there was none; what was sent may have arrived.
        """


class MarketSource(Protocol):
    """What AWS says of prices and quotas in one region, by SageMaker's names of the types, in micro-dollars an hour.

    Every method raises `Unavailable` where the service does not answer and `AwsRefused` where it refuses.
    """

    def sagemaker_prices(self, types: Sequence[str]) -> dict[str, MicroUSD]:
        """On-demand prices of training."""

    def ec2_prices(self, types: Sequence[str]) -> dict[str, MicroUSD]:
        """On-demand prices of the same machines at EC2."""

    def spot_prices(self, types: Sequence[str]) -> dict[str, MicroUSD]:
        """EC2's spot prices now."""

    def advisor(self) -> dict[str, tuple[int, int]]:
        """The Spot Instance Advisor: savings in per cent of on-demand, and the interruption bucket 0..4."""

    def placement_scores(self, groups: Iterable[Sequence[str]]) -> dict[str, int]:
        """How likely EC2 is to meet a spot request for one of a group's types, 1 to 10."""

    def quotas(self, types: Sequence[str]) -> dict[str, Quotas]:
        """Instances that the account may train on at a time."""
