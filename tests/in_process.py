"""An installation in this process, and a client that speaks to its API by HTTP API events."""

from __future__ import annotations

import base64
import json
from collections.abc import Container
from dataclasses import dataclass, field
from typing import Any

import handlers.api
from spotune.aws.memory import (
    MemoryDeliveries,
    MemoryMarket,
    MemoryMetrics,
    MemoryQueue,
    MemorySecret,
    MemoryTopic,
    MemoryTrainingJobs,
    MemoryWebhooks,
)
from spotune.aws.memory_models import MemoryModelRegistry
from spotune.aws.memory_objects import MemoryObjects
from spotune.contracts import layout
from spotune.contracts.base import MICRO
from spotune.contracts.sources import SourceGrant
from spotune.service.access.keys import issue_key
from spotune.service.installation import Installation, Outlets, Place, Settings
from spotune.service.work import run as run_message
from spotune.store.memory import MemoryStore
from tests import tiny_model
from tests.factories import NOW


class Clock:
    """Time that moves when told."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@dataclass(frozen=True)
class World:
    """An installation with its twins at hand."""

    here: Installation
    store: MemoryStore
    objects: MemoryObjects
    training_jobs: MemoryTrainingJobs
    queue: MemoryQueue
    market: MemoryMarket
    metrics: MemoryMetrics
    clock: Clock
    deliveries: MemoryDeliveries
    topic: MemoryTopic
    webhooks: MemoryWebhooks
    registry: MemoryModelRegistry
    elsewhere: dict[str, MemoryTrainingJobs] = field(default_factory=dict)
    """SageMaker in each further region."""

    def run_queue(self) -> int:
        """Deliver what is on the queue, and what that puts there; how many messages it was."""
        delivered = 0
        while messages := self.queue.take():
            for message in messages:
                run_message(self.here, message)
                delivered += 1
        return delivered


def world(
    monthly_limit_usd: float = 1000,
    default_budget_usd: float = 20,
    *,
    jobs: int = 1000,
    jobs_per_tenant: int = 1000,
    further_regions: tuple[str, ...] = (),
    versionless: Container[str] = (),
    sources: tuple[SourceGrant, ...] = (),
    network_isolation: bool = True,
) -> World:
    """A fresh installation with the tiny base model in it."""
    settings = Settings(
        stage="test",
        table="table",
        data_bucket="data",
        artifacts_bucket="artifacts",
        models_bucket="models",
        mirror_bucket="models",
        queue_url="queue",
        training_role="arn:aws:iam::123456789012:role/training",
        training_image="123456789012.dkr.ecr.us-east-1.amazonaws.com/spotune:1",
        monthly_limit=round(monthly_limit_usd * MICRO),
        default_budget=round(default_budget_usd * MICRO),
        jobs=jobs,
        jobs_per_tenant=jobs_per_tenant,
        sources=sources,
        network_isolation=network_isolation,
    )
    clock = Clock()
    store, objects, queue = MemoryStore(), MemoryObjects(clock, versionless), MemoryQueue()
    training_jobs = MemoryTrainingJobs()
    market, metrics = MemoryMarket(), MemoryMetrics()
    deliveries, topic, webhooks = MemoryDeliveries(), MemoryTopic(), MemoryWebhooks()
    registry = MemoryModelRegistry()
    outlets = Outlets(deliveries, topic, webhooks, MemorySecret())
    elsewhere = {region: MemoryTrainingJobs() for region in further_regions}
    further = tuple(_place(region, jobs) for region, jobs in elsewhere.items())
    here = Installation(
        settings, store, objects, training_jobs, queue, market, metrics, outlets, registry, clock, further
    )
    folder = layout.base_model_uri("models", tiny_model.NAME)
    for name, body in tiny_model.files().items():
        objects.write(folder + name, body)
    told = (deliveries, topic, webhooks, registry)
    return World(here, store, objects, training_jobs, queue, market, metrics, clock, *told, elsewhere)


def _place(region: str, training_jobs: MemoryTrainingJobs) -> Place:
    return Place(
        region=region,
        data_bucket=f"{region}-data",
        artifacts_bucket=f"{region}-jobs",
        models_bucket=f"{region}-models",
        training_image=f"123456789012.dkr.ecr.{region}.amazonaws.com/spotune:1",
        training_jobs=training_jobs,
        market=MemoryMarket(),
    )


@dataclass(frozen=True)
class Answer:
    """A response of the API."""

    status: int
    raw: str
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def body(self) -> Any:
        return json.loads(self.raw, parse_constant=_refuse)

    @property
    def error(self) -> dict[str, Any]:
        return dict(self.body["error"])


@dataclass(frozen=True)
class Client:
    """One tenant's way to the API."""

    key: str | None

    def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        raw: bytes | None = None,
        query: str = "",
        **headers: str,
    ) -> Answer:
        """Send one request; `body` goes as JSON, `raw` as it is."""
        sent = {
            "content-type": "application/json",
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        if self.key is not None:
            sent["authorization"] = f"Bearer {self.key}"
        event = http_event(method, path, query, sent, raw if raw is not None else _json(body))
        return answer_to(event)

    def upload(self, body: bytes, filename: str = "train.jsonl") -> str:
        """Upload a small file; its id."""
        answer = self.call("POST", "/v1/files", raw=form(body, filename), content_type=FORM)
        assert answer.status == 200, answer.raw
        return str(answer.body["id"])


def answer_to(event: dict[str, Any]) -> Answer:
    """What the API answers to an event."""
    response = handlers.api.handler(event, Context())
    return Answer(response["statusCode"], response["body"], {k.lower(): v for k, v in response["headers"].items()})


FORM = "multipart/form-data; boundary=xyzzy"


def form(body: bytes, filename: str, purpose: str = "fine-tune") -> bytes:
    """A file upload as OpenAI's SDK sends it."""
    return b"".join(
        [
            b'--xyzzy\r\nContent-Disposition: form-data; name="purpose"\r\n\r\n',
            purpose.encode(),
            b'\r\n--xyzzy\r\nContent-Disposition: form-data; name="file"; filename="',
            filename.encode(),
            b'"\r\nContent-Type: application/octet-stream\r\n\r\n',
            body,
            b"\r\n--xyzzy--\r\n",
        ]
    )


def client_of(here: Installation, tenant: str) -> Client:
    """A client with a fresh key of this tenant."""
    return Client(issue_key(here, tenant, "test"))


class Context:
    """What Lambda tells a function of itself."""

    function_name = "api"
    memory_limit_in_mb = 512
    invoked_function_arn = "arn:aws:lambda:us-east-1:123456789012:function:api"
    aws_request_id = "request-1"

    def get_remaining_time_in_millis(self) -> int:
        return 29_000


def http_event(method: str, path: str, query: str, headers: dict[str, str], body: bytes) -> dict[str, Any]:
    """API Gateway's payload 2.0: binary bodies come as base64."""
    pairs = dict(pair.partition("=")[::2] for pair in query.split("&") if pair)
    return {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": query,
        "headers": headers,
        "queryStringParameters": pairs or None,
        "requestContext": {
            "accountId": "123456789012",
            "apiId": "api",
            "domainName": "api.execute-api.us-east-1.amazonaws.com",
            "http": {"method": method, "path": path, "protocol": "HTTP/1.1", "sourceIp": "127.0.0.1", "userAgent": "t"},
            "requestId": "request-1",
            "stage": "$default",
            "time": "01/Jan/2026:00:00:00 +0000",
            "timeEpoch": 1_767_225_600_000,
        },
        "body": base64.b64encode(body).decode() if body else None,
        "isBase64Encoded": bool(body),
    }


def sqs_record(message_id: str, body: str) -> dict[str, Any]:
    """One message as Lambda hands it over."""
    return {
        "messageId": message_id,
        "receiptHandle": "handle",
        "body": body,
        "attributes": {"ApproximateReceiveCount": "1"},
        "messageAttributes": {},
        "md5OfBody": "",
        "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:us-east-1:123456789012:launch",
        "awsRegion": "us-east-1",
    }


def _refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")


def _json(body: object) -> bytes:
    return b"" if body is None else json.dumps(body).encode()
