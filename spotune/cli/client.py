"""A typed client of Spotune's API. Its errors are the tree of `contracts.errors`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar
from uuid import uuid4

import httpx
from pydantic import ValidationError

from spotune.cli.connection import CHECK_ADDRESS, Connection
from spotune.contracts.api import (
    AccuracyObject,
    BudgetObject,
    CheckpointObject,
    EventObject,
    FileObject,
    JobObject,
    KeyObject,
    KeyRequest,
    ListObject,
    ModelObject,
    NewKeyObject,
    PlanObject,
    UploadObject,
)
from spotune.contracts.audit import AuditObject
from spotune.contracts.base import Contract
from spotune.contracts.diagnosis import Diagnosis
from spotune.contracts.errors import (
    Conflict,
    NotAllowed,
    NotAuthenticated,
    NotFound,
    RequestRefused,
    SpotuneError,
    TooLarge,
    TooManyRequests,
    Unavailable,
)
from spotune.contracts.files import UploadRequest
from spotune.contracts.market import MarketSnapshot
from spotune.contracts.pull import DatasetObject, PinnedObject
from spotune.contracts.quality import JobQuality
from spotune.contracts.request import JobRequest
from spotune.contracts.webhooks import (
    DeletedWebhookObject,
    NewWebhookObject,
    WebhookObject,
    WebhookRequest,
    WebhookTest,
    WebhookTestObject,
)

TIMEOUT = httpx.Timeout(60, connect=5)
RETRY_AFTER = (0.2, 1.0)
"""Seconds before each further try of a call that may be repeated."""

RATE_LIMIT_WAITS = 2
"""Times that a call waits for its key's next minute. What the limit refused was not done, so any call may repeat."""
LONGEST_RATE_LIMIT_WAIT = 60

_ERRORS: Mapping[int, type[SpotuneError]] = {
    HTTPStatus.BAD_REQUEST: RequestRefused,
    HTTPStatus.UNAUTHORIZED: NotAuthenticated,
    HTTPStatus.FORBIDDEN: NotAllowed,
    HTTPStatus.NOT_FOUND: NotFound,
    HTTPStatus.CONFLICT: Conflict,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: TooLarge,
    HTTPStatus.UNPROCESSABLE_ENTITY: RequestRefused,
    HTTPStatus.BAD_GATEWAY: Unavailable,
    HTTPStatus.SERVICE_UNAVAILABLE: Unavailable,
    HTTPStatus.GATEWAY_TIMEOUT: Unavailable,
}
_GATEWAY_ERRORS = (HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT)

Known = TypeVar("Known", bound=Contract)


class Api:
    """One connection to the API.

    Reads, and creations that carry an idempotency key, are tried again where no answer came or a gateway answered;
    anything else is sent once. What the key's rate limit refuses is sent again when the answer says.

    Every method raises the `SpotuneError` that the API answered, or `Unavailable` where none answered.
    """

    def __init__(self, connection: Connection, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self.connection = connection
        self._sleep = sleep
        self._http = httpx.Client(
            base_url=f"{connection.url}/v1/",
            headers={"Authorization": f"Bearer {connection.key}"},
            timeout=TIMEOUT,
            trust_env=connection.stack is None,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def plan(self, request: JobRequest) -> PlanObject:
        """What the request would take; nothing is recorded or started."""
        body = request.model_dump(mode="json", exclude_unset=True, exclude={"dry_run"})
        return read_answer(PlanObject, self._send(self._post("fine_tuning/plans", body), repeat=True))

    def create_job(self, request: JobRequest) -> JobObject:
        """Submit. A reply that is lost does not start a second job."""
        body = request.model_dump(mode="json", exclude_unset=True)
        headers = {"Idempotency-Key": str(uuid4())}
        return read_answer(JobObject, self._send(self._post("fine_tuning/jobs", body, headers), repeat=True))

    def job(self, job_id: str) -> JobObject:
        """One job as it is now."""
        return read_answer(JobObject, self._get(f"fine_tuning/jobs/{job_id}"))

    def jobs(self, *, after: str | None = None, limit: int = 20, status: str | None = None) -> ListObject[JobObject]:
        """A page of jobs, newest first, older than the job `after`; with `status` of those alone that have it."""
        asked = {**_page(after, limit), **({"status": status} if status else {})}
        return read_answer(ListObject[JobObject], self._get("fine_tuning/jobs", asked))

    def cancel(self, job_id: str) -> JobObject:
        """Ask a job to end."""
        return read_answer(JobObject, self._send(self._post(f"fine_tuning/jobs/{job_id}/cancel"), repeat=True))

    def pause(self, job_id: str) -> JobObject:
        """Ask a job to stop where it is."""
        return read_answer(JobObject, self._send(self._post(f"fine_tuning/jobs/{job_id}/pause")))

    def resume(self, job_id: str) -> JobObject:
        """Let a paused job go on."""
        return read_answer(JobObject, self._send(self._post(f"fine_tuning/jobs/{job_id}/resume")))

    def retry(self, job_id: str, changes: Mapping[str, object]) -> JobObject:
        """Do a failed or cancelled job again with these fields changed. The same call again gives the same retry."""
        return read_answer(
            JobObject, self._send(self._post(f"fine_tuning/jobs/{job_id}/retry", dict(changes)), repeat=True)
        )

    def plan_retry(self, job_id: str, changes: Mapping[str, object]) -> PlanObject:
        """What the retry would take; nothing is recorded or started."""
        body = {**changes, "dry_run": True}
        return read_answer(PlanObject, self._send(self._post(f"fine_tuning/jobs/{job_id}/retry", body), repeat=True))

    def create_key(self, request: KeyRequest) -> NewKeyObject:
        """Make an API key; it is in the answer in clear, and nowhere else."""
        return read_answer(NewKeyObject, self._send(self._post("keys", request.model_dump(mode="json"))))

    def keys(self) -> ListObject[KeyObject]:
        """The tenant's API keys, newest first."""
        return read_answer(ListObject[KeyObject], self._get("keys"))

    def revoke_key(self, key_id: str) -> KeyObject:
        """Close an API key."""
        return read_answer(KeyObject, self._send(self._http.build_request("DELETE", f"keys/{key_id}"), repeat=True))

    def audit_log(self, *, after: str | None = None, limit: int = 20) -> ListObject[AuditObject]:
        """A page of the tenant's audit log, newest first, older than the record `after`."""
        return read_answer(ListObject[AuditObject], self._get("audit_log", _page(after, limit)))

    def create_webhook(self, request: WebhookRequest) -> NewWebhookObject:
        """Have events posted to a URL; the signing secret is in the answer, and nowhere else."""
        return read_answer(
            NewWebhookObject, self._send(self._post("webhook_endpoints", request.model_dump(mode="json")))
        )

    def webhooks(self) -> ListObject[WebhookObject]:
        """The tenant's webhook endpoints, newest first."""
        return read_answer(ListObject[WebhookObject], self._get("webhook_endpoints", {"limit": 100}))

    def test_webhook(self, endpoint_id: str, request: WebhookTest) -> WebhookTestObject:
        """Post a sample event to an endpoint."""
        path, body = f"webhook_endpoints/{endpoint_id}/test", request.model_dump(mode="json")
        return read_answer(WebhookTestObject, self._send(self._post(path, body)))

    def rotate_webhook_secret(self, endpoint_id: str, *, keep_old: bool) -> NewWebhookObject:
        """Replace an endpoint's secret."""
        body = {"keep_old_secret_active_for_24_hours": keep_old}
        path = f"webhook_endpoints/{endpoint_id}/rotate_secret"
        return read_answer(NewWebhookObject, self._send(self._post(path, body)))

    def delete_webhook(self, endpoint_id: str) -> DeletedWebhookObject:
        """Forget an endpoint."""
        request = self._http.build_request("DELETE", f"webhook_endpoints/{endpoint_id}")
        return read_answer(DeletedWebhookObject, self._send(request))

    def diagnosis(self, job_id: str) -> Diagnosis:
        """Why the job is where it is."""
        return read_answer(Diagnosis, self._get(f"fine_tuning/jobs/{job_id}/diagnosis"))

    def quality(self, job_id: str) -> JobQuality:
        """The quality of the job's files."""
        return read_answer(JobQuality, self._get(f"fine_tuning/jobs/{job_id}/quality"))

    def events(self, job_id: str) -> Iterator[EventObject]:
        """The job's log, newest first, page by page as it is read."""
        after: str | None = None
        while True:
            answer = self._get(f"fine_tuning/jobs/{job_id}/events", _page(after, 100))
            page = read_answer(ListObject[EventObject], answer)
            yield from page.data
            if not page.has_more or not page.data:
                return
            after = page.data[-1].id

    def checkpoints(self, job_id: str) -> ListObject[CheckpointObject]:
        """The job's checkpoints that verify, newest first."""
        return read_answer(ListObject[CheckpointObject], self._get(f"fine_tuning/jobs/{job_id}/checkpoints"))

    def dataset(self, job_id: str) -> DatasetObject:
        """What the job was trained on, with URLs that end within the hour."""
        return read_answer(DatasetObject, self._get(f"fine_tuning/jobs/{job_id}/dataset"))

    def dataset_objects(self, job_id: str) -> Iterator[PinnedObject]:
        """The objects that the job's dataset can be built from again, page by page."""
        after: str | None = None
        while True:
            answer = self._get(f"fine_tuning/jobs/{job_id}/dataset/objects", _page(after, 1000))
            page = read_answer(ListObject[PinnedObject], answer)
            yield from page.data
            if not page.has_more:
                return
            after = page.last_id

    def models(self) -> ListObject[ModelObject]:
        """The models that this installation can train."""
        return read_answer(ListObject[ModelObject], self._get("models"))

    def market(self, region: str | None = None) -> MarketSnapshot:
        """Prices, interruption rates and quotas that plans are made on, of the home where no region is named."""
        return read_answer(MarketSnapshot, self._get("market", {"region": region} if region else None))

    def accuracy(self, *, after: str | None = None, limit: int = 20) -> AccuracyObject:
        """A page of finished runs against their forecasts, newest first, and the corrections in force."""
        return read_answer(AccuracyObject, self._get("accuracy", _page(after, limit)))

    def budget(self, month: str | None = None, key: str | None = None) -> BudgetObject:
        """The tenant's money in a month."""
        asked = {"month": month, "key": key}
        return read_answer(BudgetObject, self._get("budget", {name: value for name, value in asked.items() if value}))

    def file(self, file_id: str) -> FileObject:
        """One uploaded file."""
        return read_answer(FileObject, self._get(f"files/{file_id}"))

    def send_file(self, path: Path) -> FileObject:
        """Upload a file in one request; only for what one request can carry."""
        with path.open("rb") as stream:
            files = {"file": (path.name, stream, "application/jsonl")}
            request = self._http.build_request("POST", "files", data={"purpose": "fine-tune"}, files=files)
            return read_answer(FileObject, self._send(request))

    def start_upload(self, request: UploadRequest) -> UploadObject:
        """Begin an upload in parts."""
        return read_answer(UploadObject, self._send(self._post("files", request.model_dump(mode="json"))))

    def upload_ticket(self, file_id: str) -> UploadObject:
        """The ticket of an upload that was begun, with fresh URLs and the parts that S3 has."""
        return read_answer(UploadObject, self._get(f"files/{file_id}/upload"))

    def complete_upload(self, file_id: str) -> FileObject:
        """End an upload of which S3 has every part."""
        return read_answer(FileObject, self._send(self._post(f"files/{file_id}/complete"), repeat=True))

    def _get(self, path: str, params: Mapping[str, str | int] | None = None) -> httpx.Response:
        return self._send(self._http.build_request("GET", path, params=params), repeat=True)

    def _post(self, path: str, json: object = None, headers: Mapping[str, str] | None = None) -> httpx.Request:
        return self._http.build_request("POST", path, json=json, headers=headers)

    def _send(self, request: httpx.Request, *, repeat: bool = False) -> httpx.Response:
        pauses = list(RETRY_AFTER) if repeat else []
        waits = RATE_LIMIT_WAITS
        while True:
            try:
                response = self._http.send(request)
            except httpx.TransportError as error:
                if isinstance(error, httpx.ConnectError) or not pauses:
                    raise self._unreachable(error) from error
            else:
                if response.status_code == HTTPStatus.TOO_MANY_REQUESTS and waits:
                    waits -= 1
                    self._sleep(_retry_after(response))
                    continue
                if response.status_code not in _GATEWAY_ERRORS or not pauses:
                    return _checked(response)
            self._sleep(pauses.pop(0))

    def _unreachable(self, error: httpx.TransportError) -> Unavailable:
        remedy = "Start it with `spotune up`." if self.connection.stack else CHECK_ADDRESS
        reason = str(error) or type(error).__name__
        return Unavailable(
            f"The API at {self.connection.url} does not answer ({reason}).", code="api_unreachable", remedy=remedy
        )


def _page(after: str | None, limit: int) -> dict[str, str | int]:
    return {"limit": limit} if after is None else {"limit": limit, "after": after}


def _checked(response: httpx.Response) -> httpx.Response:
    if response.is_success:
        return response
    kind = _ERRORS.get(response.status_code, SpotuneError)
    try:
        error = response.json()["error"]
        message, code, param = str(error["message"]), str(error["code"]), error.get("param")
        details = error.get("details")
    except (ValueError, KeyError, TypeError):
        excerpt = " ".join(response.text.split())[:200]
        raise kind(
            f"The API answered {response.status_code} without an error object: {excerpt or 'empty body'}.",
            code="unexpected_answer",
            remedy=CHECK_ADDRESS if kind is NotFound else "See the API's own logs.",
        ) from None
    if response.status_code == HTTPStatus.TOO_MANY_REQUESTS:
        raise TooManyRequests(message, code=code, retry_after=_retry_after(response))
    raise kind(message, code=code, param=param, details=details)


def _retry_after(response: httpx.Response) -> int:
    """Seconds that the answer asks to wait; one where it does not say, as API Gateway's own throttling does not."""
    asked = response.headers.get("retry-after", "")
    return min(int(asked), LONGEST_RATE_LIMIT_WAIT) if asked.isdecimal() else 1


def read_answer(kind: type[Known], response: httpx.Response) -> Known:
    """An answer as what it is known to be."""
    try:
        return kind.model_validate_json(response.content)
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise SpotuneError(
            f"The API's answer to {response.request.method} {response.request.url.path} is not one that this "
            f"version of the CLI knows (at {where or 'its start'}: {error.errors()[0]['msg']}).",
            code="unexpected_answer",
            remedy="Use the CLI of the API's own version.",
        ) from error
