"""A retraining from its beginning to its end, and what its rule has of it. Each step a second time changes nothing.

One lives at a time. It claims all accepted arrivals so far. One that leaves no model gives them back to the next; the
data of one that was rejected is set aside (`arrivals.set_aside`, before `ended`); that of any other counts as trained
on.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from spotune.contracts.base import MicroUSD, Timestamp
from spotune.contracts.money import month_of
from spotune.contracts.rules import Arrival, Cause, Retraining, RetrainingState, RuleRecord
from spotune.contracts.verdict import GateDecision
from spotune.retraining.due import DAY, Known, spent_in


@dataclass(frozen=True, slots=True)
class Ending:
    """How a retraining ends."""

    state: RetrainingState
    reason: str
    decision: GateDecision | None = None
    billed: MicroUSD = 0

    @property
    def gives_back(self) -> bool:
        """True where it left no model: its data is the next one's."""
        return self.state != "succeeded"


def counted(rule: RuleRecord, known: Known, *, through: int, rows: int) -> RuleRecord:
    """The rule with the exact count that `due` asked for.

    Args:
        through: the sequence up to which it was counted.
        rows: new ones, each once, without the champion's and the frozen set's.
    """
    return rule.with_(counted_through=through, counted_rows=rows, counted_against=known.champion)


def begin(rule: RuleRecord, cause: Cause, cap: MicroUSD, now: Timestamp) -> tuple[RuleRecord, Retraining]:
    """A retraining of all that is pending.

    Raises:
        ValueError: the rule has one that lives, or was deleted: nobody asked whether it may fire.
    """
    if rule.live is not None or rule.deleted_at is not None:
        raise ValueError(f"rule {rule.id} may not fire")
    # Clocks of two machines differ: time does not go back within a rule.
    now = max(now, *rule.begun, 0)
    number, month = rule.retrainings + 1, month_of(now)
    begun = rule.with_(
        claimed=rule.sequence,
        pending_rows=0,
        pending_bytes=0,
        counted_through=0,
        counted_rows=0,
        retrainings=number,
        live=number,
        begun=(*(at for at in rule.begun if at > now - DAY), now),
        month=month,
        spent=spent_in(rule, month) + cap,
        scheduled_at=now,
        waiting_for=f"retraining {number}",
        updated_at=now,
    )
    retraining = Retraining(
        rule_id=rule.id,
        tenant=rule.tenant,
        number=number,
        state="preparing",
        request=rule.request,
        cause=cause,
        after=rule.claimed,
        through=rule.sequence,
        created_at=now,
        updated_at=now,
        cap=cap,
    )
    return begun, retraining


def prepared(retraining: Retraining, manifest_uri: str, rows: int, now: Timestamp) -> Retraining:
    """Its dataset lies there."""
    if retraining.state != "preparing" or retraining.manifest_uri == manifest_uri:
        return retraining
    return retraining.with_(manifest_uri=manifest_uri, rows=rows, updated_at=now)


def submitted(retraining: Retraining, job_id: str, now: Timestamp) -> Retraining:
    """The service took its job."""
    if retraining.state != "preparing":
        return retraining
    return retraining.with_(state="submitted", job_id=job_id, updated_at=now)


def ended(
    rule: RuleRecord, retraining: Retraining, ending: Ending, arrivals: Iterable[Arrival], now: Timestamp
) -> tuple[RuleRecord, Retraining]:
    """Its end, and what the rule has back of it.

    Args:
        arrivals: those that it claimed, as they are now (`store.accepted_arrivals` from its `after` to its `through`);
            looked at only where it gives them back.
    """
    if retraining.ended:
        return rule, retraining
    over = retraining.with_(
        state=ending.state,
        decision=ending.decision,
        billed=ending.billed,
        reason=ending.reason,
        ended_at=now,
        updated_at=now,
    )
    spent = rule.spent + (ending.billed - retraining.cap if rule.month == retraining.month else 0)
    rule = rule.with_(live=None, spent=max(spent, 0), waiting_for="", updated_at=now)
    return (_given_back(rule, retraining, arrivals) if ending.gives_back else rule), over


def billed_since(
    rule: RuleRecord, retraining: Retraining, billed: MicroUSD, now: Timestamp
) -> tuple[RuleRecord, Retraining]:
    """What its job was billed after the end, for what outlived it."""
    more = billed - (retraining.billed or 0)
    if not retraining.ended or more <= 0:
        return rule, retraining
    if rule.month == retraining.month:
        rule = rule.with_(spent=rule.spent + more)
    return rule, retraining.with_(billed=billed, updated_at=now)


def _given_back(rule: RuleRecord, retraining: Retraining, arrivals: Iterable[Arrival]) -> RuleRecord:
    back = [one for one in arrivals if one.state == "accepted"]
    return rule.with_(
        claimed=retraining.after,
        pending_rows=rule.pending_rows + sum(one.rows or 0 for one in back),
        pending_bytes=rule.pending_bytes + sum(one.bytes for one in back),
        tried_through=retraining.through,
        counted_through=0,
    )
