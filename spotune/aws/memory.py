"""AWS in a dict, for unit tests and the fault suite. Same answers, same errors, nothing leaves the process."""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from spotune.aws.base import (
    NameTaken,
    TrainingJobSpec,
    WebhookRefused,
)
from spotune.contracts.addresses import parse_target
from spotune.contracts.base import MicroUSD, Seconds
from spotune.contracts.errors import Unavailable
from spotune.contracts.events import TrainingObserved
from spotune.contracts.market import Quotas
from spotune.contracts.measures import Measurement


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
        return self.specs[name].stage if name in self.specs else None

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


class MemoryRotatedSecret:
    """Fulfils `RotatedSecretSource`. `put` is a rotation."""

    def __init__(self, value: bytes) -> None:
        self._values: tuple[bytes, ...] = (value,)

    def put(self, value: bytes) -> None:
        """The value from here on; the one before it goes on counting."""
        self._values = (value, self._values[0])

    def values(self) -> tuple[bytes, ...]:
        """See `RotatedSecretSource`."""
        return self._values


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
