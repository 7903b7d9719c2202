"""AWS in a dict, for unit tests and the fault suite. Same answers, same errors, nothing leaves the process."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import count
from typing import Any

from spotune.aws.base import (
    STAGE_VARIABLE,
    NameTaken,
    ObjectInfo,
    ObjectMissing,
    SourceChanged,
    TrainingJobSpec,
    UploadedPart,
    WebhookRefused,
    check_parts,
    copied_parts,
)
from spotune.contracts.addresses import parse_target
from spotune.contracts.base import MicroUSD, Seconds, Timestamp
from spotune.contracts.errors import Unavailable
from spotune.contracts.events import TrainingObserved
from spotune.contracts.layout import split_uri
from spotune.contracts.market import Quotas
from spotune.contracts.measures import Measurement

CHUNK_BYTES = 64 * 1024

Clock = Callable[[], Timestamp]


class MemoryObjects:
    """Fulfils `ObjectStore`. Any bucket exists. `put_part` stands for a client's PUT to a presigned URL.

    `copied_bytes` counts what copies moved; `before_part` is called with the source before each of their parts.
    """

    copy_part_bytes = 64 * 1024

    def __init__(self, clock: Clock = time.time) -> None:
        self._clock = clock
        self._lock = threading.RLock()
        self._bodies: dict[str, bytes] = {}
        self._infos: dict[str, ObjectInfo] = {}
        self._uploads: dict[tuple[str, str], dict[int, bytes]] = {}
        self._numbers = count(1)
        self._copying: dict[tuple[str, str], dict[int, bytes]] = {}
        self.copied_bytes = 0
        self.before_part: Callable[[ObjectInfo], None] = lambda source: None

    def read(self, uri: str) -> bytes:
        """See `ObjectStore`."""
        with self._lock:
            if _checked(uri) not in self._bodies:
                raise ObjectMissing(uri)
            return self._bodies[uri]

    def stream(self, uri: str) -> Iterator[bytes]:
        """See `ObjectStore`."""
        body = self.read(uri)
        return (body[start : start + CHUNK_BYTES] for start in range(0, len(body), CHUNK_BYTES))

    def head(self, uri: str) -> ObjectInfo | None:
        """See `ObjectStore`."""
        with self._lock:
            return self._infos.get(_checked(uri))

    def write(self, uri: str, body: bytes) -> None:
        """See `ObjectStore`."""
        info = ObjectInfo(_checked(uri), len(body), _etag(body), self._clock())
        with self._lock:
            self._bodies[uri] = body
            self._infos[uri] = info

    def copy(self, source_uri: str, target_uri: str) -> None:
        """See `ObjectStore`."""
        with self._lock:
            self.write(target_uri, self.read(source_uri))

    def write_new(self, uri: str, body: bytes) -> bool:
        """See `ObjectStore`."""
        with self._lock:
            if _checked(uri) in self._infos:
                return False
            self.write(uri, body)
            return True

    def carry(self, source: ObjectInfo, target_uri: str, more_time: Callable[[], bool]) -> bool:
        """See `ObjectStore`."""
        if not more_time():
            return False
        parts = self._copying.setdefault((target_uri, source.etag), {})
        for number, (first, last) in copied_parts(source.bytes, self.copy_part_bytes).items():
            if number in parts:
                continue
            if not more_time():
                return False
            self.before_part(source)
            with self._lock:
                now = self._infos.get(source.uri)
                if now is None or now.etag != source.etag:
                    raise SourceChanged(source.uri)
                parts[number] = self._bodies[source.uri][first : last + 1]
                self.copied_bytes += last + 1 - first
        self.write(target_uri, b"".join(body for _, body in sorted(parts.items())))
        del self._copying[target_uri, source.etag]
        return True

    def list(self, prefix_uri: str) -> Iterator[ObjectInfo]:
        """See `ObjectStore`."""
        _checked(prefix_uri)
        with self._lock:
            found = [self._infos[uri] for uri in sorted(self._infos) if uri.startswith(prefix_uri)]
        yield from found

    def delete(self, uri: str) -> None:
        """See `ObjectStore`."""
        with self._lock:
            self._bodies.pop(_checked(uri), None)
            self._infos.pop(uri, None)

    def start_upload(self, uri: str) -> str:
        """See `ObjectStore`."""
        with self._lock:
            upload_id = f"upload-{next(self._numbers)}"
            self._uploads[_checked(uri), upload_id] = {}
        return upload_id

    def presign_part(self, uri: str, upload_id: str, number: int, expires_in: Seconds) -> str:
        """See `ObjectStore`; the URL names the part and leads nowhere."""
        return f"memory://{_checked(uri)[5:]}?uploadId={upload_id}&partNumber={number}&expires={expires_in}"

    def put_part(self, uri: str, upload_id: str, number: int, body: bytes) -> None:
        """What a PUT to the presigned URL does. Raises `ObjectMissing` where there is no such upload."""
        with self._lock:
            self._parts(uri, upload_id)[number] = body

    def uploaded_parts(self, uri: str, upload_id: str) -> tuple[UploadedPart, ...]:
        """See `ObjectStore`."""
        with self._lock:
            parts = sorted(self._parts(uri, upload_id).items())
        return tuple(UploadedPart(number, len(body), _etag(body)) for number, body in parts)

    def complete_upload(self, uri: str, upload_id: str) -> None:
        """See `ObjectStore`."""
        with self._lock:
            if (uri, upload_id) not in self._uploads and uri in self._infos:
                return
            parts = self._parts(uri, upload_id)
            check_parts(uri, self.uploaded_parts(uri, upload_id))
            self.write(uri, b"".join(body for _, body in sorted(parts.items())))
            del self._uploads[uri, upload_id]

    def abort_upload(self, uri: str, upload_id: str) -> None:
        """See `ObjectStore`."""
        with self._lock:
            self._uploads.pop((uri, upload_id), None)

    def _parts(self, uri: str, upload_id: str) -> dict[int, bytes]:
        if (uri, upload_id) not in self._uploads:
            raise ObjectMissing(uri, f"no upload {upload_id}")
        return self._uploads[uri, upload_id]


class MemoryTrainingJobs:
    """Fulfils `TrainingJobService`. What it answers is scripted; what it was asked is kept.

    `specs` and `stopped` record the requests that came through. `answers` holds, for the next calls of `create`, what
    to raise before anything is recorded; None takes the job. `observe` sets what `describe` says of a job.
    `lose_answer_of_next_create` lets the next job start and tells its caller nothing.
    """

    def __init__(self, answers: tuple[Exception | None, ...] = ()) -> None:
        self.specs: dict[str, TrainingJobSpec] = {}
        self.stopped: list[str] = []
        self.answers = deque(answers)
        self._lock = threading.RLock()
        self._observed: dict[str, TrainingObserved] = {}
        self._loses_answer = False

    def create(self, spec: TrainingJobSpec) -> None:
        """See `TrainingJobService`."""
        with self._lock:
            answer = self.answers.popleft() if self.answers else None
            if answer is not None:
                raise answer
            if spec.name in self.specs:
                raise NameTaken(spec.name)
            self.specs[spec.name] = spec
            self._observed[spec.name] = TrainingObserved(
                name=spec.name, status="InProgress", secondary_status="Starting"
            )
            if self._loses_answer:
                self._loses_answer = False
                raise Unavailable("the answer was lost.", code="aws_unavailable")

    def describe(self, name: str) -> TrainingObserved | None:
        """See `TrainingJobService`."""
        with self._lock:
            return self._observed.get(name)

    def in_progress(self) -> Iterator[str]:
        """See `TrainingJobService`."""
        with self._lock:
            names = [name for name, seen in self._observed.items() if seen.status == "InProgress"]
        return iter(names)

    def stage_of(self, name: str) -> str | None:
        """See `TrainingJobService`."""
        return self.specs[name].environment.get(STAGE_VARIABLE) if name in self.specs else None

    def stop(self, name: str) -> None:
        """See `TrainingJobService`; a running one is `Stopping` until `observe` says otherwise."""
        with self._lock:
            observed = self._observed.get(name)
            if observed is None or observed.status != "InProgress":
                return
            self.stopped.append(name)
            self._observed[name] = observed.with_(status="Stopping", secondary_status="Stopping")

    def lose_answer_of_next_create(self) -> None:
        """The next job is taken, but `create` raises `Unavailable`."""
        self._loses_answer = True

    def observe(self, name: str, **changes: object) -> TrainingObserved:
        """Change what `describe` says of a job, field by field of `TrainingObserved`; the new description."""
        with self._lock:
            self._observed[name] = self._observed[name].with_(**changes)
            return self._observed[name]


class MemoryQueue:
    """Fulfils `MessageQueue`. `messages` holds what was sent and not taken, oldest first."""

    def __init__(self) -> None:
        self.messages: deque[dict[str, object]] = deque()

    def send(self, body: Mapping[str, object]) -> None:
        """See `MessageQueue`."""
        self.messages.append(json.loads(json.dumps(body)))

    def take(self) -> list[dict[str, object]]:
        """All messages, taken off the queue."""
        return [self.messages.popleft() for _ in range(len(self.messages))]


class MemoryMetrics:
    """Fulfils `MetricSink`. `sent` holds every measurement, in order."""

    def __init__(self) -> None:
        self.sent: list[Measurement] = []

    def send(self, measurements: Iterable[Measurement]) -> None:
        """See `MetricSink`."""
        self.sent += measurements


class MemoryDeliveries:
    """Fulfils `DeliveryQueue`. `messages` holds what was sent, oldest first; `postponed` what was put off."""

    def __init__(self) -> None:
        self.messages: deque[dict[str, object]] = deque()
        self.postponed: list[tuple[str, Seconds]] = []

    def send(self, body: Mapping[str, object], tenant: str) -> None:
        """See `DeliveryQueue`."""
        self.messages.append(json.loads(json.dumps(body)))

    def postpone(self, receipt: str, seconds: Seconds) -> None:
        """See `DeliveryQueue`."""
        self.postponed.append((receipt, seconds))


class MemoryTopic:
    """Fulfils `NotificationTopic`. `published` holds each message with its attributes."""

    def __init__(self) -> None:
        self.published: list[tuple[str, dict[str, str]]] = []

    def publish(self, body: str, attributes: Mapping[str, str]) -> None:
        """See `NotificationTopic`."""
        self.published.append((body, dict(attributes)))


class MemorySecret:
    """Fulfils `SecretSource`."""

    def value(self) -> bytes:
        """See `SecretSource`."""
        return b"a secret of this process alone"


class MemoryWebhooks:
    """Fulfils `WebhookSender`. `posted` holds what was sent; `answers` the next statuses, or what to raise; then 200.

    Names whose last label is `internal` are refused.
    """

    def __init__(self) -> None:
        self.posted: list[tuple[str, dict[str, str], bytes]] = []
        self.answers: deque[int | Exception] = deque()

    def check(self, url: str) -> None:
        """See `WebhookSender`."""
        if parse_target(url).host.endswith(".internal"):
            raise WebhookRefused(f"{url} leads to 10.0.0.1, which is private")

    def post(self, url: str, headers: Mapping[str, str], body: bytes) -> int:
        """See `WebhookSender`."""
        self.check(url)
        self.posted.append((url, dict(headers), body))
        answer = self.answers.popleft() if self.answers else 200
        if isinstance(answer, Exception):
            raise answer
        return answer


def _checked(uri: str) -> str:
    split_uri(uri)
    return uri


def _etag(body: bytes) -> str:
    return hashlib.md5(body, usedforsecurity=False).hexdigest()


class MemoryMarket:
    """Fulfils `MarketSource`. `values` holds what each source answers, or raises; nothing where it is not named."""

    def __init__(self, **values: object) -> None:
        self.values = values

    def sagemaker_prices(self, types: Sequence[str]) -> dict[str, MicroUSD]:
        """See `MarketSource`."""
        answer: dict[str, MicroUSD] = self._answer("sagemaker_prices")
        return answer

    def ec2_prices(self, types: Sequence[str]) -> dict[str, MicroUSD]:
        """See `MarketSource`."""
        answer: dict[str, MicroUSD] = self._answer("ec2_prices")
        return answer

    def spot_prices(self, types: Sequence[str]) -> dict[str, MicroUSD]:
        """See `MarketSource`."""
        answer: dict[str, MicroUSD] = self._answer("spot_prices")
        return answer

    def advisor(self) -> dict[str, tuple[int, int]]:
        """See `MarketSource`."""
        answer: dict[str, tuple[int, int]] = self._answer("advisor")
        return answer

    def placement_scores(self, groups: Iterable[Sequence[str]]) -> dict[str, int]:
        """See `MarketSource`."""
        answer: dict[str, int] = self._answer("placement_scores")
        return answer

    def quotas(self, types: Sequence[str]) -> dict[str, Quotas]:
        """See `MarketSource`."""
        answer: dict[str, Quotas] = self._answer("quotas")
        return answer

    def _answer(self, name: str) -> Any:
        answer = self.values.get(name, {})
        if isinstance(answer, Exception):
            raise answer
        return answer
