"""What the API answers of rules, their arrivals and their retrainings."""

from __future__ import annotations

from typing import Literal

from spotune.contracts.base import Contract, MicroUSD
from spotune.contracts.rules import ArrivalState, Cause, Frozen, RetrainingState, RuleRequest
from spotune.contracts.verdict import GateDecision


class PendingData(Contract):
    """What has come since the last retraining took its data."""

    rows: int
    """An upper bound: rows that are there twice, or that the champion knows, count."""
    bytes: int
    last_arrival_at: int | None


class RuleMoney(Contract):
    """What a rule's retrainings of a month were billed, or may still be. Micro-dollars."""

    month: str
    spent: MicroUSD
    limit: MicroUSD | None


class RuleObject(RuleRequest):
    """A rule as it was asked for, and how it stands. Names of secrets are left out."""

    id: str
    object: Literal["rule"] = "rule"
    created_at: int
    updated_at: int
    model_group: str
    """The model group whose champion it replaces."""
    pending: PendingData
    retrainings: int
    """How many were begun: the number of the last."""
    live: int | None
    """The number of the one that has not ended."""
    waiting_for: str
    """What it waits for, in words."""
    money: RuleMoney
    evaluation_set: Frozen | None
    """None before the first data came."""


class DeletedRuleObject(Contract):
    """What the deletion of a rule answers."""

    id: str
    object: Literal["rule.deleted"] = "rule.deleted"
    deleted: bool


class ArrivalObject(Contract):
    """One object version that a rule's pattern matches."""

    id: str
    """`<uri>#<version id>`."""
    object: Literal["rule.arrival"] = "rule.arrival"
    rule: str
    uri: str
    version_id: str
    bytes: int
    arrived_at: int
    state: ArrivalState
    sequence: int | None
    """Its place among the rule's accepted arrivals."""
    rows: int | None
    sha256: str | None
    report_uri: str | None
    """Where it is quarantined, its report."""
    reason: str


class RetrainingObject(Contract):
    """One firing of a rule."""

    id: str
    """`<rule>/<number>`."""
    object: Literal["rule.retraining"] = "rule.retraining"
    rule: str
    number: int
    state: RetrainingState
    cause: Cause
    dry_run: bool
    created_at: int
    ended_at: int | None
    after: int
    """Its new data: arrivals with a greater sequence than this ..."""
    through: int
    """... up to this one."""
    rows: int | None
    """That it trains on."""
    manifest_uri: str | None
    job_id: str | None
    decision: GateDecision | None
    released: bool
    cap: MicroUSD
    billed: MicroUSD | None
    reason: str
