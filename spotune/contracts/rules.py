"""Retraining rules: which new data starts a job by itself, when, and on which rows."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from spotune.contracts.base import MICRO, Contract, MicroUSD, Timestamp
from spotune.contracts.dataset import RowFormat
from spotune.contracts.money import month_of
from spotune.contracts.request import Choice, JobTemplate, Suffix
from spotune.contracts.verdict import GateDecision

Rows = Literal["new", "all", "new_and_replay"]
"""Those that the champion was not trained on; all that were accepted; the new ones and a sample of the old."""

SourceUri = Annotated[str, StringConstraints(pattern=r"^s3://[a-z0-9.-]{3,63}/\S{1,900}$")]


class Source(Choice):
    """Where data lands: one bucket, and keys by pattern."""

    uri: SourceUri
    """`s3://bucket/prefix`; `*` stands for any characters but `/`, `**` for any at all, `?` for one."""
    dvc_remote: SourceUri | None = None
    """The DVC remote that `.dvc` files among the arrivals point into."""


class Trigger(Choice):
    """When a rule fires: every condition that is given holds at once, of the thresholds any one that is given."""

    min_rows: Annotated[int, Field(ge=1)] | None = None
    min_bytes: Annotated[int, Field(ge=1)] | None = None
    min_growth: Annotated[float, Field(gt=0)] | None = None
    """New rows as a share of those that the champion was trained on."""
    quiet_seconds: Annotated[int, Field(ge=0, le=86_400)] = 300
    """After the last arrival: a burst is one retraining."""
    min_interval_seconds: Annotated[int, Field(ge=0, le=31 * 86_400)] = 3600
    """Between the beginnings of two retrainings."""
    max_per_day: Annotated[int, Field(ge=1, le=1000)] = 4
    """Of retrainings begun within any 24 hours."""
    schedule: Annotated[str, StringConstraints(max_length=100)] | None = None
    """Cron's five fields, UTC: it fires at these moments only; at each of them on any new row where no threshold is
    given."""

    @property
    def has_threshold(self) -> bool:
        """True where it fires on so much new data, and not on any."""
        return not (self.min_rows is None and self.min_bytes is None and self.min_growth is None)


class Selection(Choice):
    """What a retraining trains on."""

    rows: Rows = "new_and_replay"
    replay_share: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Of the training rows, the share drawn from those that the champion was trained on."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Of the draw; the manifest records it with the retraining's number."""


class FrozenSet(Choice):
    """The evaluation set: carved once from the rule's first data by the hash of each row, and never trained on."""

    fraction: Annotated[float, Field(gt=0, le=0.5)] = 0.1
    max_rows: Annotated[int, Field(ge=1, le=100_000)] = 1000


class RuleRequest(Choice):
    """The body of `POST /v1/rules`. The same name and body a second time is the same rule."""

    name: Suffix
    """Also of the model group whose champion it replaces, where the template names none."""
    source: Source
    job: JobTemplate
    """The job in the API's own words, without its files. `constraints.budget_usd` caps each retraining."""
    trigger: Trigger = Trigger()
    selection: Selection = Selection()
    frozen: FrozenSet = FrozenSet()
    monthly_budget_usd: Annotated[float, Field(gt=0, le=1_000_000)] | None = None
    """Of all its retrainings in a calendar month (UTC)."""
    enabled: bool = True
    dry_run: bool = False
    """It plans what it would do, and starts nothing."""

    @model_validator(mode="after")
    def _fires_on_something(self) -> Self:
        if not self.trigger.has_threshold and self.trigger.schedule is None:
            raise ValueError("trigger names no min_rows, min_bytes, min_growth or schedule: it would never fire")
        return self

    @property
    def monthly_budget(self) -> MicroUSD | None:
        """In micro-dollars."""
        return None if self.monthly_budget_usd is None else round(self.monthly_budget_usd * MICRO)

    @property
    def group(self) -> str:
        """The model group that its tuned models belong to."""
        return self.job.registry.group or self.name


class Frozen(Contract):
    """A rule's evaluation set as it was carved."""

    uri: str
    sha256: str
    rows: int
    keys_uri: str
    """A key file: a row whose content's or prompt's hash is in it is never trained on."""
    manifest_uri: str


class MakingKey(Contract):
    """The API key that made a rule, as it was then: a revoked key is forgotten before its rules are."""

    id: str
    monthly_limit: MicroUSD | None
    """None where it had none."""


class RuleRecord(Contract):
    """A rule as it is stored. `version` guards every change; arrivals that are accepted are numbered by `sequence`."""

    id: str
    tenant: str
    version: int = 0
    request: RuleRequest
    created_at: Timestamp
    updated_at: Timestamp
    deleted_at: Timestamp | None = None
    key: str = ""
    """The id of the API key that made it, whose limit its jobs count against."""
    made_by: MakingKey | None = None
    """That key; None in a rule of an earlier version."""
    sequence: int = 0
    """Of the last accepted arrival."""
    claimed: int = 0
    """Arrivals up to this sequence belong to a retraining that was begun."""
    pending_rows: int = 0
    """Rows of accepted arrivals since then, duplicates of each other and of the champion's included."""
    pending_bytes: int = 0
    last_arrival_at: Timestamp | None = None
    counted_through: int = 0
    """Up to this sequence `counted_rows` is exact: without duplicates, and without what the champion knows."""
    counted_rows: int = 0
    counted_against: str | None = None
    """The champion whose rows were left out of that count."""
    tried_through: int = 0
    """Up to this sequence the data was in a retraining that left no model: it waits for more data, a moment of the
    schedule, or a person."""
    retrainings: int = 0
    """How many were begun: the number of the last."""
    live: int | None = None
    """The number of the retraining that has not ended: there is never a second one."""
    begun: tuple[Timestamp, ...] = ()
    """When retrainings were begun, within the last 24 hours, and the last one whenever it was."""
    month: str = ""
    """Of the last retraining that was begun ..."""
    spent: MicroUSD = 0
    """... and what those of that month were billed, or may still be."""
    scheduled_at: Timestamp | None = None
    """Moments of the schedule up to this one are dealt with."""
    row_format: RowFormat | None = None
    """Of its files: a dataset has rows of one format, so that a file of another one is quarantined."""
    frozen: Frozen | None = None
    waiting_for: str = ""
    """Why it does not fire now, in words."""

    @property
    def active(self) -> bool:
        """True where it may fire, or has a retraining that has not ended."""
        return self.live is not None or (self.deleted_at is None and self.request.enabled)


Cause = Literal["rows", "bytes", "growth", "schedule", "person"]
"""Which threshold was reached; `schedule` where the rule has none; `person`: it was fired by hand."""
RetrainingState = Literal["preparing", "submitted", "planned", "succeeded", "failed", "refused", "cancelled"]
"""`planned` is where a dry run ends. `refused`: the service took no job of it, or no row was left."""


class Retraining(Contract):
    """One firing of a rule, `<rule>/<number>`; its job's idempotency key is made of the two."""

    rule_id: str
    tenant: str
    number: int
    version: int = 0
    state: RetrainingState
    request: RuleRequest
    """As it was when this began: changes of the rule are for the next."""
    cause: Cause
    after: int
    """Arrivals of this rule with a greater sequence than this ..."""
    through: int
    """... up to this one are its new data."""
    created_at: Timestamp
    updated_at: Timestamp
    ended_at: Timestamp | None = None
    cap: MicroUSD
    """What its job may cost; counts against the rule's month until the job has ended."""
    billed: MicroUSD | None = None
    manifest_uri: str | None = None
    rows: int | None = None
    """That it trains on."""
    job_id: str | None = None
    decision: GateDecision | None = None
    """The gate's; None before the job has ended, or where it has not succeeded."""
    released: bool = False
    """The data of a rejected retraining was given back to the rule by a person."""
    reason: str = ""
    """Why it ended as it did, in words."""

    @property
    def month(self) -> str:
        """In which its money counts."""
        return month_of(self.created_at)

    @property
    def ended(self) -> bool:
        """True where nothing more happens to it."""
        return self.state not in ("preparing", "submitted")


class ManifestEntry(Contract):
    """One object version of a dataset."""

    uri: str
    version_id: str
    """Empty where the bucket keeps no versions; the hash alone pins it then."""
    sha256: str
    bytes: int
    rows: int
    """In the file."""
    taken: int
    """Of which the dataset has this many: the others are duplicates, of the frozen set, or not drawn for replay."""
    picked: str = ""
    """Which: a bit for each row of the file, the first row's lowest in the first byte, deflated and in base64. Empty
    where it is all of them or none."""
    role: Literal["new", "replay", "frozen"]


class DataManifest(Contract):
    """The dataset of one retraining, so pinned that it can be built again exactly."""

    version: Literal[1] = 1
    rule_id: str
    tenant: str
    retraining: int
    created_at: Timestamp
    entries: tuple[ManifestEntry, ...]
    """In the order in which their rows stand in the dataset."""
    selection: Selection
    frozen_sha256: str
    """Of the evaluation set whose rows were left out."""
    known_uri: str | None = None
    """A key file: hashes of the rows that the champion was trained on, which `new` leaves out."""
    known_sha256: str | None = None
    rows: int
    replayed_rows: int
    uri: str
    """Where the dataset lies."""
    sha256: str
    """Of its bytes."""
    parent: str | None = None
    """The manifest that the champion was trained by."""


class QuarantineReport(Contract):
    """Why a file is not trained on, beside the file's key."""

    uri: str
    version_id: str
    reason: str
    faults: tuple[str, ...]
    created_at: Timestamp


ArrivalState = Literal[
    "arrived", "accepted", "duplicate", "quarantined", "superseded", "gone", "set_aside", "deletion", "listed"
]
"""`duplicate`: the same bytes came before. `superseded`: a later version of its key came. `gone`: it was deleted.
`deletion`: no version, but the mark that its key was deleted then, for events of earlier versions that come after it.
`set_aside`: the gate rejected the model that was trained on it, and nobody has released it.
`listed`: a `.dvc` file; the objects that it names have arrived in its stead."""


class Arrival(Contract):
    """One object version that a rule's pattern matches. There is one of them, however often its event comes."""

    rule_id: str
    tenant: str
    uri: str
    version_id: str
    etag: str
    sequencer: str
    """S3's order among the versions of one key: hexadecimal, compared as padded strings. Empty where a listing found
    it: then the order is that of `arrived_at`."""
    bytes: int
    arrived_at: Timestamp
    """As the event or the listing says, not when we heard of it."""
    state: ArrivalState
    sequence: int | None = None
    """Its place among the rule's accepted arrivals."""
    sha256: str | None = None
    rows: int | None = None
    hashes_uri: str | None = None
    """Its hash file: the hashes of each row's content and prompt, in the order of the file."""
    report_uri: str | None = None
    """Where it is quarantined, its report."""
    reason: str = ""
