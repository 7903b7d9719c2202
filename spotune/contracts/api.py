"""What the API answers: OpenAI's objects, each with one extra `spotune` object where we say more."""

from __future__ import annotations

from typing import Annotated, Generic, Literal, TypeVar

from pydantic import Field

from spotune.contracts.base import Contract, MicroUSD
from spotune.contracts.checkpoint import Resumption
from spotune.contracts.dataset import DatasetReport, GoldenReport
from spotune.contracts.files import UploadPart
from spotune.contracts.history import Corrections, FinishedRun
from spotune.contracts.identity import MonthlyLimit, RequestsPerMinute, Scope
from spotune.contracts.job import Attempt, ChampionReference, JobError, ResolvedSetting, State, Status
from spotune.contracts.models import VersionStatus
from spotune.contracts.plan import Plan
from spotune.contracts.receipt import Receipt
from spotune.contracts.request import Hyperparameters, MethodChoice
from spotune.contracts.training import Progress, TrainingConfig, TrainingReport
from spotune.contracts.verdict import Verdict

T = TypeVar("T")
Json = dict[str, object]


class ListObject(Contract, Generic[T]):
    """A page. Ask for the next one with `after=<last_id>`."""

    object: Literal["list"] = "list"
    data: tuple[T, ...]
    has_more: bool = False
    first_id: str | None = None
    last_id: str | None = None


class FileObject(Contract):
    """OpenAI's file. `spotune` holds what it lacks."""

    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    filename: str
    purpose: str
    status: str
    spotune: FileDetails


class FileDetails(Contract):
    """Where the file lies and what it hashes to (None until the upload is complete)."""

    uri: str
    sha256: str | None


class UploadObject(Contract):
    """The answer to the JSON form of `POST /v1/files`: PUT each part, then `POST /v1/files/{id}/complete`."""

    object: Literal["file.upload"] = "file.upload"
    file: FileObject
    parts: tuple[UploadPart, ...]
    done: tuple[int, ...] = ()
    expires_at: int


class DeletedObject(Contract):
    """What a deletion answers."""

    id: str
    object: Literal["file"] = "file"
    deleted: bool


class ErrorDetail(Contract):
    """Why a job failed, in OpenAI's three words."""

    code: str
    message: str
    param: str | None


class Money(Contract):
    """One job's money in micro-dollars."""

    cap: MicroUSD
    reserved: MicroUSD
    billed: MicroUSD
    on_demand: MicroUSD | None
    """What the seconds that passed would have cost on demand."""
    transfer: MicroUSD = 0
    """Of what is billed: carrying model and data to another region."""


class DatasetPair(Contract):
    """The job's files, checked."""

    training: DatasetReport | None
    validation: DatasetReport | None
    golden: GoldenReport | None = None
    """Of the gate's golden prompts."""


class KeyObject(Contract):
    """An API key without its secret."""

    id: str
    object: Literal["api_key"] = "api_key"
    name: str
    scopes: tuple[Scope, ...]
    created_at: int
    revoked_at: int | None
    last_used_at: int | None
    """To the hour; None where it was never used."""
    monthly_limit: MicroUSD | None
    """What jobs submitted with it may spend in a calendar month, micro-dollars; None: what the tenant may."""
    requests_per_minute: int
    principal: str | None = None
    """Whom it stands for, where it is no key but an IAM or JWT identity."""


class NewKeyObject(KeyObject):
    """A key that was just made. This answer is the only place where it stands in clear."""

    key: str


class KeyRequest(MonthlyLimit):
    """What is asked for when a key is made."""

    name: Annotated[str, Field(min_length=1, max_length=64)]
    scopes: Annotated[tuple[Scope, ...], Field(min_length=1)] = ("read", "submit")
    requests_per_minute: RequestsPerMinute | None = None
    """None for as many as the key that makes it; never more."""


class BudgetObject(Contract):
    """The money of a tenant, or of one of its keys, in one month. Amounts are micro-dollars."""

    object: Literal["budget"] = "budget"
    tenant: str
    key: str | None
    """The key's id; None for the whole tenant."""
    month: str
    """`YYYY-MM`, UTC."""
    limit: MicroUSD
    billed: MicroUSD
    reserved: MicroUSD
    """Set aside for what runs: its worst case."""
    left: MicroUSD
    """What can still be reserved."""
    reached: Literal[0, 50, 80, 100]
    """Per cent of the limit that billed money has passed, of those that are warned of."""
    warning: str
    """In words; empty below 50 %."""


class AccuracyObject(Contract):
    """A page of finished runs, forecast against outcome, and what plans have learnt from those of all tenants."""

    object: Literal["list"] = "list"
    data: tuple[FinishedRun, ...]
    has_more: bool = False
    first_id: str | None = None
    last_id: str | None = None
    corrections: Corrections


class JobDetails(Contract):
    """What OpenAI's object lacks."""

    state: State
    waiting_for: str
    tenant: str
    retry_of: str | None
    resumption: Resumption | None
    """What a retry takes over from the job before it; None before its files are checked."""
    region: str
    """Where it runs and its results lie; empty until it is planned."""
    plan: Plan | None
    settings: tuple[ResolvedSetting, ...]
    attempts: tuple[Attempt, ...]
    money: Money
    progress: Progress | None
    report: TrainingReport | None
    dataset: DatasetPair
    receipt: Receipt | None
    """What it cost and what it saved, once it has ended."""
    run: FinishedRun | None
    """Forecast against outcome, once the job has ended."""
    gate_verdict: str
    """The verdict in a sentence; empty before there is one."""
    verdict: Verdict | None
    """The gate's, with its table."""
    champion: ChampionReference | None
    """Of its group when it was submitted: what its model starts from or competes with."""
    retraining: str
    """`<rule id>/<number>`, where a rule submitted it."""
    output_uri: str | None
    error: JobError | None


class JobObject(Contract):
    """OpenAI's fine-tuning job."""

    id: str
    object: Literal["fine_tuning.job"] = "fine_tuning.job"
    created_at: int
    finished_at: int | None
    model: str
    fine_tuned_model: str | None
    organization_id: str
    status: Status
    hyperparameters: Hyperparameters
    method: MethodChoice
    training_file: str
    validation_file: str | None
    result_files: tuple[str, ...]
    trained_tokens: int | None
    error: ErrorDetail | None
    seed: int
    estimated_finish: int | None
    integrations: tuple[Json, ...] | None
    metadata: dict[str, str]
    spotune: JobDetails


class EventObject(Contract):
    """One line of a job's log."""

    id: str
    object: Literal["fine_tuning.job.event"] = "fine_tuning.job.event"
    created_at: int
    level: Literal["info", "warn", "error"]
    message: str
    type: Literal["message", "metrics"] = "message"
    data: Json


class CheckpointMetrics(Contract):
    """What is known at a checkpoint."""

    step: float
    train_loss: float | None = None
    valid_loss: float | None = None


class CheckpointObject(Contract):
    """One checkpoint whose manifest lies in S3."""

    id: str
    object: Literal["fine_tuning.job.checkpoint"] = "fine_tuning.job.checkpoint"
    created_at: int
    fine_tuned_model_checkpoint: str
    fine_tuning_job_id: str
    metrics: CheckpointMetrics
    step_number: int


class ModelDetails(Contract):
    """Where a model comes from."""

    kind: Literal["base", "tuned"]
    uri: str
    revision: str | None = None
    """Of a base model: the commit on the hub, or what else tells one state of its files from another."""
    parameters: int | None = None
    """Of a base model."""
    parent: str | None = None
    job_id: str | None = None
    group: str | None = None
    """The model group that it is a version of; None where it stands alone."""
    version: int | None = None
    status: VersionStatus | None = None
    champion: bool | None = None


class ModelObject(Contract):
    """A base model that can be trained, or a tuned one that passed its gate."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str
    spotune: ModelDetails


class PlanObject(Contract):
    """What a job would be; nothing was recorded, reserved or started."""

    object: Literal["fine_tuning.plan"] = "fine_tuning.plan"
    plan: Plan
    settings: tuple[ResolvedSetting, ...]
    dataset: DatasetPair
    config: TrainingConfig
    resumption: Resumption | None = None
    """Of a retry: whether the earlier job's checkpoint would be used, and why not."""


FileObject.model_rebuild()
