"""What a decision has to be done, kept in the outbox until it is."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from spotune.contracts.base import Contract, Timestamp
from spotune.contracts.notifications import EventType


class CheckDataset(Contract):
    """Read the job's files from S3 and tell the lifecycle what they hold."""

    kind: Literal["check_dataset"] = "check_dataset"


class CarryCheckpoint(Contract):
    """A retry waits for its first attempt: copy what it goes on from before S3 forgets it."""

    kind: Literal["carry_checkpoint"] = "carry_checkpoint"


class StartAttempt(Contract):
    """Create the training job of this attempt, or adopt the one that has its name."""

    kind: Literal["start_attempt"] = "start_attempt"
    number: int


class StopAttempt(Contract):
    """Ask SageMaker to stop this training job."""

    kind: Literal["stop_attempt"] = "stop_attempt"
    name: str


class Notify(Contract):
    """Tell the outside what this line of the job's log tells."""

    kind: Literal["notify"] = "notify"
    type: EventType
    sequence: int


class WarnOfMonth(Contract):
    """Money was billed in this month: warn of whatever level the tenant has passed in it."""

    kind: Literal["warn_of_month"] = "warn_of_month"
    month: str


class RegisterModel(Contract):
    """Record the tuned model in its group and, where its verdict says so, make it the group's champion."""

    kind: Literal["register_model"] = "register_model"


class EndRetraining(Contract):
    """Tell the job's retraining how it ended."""

    kind: Literal["end_retraining"] = "end_retraining"


class ReleaseCheckpoints(Contract):
    """Nothing of the job runs any more: its checkpoints need not be kept for ever."""

    kind: Literal["release_checkpoints"] = "release_checkpoints"


Command = Annotated[
    CheckDataset
    | CarryCheckpoint
    | StartAttempt
    | StopAttempt
    | Notify
    | WarnOfMonth
    | RegisterModel
    | EndRetraining
    | ReleaseCheckpoints,
    Field(discriminator="kind"),
]


class OutboxEntry(Contract):
    """A command that was decided and not yet run. `id` is `<job id>#<version>#<index>`."""

    id: str
    tenant: str
    job_id: str
    created_at: Timestamp
    command: Command
