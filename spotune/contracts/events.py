"""What can happen to a job: the events that `lifecycle.decide` answers."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from spotune.contracts.base import Contract, Seconds, Timestamp
from spotune.contracts.checkpoint import Resumption
from spotune.contracts.dataset import DatasetReport, GoldenReport
from spotune.contracts.job import JobError, ResolvedSetting
from spotune.contracts.plan import Plan
from spotune.contracts.training import Failure, TrainingConfig, TrainingReport

Refusal = Literal["quota", "capacity", "invalid", "not_permitted", "inputs", "checkpoint_gone", "cancelled"]
"""Why no training job runs under a name."""


class Prepared(Contract):
    """The dataset was found good and a plan was made."""

    kind: Literal["prepared"] = "prepared"
    training: DatasetReport
    validation: DatasetReport | None
    golden: GoldenReport | None = None
    settings: tuple[ResolvedSetting, ...]
    config: TrainingConfig
    plan: Plan
    resumption: Resumption | None = None
    """Of a retry; the plan then counts what is left to do."""
    leaked: int = 0
    """Rows of the validation file that the training file has, too."""


class Refused(Contract):
    """The dataset or the plan was refused after the job was recorded."""

    kind: Literal["refused"] = "refused"
    error: JobError
    training: DatasetReport | None = None
    validation: DatasetReport | None = None
    golden: GoldenReport | None = None


class CheckBegun(Contract):
    """The job's files are about to be read, for the first time or again."""

    kind: Literal["check_begun"] = "check_begun"


class CopyStarted(Contract):
    """Model and data are about to be copied into the job's region, for this attempt: from now on it costs."""

    kind: Literal["copy_started"] = "copy_started"
    name: str


class AttemptAccepted(Contract):
    """SageMaker took the training job, or it was found to have taken it before."""

    kind: Literal["attempt_accepted"] = "attempt_accepted"
    name: str


class AttemptRefused(Contract):
    """SageMaker would not take the training job; nothing runs under this name."""

    kind: Literal["attempt_refused"] = "attempt_refused"
    name: str
    reason: Refusal
    """`inputs`: what it was to read changed on the way to its region. `checkpoint_gone`: what a retry goes on from
    cannot be copied any more. `cancelled`: the job was cancelled before the training job was created."""
    message: str
    ordered_at: Timestamp | None = None
    """`requested_at` of the order that was refused: a name that SageMaker never took is used again."""


class TrainingObserved(Contract):
    """The training job as SageMaker describes it now. The description is the truth; the event only woke us."""

    kind: Literal["training_observed"] = "training_observed"
    name: str
    status: Literal["InProgress", "Completed", "Failed", "Stopping", "Stopped"]
    secondary_status: str
    instance_type: str | None = None
    """The type that SageMaker selected, where it had a choice."""
    started_at: Timestamp | None = None
    ended_at: Timestamp | None = None
    interruptions: int = 0
    restarts: int = 0
    """By SageMaker's RetryStrategy, after an internal error."""
    training_seconds: Seconds = 0
    billable_seconds: Seconds = 0
    failure_reason: str = ""
    failure: Failure | None = None
    """The container's own words, where the reason holds them."""
    report: TrainingReport | None = None
    output_uri: str | None = None
    exit_code: int | None = None


class CancelRequested(Contract):
    """A person asked for the job to end."""

    kind: Literal["cancel_requested"] = "cancel_requested"


class PauseRequested(Contract):
    """A person asked for the job to stop where it is and keep its checkpoint."""

    kind: Literal["pause_requested"] = "pause_requested"


class ResumeRequested(Contract):
    """A person asked for a paused job to go on."""

    kind: Literal["resume_requested"] = "resume_requested"


class RungDue(Contract):
    """Time to look: the patience of a rung may have ended, or a wait for something that is in no line."""

    kind: Literal["rung_due"] = "rung_due"


class TurnCame(Contract):
    """Of those that stand in its line, this job is the next."""

    kind: Literal["turn_came"] = "turn_came"


Event = Annotated[
    Prepared
    | Refused
    | CheckBegun
    | CopyStarted
    | AttemptAccepted
    | AttemptRefused
    | TrainingObserved
    | CancelRequested
    | PauseRequested
    | ResumeRequested
    | RungDue
    | TurnCame,
    Field(discriminator="kind"),
]
