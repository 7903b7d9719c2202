"""The job's record: what the store keeps, the lifecycle changes and the API shows."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict

from spotune.contracts.base import Contract, MicroUSD, Seconds, Timestamp
from spotune.contracts.checkpoint import Resumption
from spotune.contracts.commands import Command
from spotune.contracts.dataset import DatasetReport, GoldenReport
from spotune.contracts.history import FinishedRun
from spotune.contracts.lines import LineChange
from spotune.contracts.money import month_of
from spotune.contracts.plan import Plan
from spotune.contracts.request import JobRequest, Market, Method
from spotune.contracts.training import TrainingConfig, TrainingReport
from spotune.contracts.verdict import Verdict

State = Literal[
    "validating",
    "queued",
    "starting",
    "running",
    "interrupted",
    "evaluating",
    "paused",
    "succeeded",
    "failed",
    "cancelled",
]
Status = Literal["validating_files", "queued", "running", "paused", "succeeded", "failed", "cancelled"]
"""OpenAI's words."""

STATUS: dict[State, Status] = {
    "validating": "validating_files",
    "queued": "queued",
    "starting": "queued",
    "running": "running",
    "interrupted": "running",
    "evaluating": "running",
    "paused": "paused",
    "succeeded": "succeeded",
    "failed": "failed",
    "cancelled": "cancelled",
}
"""OpenAI's word for each of our states."""

ENDED = frozenset({"Completed", "Failed", "Stopped"})
"""SageMaker's final statuses."""

TERMINAL: frozenset[State] = frozenset({"succeeded", "failed", "cancelled"})

Outcome = Literal[
    "completed",
    "stopped_by_user",
    "stopped_max_wait",
    "stopped_max_runtime",
    "capacity",
    "quota",
    "user_error",
    "internal",
]


class ModelReference(Contract):
    """A base model that this installation can train. `uri` is its folder in the models bucket."""

    name: str
    uri: str
    revision: str = ""
    parameters: int
    sha256: str = ""
    """Of its files' names and hashes; empty where nobody has hashed them."""


class ChampionReference(Contract):
    """The champion of the job's group when the job was submitted: what the tuned model is compared with."""

    name: str
    """`ft:...`."""
    number: int
    uri: str
    """The folder of its files: the adapter, or the weights."""
    start: bool
    """Training goes on from it."""
    bytes: int = 0
    """Of its files."""
    method: Method | None = None
    """That it was trained by."""
    obstacle: str = ""
    """Why it cannot be measured beside the tuned model, in words; empty where it can."""


class ResolvedSetting(Contract):
    """One `auto` and what became of it."""

    name: str
    value: str
    reason: str


class JobError(Contract):
    """Why a job failed, as the API shows it."""

    code: str
    message: str
    param: str | None = None
    remedy: str = ""
    evidence: str = ""


class Attempt(Contract):
    """One training job of SageMaker's. `name` is `<job id>-<number>` and is used once."""

    number: int
    name: str
    rung: int
    market: Market
    instance_type: str
    instance_count: int
    price: MicroUSD
    """Micro-dollars an instance-hour in its market: what a second of training is expected to cost."""
    on_demand_price: MicroUSD
    """Micro-dollars an instance-hour that billable seconds are settled at: on spot they carry the discount."""
    max_runtime: Seconds
    max_wait: Seconds
    reserved: MicroUSD
    held: dict[str, int] = {}
    """Places in lines that it holds from its order to its end."""
    requested_at: Timestamp
    accepted: bool = False
    """SageMaker is known to have taken it."""
    status: str = ""
    """SageMaker's TrainingJobStatus."""
    secondary_status: str = ""
    started_at: Timestamp | None = None
    ended_at: Timestamp | None = None
    interruptions: int = 0
    restarts: int = 0
    """By SageMaker itself, after internal errors of its own."""
    training_seconds: Seconds = 0
    billable_seconds: Seconds = 0
    """SageMaker's: on spot, fewer than the seconds that passed, by the discount."""
    billed: MicroUSD = 0
    stop_asked: Literal["", "cancel", "pause", "patience"] = ""
    """Why we asked SageMaker to stop it."""
    outcome: Outcome | None = None

    @property
    def month(self) -> str:
        """In which its money counts."""
        return month_of(self.requested_at)

    @property
    def live(self) -> bool:
        """SageMaker took it, and has not said that it ended: it may still be billed, even where we gave it up."""
        return self.accepted and self.status not in ENDED


class PayingKey(Contract):
    """The API key that a job was submitted with, where that key has a monthly limit of its own."""

    id: str
    monthly_limit: MicroUSD


NEVER: Timestamp = 253_402_300_799.0
"""The last second of the year 9999."""


class JobRecord(Contract):
    """Everything known of one job. `version` guards every change; `event_seq` is the last log event's number."""

    id: str
    tenant: str
    version: int = 0
    state: State
    request: JobRequest
    request_sha256: str
    """Read by versions up to 0.1.0, which an update that fails goes back to; nothing here reads it."""
    created_at: Timestamp
    updated_at: Timestamp
    finished_at: Timestamp | None = None
    check_begun_at: Timestamp | None = None
    """When its files were first read; None while the command that has them read waits in the queue."""
    deadline: Timestamp | None = None
    retry_of: str | None = None
    """The job that this one does again, with changed settings."""
    resumption: Resumption | None = None
    """What it takes over from that one; None before it is prepared."""
    model: ModelReference
    training_uri: str
    validation_uri: str | None = None
    golden_uri: str | None = None
    training: DatasetReport | None = None
    validation: DatasetReport | None = None
    golden: GoldenReport | None = None
    """Of the gate's golden prompts."""
    settings: tuple[ResolvedSetting, ...] = ()
    config: TrainingConfig | None = None
    plan: Plan | None = None
    cap: MicroUSD
    reserved: MicroUSD = 0
    billed: MicroUSD = 0
    transfer: MicroUSD | None = None
    """Of what is billed: carrying model and data to another region. None until the first byte goes."""
    rung: int = 0
    attempts: tuple[Attempt, ...] = ()
    event_seq: int = 0
    cancel_requested: bool = False
    waiting_for: str = ""
    """What the job visibly waits for, in words; empty while it moves."""
    wait_told: bool = False
    """The outside was told that it waits; it has not run since."""
    line: str = ""
    """The line that it stands in; empty where it stands in none."""
    in_line_since: Timestamp | None = None
    """Since when it wants an instance that it has not got: who came first goes first, whatever line that is."""
    refused_at: Timestamp | None = None
    """When SageMaker refused the attempt for whose quota it stands in line."""
    idle_until: Timestamp = 0.0
    """While it stands in line: when there is something to decide even where its turn has not come."""
    key: PayingKey | None = None
    error: JobError | None = None
    report: TrainingReport | None = None
    output_uri: str | None = None
    fine_tuned_model: str | None = None
    """Set unless the gate rejected it."""
    gate_verdict: str = ""
    """The verdict in a sentence."""
    verdict: Verdict | None = None
    """The gate's, with its table; None before the job has succeeded, and in records of before there was one."""
    champion: ChampionReference | None = None
    retraining: str = ""
    """`<rule id>/<number>`, where a rule submitted it."""

    @property
    def attempt(self) -> Attempt | None:
        """The newest attempt."""
        return self.attempts[-1] if self.attempts else None

    @property
    def region(self) -> str:
        """Where all of its attempts run, and its checkpoints and results lie; empty: the installation's own."""
        return self.plan.chosen.region if self.plan is not None else ""

    @property
    def terminal(self) -> bool:
        """True where its state cannot change any more."""
        return self.state in TERMINAL

    @property
    def goes_on(self) -> bool:
        """True for a retry that goes on from an earlier job's checkpoint."""
        return self.resumption is not None and self.resumption.used

    @property
    def open(self) -> bool:
        """True where something may still happen: it has not ended, or a training job of its own has not."""
        return not self.terminal or any(attempt.live for attempt in self.attempts)


class ActiveJob(Contract):
    """What the reconciler has to know of a job to which something may still happen, before it reads the record.

    It is read only, and of all jobs at once: what a newer version adds to it keeps no pass from the others.
    """

    model_config = ConfigDict(extra="ignore")

    id: str
    tenant: str
    created_at: Timestamp
    state: State
    reserved: dict[str, MicroUSD] = {}
    """By month."""
    key: PayingKey | None = None
    held: dict[str, int] = {}
    live: tuple[str, ...] = ()
    """Its training jobs that SageMaker has not said the end of."""
    line: str = ""
    in_line_since: Timestamp | None = None
    refused_at: Timestamp | None = None
    idle_until: Timestamp = 0.0


def active_job(job: JobRecord) -> ActiveJob:
    """What the reconciler has to know of an open job."""
    live = tuple(attempt.name for attempt in job.attempts if attempt.live)
    return ActiveJob(
        id=job.id,
        tenant=job.tenant,
        created_at=job.created_at,
        state=job.state,
        reserved=_reserved_by_month(job),
        key=job.key,
        held=held_places(job),
        live=live,
        line=job.line,
        in_line_since=job.in_line_since,
        refused_at=job.refused_at,
        idle_until=job.idle_until if job.line and not live else 0.0,
    )


def _reserved_by_month(job: JobRecord) -> dict[str, MicroUSD]:
    reserved: dict[str, MicroUSD] = {}
    for attempt in job.attempts:
        if attempt.reserved:
            reserved[attempt.month] = reserved.get(attempt.month, 0) + attempt.reserved
    return reserved


def held_places(job: JobRecord) -> dict[str, int]:
    """Places that a job's attempts hold, by line."""
    held: dict[str, int] = {}
    for attempt in job.attempts:
        for line, places in attempt.held.items():
            held[line] = held.get(line, 0) + places
    return held


class Inputs(Contract):
    """What a training job of a job reads. Of one in a further region, kept in its folder."""

    training_uri: str
    validation_uri: str | None
    model_uri: str
    champion_uri: str | None = None
    golden_uri: str | None = None


class LogEvent(Contract):
    """One line of the job's append-only log. `sequence` starts at 1 and has no gaps."""

    job_id: str
    sequence: int
    created_at: Timestamp
    level: Literal["info", "warn", "error"]
    message: str
    data: dict[str, object] = {}


class LedgerChange(Contract):
    """How a decision moves the money of one month, in its own transaction. Amounts are absolute for this change."""

    month: str = ""
    """`YYYY-MM`, of the order of the attempt that it is moved for."""
    reserve: MicroUSD = 0
    release: MicroUSD = 0
    settle: MicroUSD = 0

    @property
    def moves(self) -> bool:
        """False where nothing is moved."""
        return bool(self.reserve or self.release or self.settle)


class Decision(Contract):
    """What `decide` answers: the changed job, commands for the outbox, money to move, lines for the log."""

    job: JobRecord
    commands: tuple[Command, ...] = ()
    ledgers: tuple[LedgerChange, ...] = ()
    """One for each month: the attempt that ends may be of another one than the attempt that begins."""
    lines: tuple[LineChange, ...] = ()
    log: tuple[LogEvent, ...] = ()
    run: FinishedRun | None = None
    """Where the job ended after time on an instance: its forecast and outcome, for later plans."""

    @property
    def ledger(self) -> LedgerChange:
        """All months together."""
        return LedgerChange(
            reserve=sum(change.reserve for change in self.ledgers),
            release=sum(change.release for change in self.ledgers),
            settle=sum(change.settle for change in self.ledgers),
        )
