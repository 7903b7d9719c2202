"""Random histories of a rule: objects are written, copied and deleted, their events come twice, late and in any order,
changes are lost or made on what others have changed, time passes, retrainings end in every way."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from random import Random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from spotune.contracts.errors import VersionConflict
from spotune.contracts.rules import Arrival, Retraining, RuleRecord
from spotune.contracts.verdict import GateDecision
from spotune.retraining.arrivals import (
    Change,
    Checked,
    accept,
    delete_object,
    quarantine,
    release,
    set_aside,
)
from spotune.retraining.course import Ending, begin, counted, ended, submitted
from spotune.retraining.due import DAY, Count, Fire, Known, Wait, by_hand, due, noted
from spotune.store.memory import MemoryStore
from tests import rules
from tests.factories import NOW

RULE = "rule-support"
CAP = 5_000_000
BUDGET = 12_000_000
PER_DAY = 3
NAMES = st.sampled_from(["a", "b"])
BODIES = st.sampled_from("12")
BAD = "x"
ROWS = {"1": 3, "2": 40}
PICK = st.integers(0, 1000)


class Histories(RuleBasedStateMachine):
    """A bucket with versions, the events of it, and a rule that hears of them."""

    def __init__(self) -> None:
        super().__init__()
        self.store = MemoryStore()
        self.now = NOW
        self.order = 0
        self.events: list[Arrival] = []
        """Not delivered yet, and those delivered: any may come at any time, again too."""
        self.bodies: dict[tuple[str, str], str] = {}
        self.old_rules: list[RuleRecord] = []

    @initialize(
        trigger=st.sampled_from([{"min_rows": 30}, {"min_rows": 30, "schedule": "0 */6 * * *"}, {"min_bytes": 1}])
    )
    def make(self, trigger: dict[str, object]) -> None:
        limits = {"quiet_seconds": 60, "min_interval_seconds": 600, "max_per_day": PER_DAY}
        request = rules.rule_request(trigger={**trigger, **limits}, monthly_budget_usd=BUDGET / 1e6)
        assert self.store.create_rule(rules.rule(request=request))

    @rule(name=NAMES, body=BODIES | st.just(BAD), comes=st.booleans())
    def write(self, name: str, body: str, comes: bool) -> None:
        self.order += 1
        version = f"v{self.order}"
        self.bodies[name, version] = body
        self.events.append(self.event(name, version, "arrived"))
        if comes:
            self.deliver(self.events[-1])

    @rule(name=NAMES)
    def delete(self, name: str) -> None:
        self.order += 1
        self.events.append(self.event(name, f"d{self.order}", "deletion"))

    @rule(pick=PICK)
    @precondition(lambda self: self.events)
    def event_comes(self, pick: int) -> None:
        self.deliver(self.events[pick % len(self.events)])

    @rule(pick=PICK)
    @precondition(lambda self: self.events)
    def change_is_lost(self, pick: int) -> None:
        """The process dies before it writes, after it has recorded."""
        event = self.events[pick % len(self.events)]
        if event.state == "arrived":
            self.store.record_arrival(event)

    @rule(pick=PICK, old=PICK)
    @precondition(lambda self: self.events and self.old_rules)
    def change_of_an_old_version_is_refused(self, pick: int, old: int) -> None:
        stale = self.old_rules[old % len(self.old_rules)]
        if stale.version == self.record.version:
            return
        change = self.change_of(self.events[pick % len(self.events)], stale)
        if change.empty:
            return
        try:
            self.store.commit_arrivals(stale, change.rule, change.arrivals)
        except VersionConflict:
            return
        raise AssertionError("a change was made on what another had changed")

    @rule(seconds=st.sampled_from([30, 600, 7200, DAY / 3, 5 * DAY]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(behind=st.sampled_from([0, 0, 3, 900]))
    def asked(self, behind: float) -> None:
        """By a machine whose clock may be behind."""
        before = self.record
        answer = due(before, Known(), CAP, self.now - behind)
        if isinstance(answer, Count):
            self.write_rule(before, counted(before, Known(), through=answer.through, rows=self.exact(before)))
        elif isinstance(answer, Fire):
            self.begin(before, answer, self.now - behind)
        elif (after := noted(before, answer)) != before:
            self.write_rule(before, after)

    @rule()
    def fired_by_hand(self) -> None:
        before = self.record
        answer = by_hand(before, CAP, self.now)
        if not isinstance(answer, Wait):
            self.begin(before, answer, self.now)

    @rule()
    @precondition(lambda self: self.live is not None)
    def taken(self) -> None:
        live = self.live
        assert live is not None
        self.store.commit_retraining(live, submitted(live, f"ftjob-{live.number}", self.now))

    @rule(
        state=st.sampled_from(["succeeded", "succeeded", "failed", "refused", "cancelled", "planned"]),
        decision=st.sampled_from(["promote", "hold", "reject"]),
        billed=st.integers(0, CAP),
        dies=st.booleans(),
    )
    @precondition(lambda self: self.live is not None)
    def ends(self, state: str, decision: GateDecision, billed: int, dies: bool) -> None:
        live = self.live
        assert live is not None
        ending = Ending(state, "", decision if state == "succeeded" else None, billed)  # type: ignore[arg-type]
        if ending.decision == "reject":
            self.commit(set_aside(self.record, self.claimed_by(live), "rejected"))
        if dies:
            return
        before = self.record
        after, over = ended(before, live, ending, self.claimed_by(live), self.now)
        self.store.commit_retraining(live, over, (before, after))
        assert ended(self.record, over, ending, (), self.now) == (self.record, over)

    @rule(number=PICK)
    def released(self, number: int) -> None:
        rejected = [one for one in self.retrainings if one.decision == "reject" and not one.released]
        if not rejected:
            return
        one = rejected[number % len(rejected)]
        copies = [copy for copy in self.claimed_by(one) if copy.state == "set_aside"]
        found = [self.store.get_arrival(RULE, copy.uri, copy.version_id) for copy in copies]
        self.commit(
            release(self.record, [one for one, copy in zip(found, copies, strict=True) if one == copy], self.now)
        )
        self.store.commit_retraining(one, one.with_(released=True))

    @invariant()
    def one_lives_at_a_time(self) -> None:
        living = [one.number for one in self.retrainings if not one.ended]
        assert living == ([] if self.record.live is None else [self.record.live])

    @invariant()
    def limits_hold(self) -> None:
        begun = [one.created_at for one in self.retrainings]
        assert begun == sorted(begun)
        assert all(later - earlier >= 600 for earlier, later in pairwise(begun))
        assert all(later - earlier >= DAY for earlier, later in zip(begun, begun[PER_DAY:], strict=False))

    @invariant()
    def no_month_costs_more_than_its_budget(self) -> None:
        spent: dict[str, int] = {}
        for one in self.retrainings:
            worst = one.cap if one.billed is None else one.billed
            spent[one.month] = spent.get(one.month, 0) + worst
        assert all(money <= BUDGET for money in spent.values())
        assert self.record.spent == spent.get(self.record.month, 0)

    @invariant()
    def what_is_pending_is_what_nobody_has(self) -> None:
        pending = [
            one for one in self.arrivals if one.state == "accepted" and (one.sequence or 0) > self.record.claimed
        ]
        assert self.record.pending_rows == sum(one.rows or 0 for one in pending)
        assert self.record.pending_bytes == sum(one.bytes for one in pending)

    @invariant()
    def no_arrival_is_claimed_twice_or_lost(self) -> None:
        having = [one for one in self.retrainings if not one.ended or one.state == "succeeded"]
        for earlier, later in pairwise(having):
            assert earlier.through <= later.after, "two retrainings have the same data"
        for one in self.arrivals:
            if one.state == "accepted" and (one.sequence or 0) <= self.record.claimed:
                holders = [r.number for r in having if r.after < (one.sequence or 0) <= r.through]
                assert len(holders) == 1, f"{one.uri} {one.version_id} belongs to {holders}"

    @invariant()
    def the_same_bytes_count_once(self) -> None:
        hashes = [one.sha256 for one in self.arrivals if one.state in ("accepted", "set_aside")]
        assert len(hashes) == len(set(hashes))
        sequences = [one.sequence for one in self.arrivals if one.state == "accepted"]
        assert len(sequences) == len(set(sequences))

    @rule(order=st.randoms(use_true_random=False))
    def every_event_has_come_once_more(self, order: Random) -> None:
        """Then the rule has each good version that is there, once, and nothing else: whatever came before."""
        order.shuffle(self.events)
        for event in self.events:
            self.deliver(event)
        wanted: set[str] = set()
        for name in {name for name, _ in self.bodies}:
            versions = [int(version[1:]) for of, version in self.bodies if of == name]
            good = [place for place in sorted(versions) if self.bodies[name, f"v{place}"] != BAD]
            deletions = [event for event in self.events if event.state == "deletion"]
            gone = max((event.sequencer for event in deletions if event.uri.endswith(f"/{name}")), default="")
            alive = [place for place in good if self.sequencer(place) > gone]
            if alive:
                wanted.add(self.bodies[name, f"v{alive[-1]}"])
        counting = {one.sha256 for one in self.arrivals if one.state in ("accepted", "set_aside")}
        assert counting == {body * 64 for body in wanted}

    @property
    def record(self) -> RuleRecord:
        found = self.store.find_rule(RULE)
        assert found is not None
        return found

    @property
    def arrivals(self) -> Sequence[Arrival]:
        return self.store.list_arrivals("acme", RULE, after=None, limit=1000).items

    @property
    def retrainings(self) -> list[Retraining]:
        return list(self.store.list_retrainings("acme", RULE, after=0, limit=1000).items)[::-1]

    @property
    def live(self) -> Retraining | None:
        return next((one for one in self.retrainings if not one.ended), None)

    def claimed_by(self, one: Retraining) -> list[Arrival]:
        return list(self.store.accepted_arrivals(RULE, after=one.after, through=one.through))

    def of_bytes(self, sha256: str) -> Sequence[Arrival]:
        return self.store.arrivals_of_bytes(RULE, sha256)

    def exact(self, rule: RuleRecord) -> int:
        there = self.store.accepted_arrivals(RULE, after=rule.claimed, through=rule.sequence)
        return sum(one.rows or 0 for one in there if one.state == "accepted")

    def sequencer(self, order: int) -> str:
        return f"{order:06X}"

    def event(self, name: str, version: str, state: str) -> Arrival:
        made = {"sequencer": self.sequencer(self.order), "arrived_at": self.now, "state": state}
        return rules.arrival(name, version, **(made if state == "arrived" else {**made, "etag": "", "bytes": 0}))

    def deliver(self, event: Arrival) -> None:
        if event.state == "arrived":
            self.store.record_arrival(event)
        self.commit(self.change_of(event, self.record))

    def change_of(self, event: Arrival, rule: RuleRecord) -> Change:
        name = event.uri.rpartition("/")[2]
        same = self.store.arrivals_of_object(RULE, event.uri)
        if event.state == "deletion":
            return delete_object(rule, event, same, self.of_bytes, self.now)
        known = self.store.record_arrival(event)
        body = self.bodies[name, event.version_id]
        if body == BAD:
            return quarantine(rule, known, "bad")
        return accept(rule, known, Checked(body * 64, ROWS[body], "s3://hashes", "chat"), same, self.of_bytes, self.now)

    def begin(self, before: RuleRecord, fire: Fire, now: float) -> None:
        after, made = begin(before, fire.cause, CAP, now)
        self.store.begin_retraining(before, after, made)
        try:
            self.store.begin_retraining(before, after, made)
        except VersionConflict:
            return
        raise AssertionError("a retraining was begun twice")

    def commit(self, change: Change) -> None:
        if not change.empty:
            self.old_rules.append(self.record)
            self.store.commit_arrivals(self.record, change.rule, change.arrivals)

    def write_rule(self, before: RuleRecord, after: RuleRecord) -> None:
        self.old_rules.append(before)
        self.store.replace_rule(before, after)


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
