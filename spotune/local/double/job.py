"""One training job as the double keeps it, and as it is written to disk."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Self

Status = Literal["InProgress", "Completed", "Failed", "Stopping", "Stopped"]
Secondary = Literal[
    "Starting",
    "Pending",
    "Downloading",
    "Training",
    "Interrupted",
    "Restarting",
    "Uploading",
    "Stopping",
    "Completed",
    "Failed",
    "Stopped",
    "MaxRuntimeExceeded",
    "MaxWaitTimeExceeded",
]
StopCause = Literal["Stopped", "MaxRuntimeExceeded", "MaxWaitTimeExceeded"]
Request = dict[str, Any]
"""A validated CreateTrainingJob request."""

LIVE: frozenset[Status] = frozenset({"InProgress", "Stopping"})
WAITING: frozenset[Secondary] = frozenset({"Starting", "Pending", "Interrupted", "Restarting"})
"""No instance is held: nothing is billed and nothing runs."""


@dataclass
class Transition:
    """One entry of SecondaryStatusTransitions."""

    status: Secondary
    started_at: float
    message: str
    ended_at: float | None = None


@dataclass
class HostProcess:
    """A process that stands for one instance. `identity` tells it from a later process with the same id."""

    host: str
    pid: int
    identity: str


@dataclass
class Job:
    """Request and state. Seconds are since the epoch; `due_at` is when the present phase ends by itself."""

    name: str
    arn: str
    request: Request
    created_at: float
    modified_at: float
    tags: dict[str, str] = field(default_factory=dict)
    status: Status = "InProgress"
    secondary: Secondary = "Starting"
    transitions: list[Transition] = field(default_factory=list)
    due_at: float | None = None
    kill_at: float | None = None
    launches: int = 0
    """How often instances were started for it; a report from an earlier launch is stale."""
    interruptions: int = 0
    retries: int = 0
    """Launches made anew after InternalServerError, by RetryStrategy."""
    instance_type: str = ""
    """The type it runs on, once there was capacity."""
    pending_since: float | None = None
    training_started_at: float | None = None
    training_ended_at: float | None = None
    billed_before: float = 0.0
    """Such seconds of launches that have ended."""
    billing_since: float | None = None
    billable_share: float = 1.0
    """Billable seconds for each second that instances are held: the spot price over the on-demand price."""
    stop_cause: StopCause | None = None
    restart_after: float | None = None
    """Set while an interruption is on its way: seconds from then until the job looks for instances again."""
    failure_reason: str = ""
    exit_code: int | None = None
    artifacts: str = ""
    processes: list[HostProcess] = field(default_factory=list)
    peak_rss: int = 0
    """Bytes, all processes of the job together."""

    @property
    def live(self) -> bool:
        """Not yet in a final state."""
        return self.status in LIVE

    @property
    def waiting(self) -> bool:
        """Live without an instance."""
        return self.live and self.secondary in WAITING

    @property
    def spot(self) -> bool:
        """Managed spot training."""
        return bool(self.request.get("EnableManagedSpotTraining"))

    @property
    def instance_types(self) -> tuple[str, ...]:
        """The types it may run on, preferred first."""
        resources = self.request["ResourceConfig"]
        if "InstancePreferences" in resources:
            return tuple(preference["InstanceType"] for preference in resources["InstancePreferences"])
        return (resources["InstanceType"],)

    @property
    def instance_count(self) -> int:
        """Instances of whichever type."""
        count: int = self.request["ResourceConfig"].get("InstanceCount", 1)
        return count

    @property
    def hosts(self) -> tuple[str, ...]:
        """SageMaker's host names."""
        return tuple(f"algo-{number}" for number in range(1, self.instance_count + 1))

    @property
    def max_runtime(self) -> int:
        """Seconds; a day where the request does not say, as at SageMaker."""
        seconds: int = self.request.get("StoppingCondition", {}).get("MaxRuntimeInSeconds", 86_400)
        return seconds

    @property
    def max_wait(self) -> int | None:
        """Seconds from creation to the end, for spot."""
        seconds: int | None = self.request.get("StoppingCondition", {}).get("MaxWaitTimeInSeconds")
        return seconds

    @property
    def max_retries(self) -> int:
        """Launches that may follow an InternalServerError."""
        retries: int = self.request.get("RetryStrategy", {}).get("MaximumRetryAttempts", 0)
        return retries

    def billed(self, now: float) -> float:
        """Seconds so far in which instances were held: Downloading to the end of each launch, added up."""
        running = now - self.billing_since if self.billing_since is not None else 0.0
        return self.billed_before + max(0.0, running)

    def to_json(self) -> dict[str, Any]:
        """As it is written to disk."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Self:
        """Read back what `to_json` wrote.

        Raises:
            TypeError, KeyError: it is not such a document.
        """
        transitions = [Transition(**entry) for entry in document["transitions"]]
        processes = [HostProcess(**entry) for entry in document["processes"]]
        return cls(**{**document, "transitions": transitions, "processes": processes})
