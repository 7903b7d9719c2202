"""Whatever happens in whatever order: money, order and states hold."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from spotune.contracts.base import MICRO
from spotune.contracts.events import (
    AttemptAccepted,
    AttemptRefused,
    CancelRequested,
    Event,
    PauseRequested,
    Refused,
    ResumeRequested,
    RungDue,
)
from spotune.contracts.job import Decision, JobError, JobRecord
from spotune.contracts.money import STOP_LATENCY
from spotune.contracts.training import Failure
from spotune.lifecycle import decide, open_prepared
from tests.factories import NOW, job, observed, prepared, report

names = st.sampled_from([f"ftjob-abc-{number}" for number in range(1, 5)])
shares = st.floats(0, 1)


@st.composite
def events(draw: st.DrawFn) -> tuple[Event, float]:
    """An event, and the share of its attempt's longest run that was billed."""
    name, share = draw(names), draw(shares)
    final = {"report": report()} if draw(st.booleans()) else {}
    fault = {"exit_code": 2, "failure": Failure(code="bad", message="bad")} if draw(st.booleans()) else {}
    event = draw(
        st.sampled_from(
            [
                prepared(),
                Refused(error=JobError(code="no_rows", message="none")),
                AttemptAccepted(name=name),
                AttemptRefused(name=name, reason="quota", message="q"),
                AttemptRefused(name=name, reason="capacity", message="c"),
                AttemptRefused(name=name, reason="cancelled", message="x"),
                CancelRequested(),
                PauseRequested(),
                ResumeRequested(),
                RungDue(),
                observed(name, secondary_status="Starting"),
                observed(name),
                observed(name, secondary_status="Interrupted", interruptions=1),
                observed(name, interruptions=1),
                observed(name, status="Stopping", secondary_status="Stopping"),
                observed(name, status="Completed", secondary_status="Completed", **final),
                observed(name, status="Failed", secondary_status="Failed", failure_reason="x", **fault),
                observed(name, status="Stopped", secondary_status="Stopped"),
                observed(name, status="Stopped", secondary_status="MaxWaitTimeExceeded"),
                observed(name, status="Stopped", secondary_status="MaxRuntimeExceeded"),
            ]
        )
    )
    return event, share


def billed(record: JobRecord, event: Event, share: float) -> Event:
    """The event with seconds that SageMaker could bill at most for its attempt."""
    attempt = next((one for one in record.attempts if one.name == getattr(event, "name", "")), None)
    if attempt is None or event.kind != "training_observed":
        return event
    return event.with_(billable_seconds=int(share * (attempt.max_runtime + STOP_LATENCY)))


def check(before: JobRecord, decision: Decision) -> None:
    after = decision.job
    assert after.version == before.version + 1
    assert [line.sequence for line in decision.log] == list(range(before.event_seq + 1, after.event_seq + 1))
    assert before.reserved + decision.ledger.reserve - decision.ledger.release == after.reserved
    assert before.billed + decision.ledger.settle == after.billed
    assert after.reserved == sum(attempt.reserved for attempt in after.attempts)
    assert sum(attempt.outcome is None for attempt in after.attempts) <= 1
    if before.terminal:
        assert after.state == before.state
    if not after.open:
        assert after.reserved == 0
    if after.terminal:
        assert after.finished_at is not None


@settings(max_examples=300)
@given(st.lists(events(), max_size=25), st.sampled_from([MICRO // 5, 2 * MICRO, 50 * MICRO]))
def test_no_order_of_events_breaks_money_sequence_or_state(happened: list[tuple[Event, float]], cap: int) -> None:
    record = open_prepared(job(cap=cap), prepared(), NOW).job
    for number, (event, share) in enumerate(happened):
        happening = billed(record, event, share)
        for no_funds in ("", "the limit is reached"):
            if other := decide(record, happening, NOW + 700 * number, no_funds=no_funds):
                check(record, other)
                assert not (no_funds and other.ledger.reserve)
        decision = decide(record, happening, NOW + 700 * number)
        if decision is None:
            continue
        record = decision.job
        assert record.billed + record.reserved <= record.cap


@settings(max_examples=150)
@given(st.lists(events(), max_size=20))
def test_an_event_that_comes_twice_in_a_row_moves_no_money_twice(happened: list[tuple[Event, float]]) -> None:
    record = open_prepared(job(), prepared(), NOW).job
    for event, share in happened:
        event = billed(record, event, share)
        decision = decide(record, event, NOW)
        if decision is None:
            continue
        record = decision.job
        if event.kind == "training_observed":
            again = decide(record, event, NOW)
            assert again is None or again.ledger.settle == 0
