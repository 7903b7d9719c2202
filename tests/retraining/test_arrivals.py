"""What becomes of arrivals, whatever the order of their events."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from spotune.contracts.rules import Arrival, RuleRecord
from spotune.retraining.arrivals import (
    Change,
    Checked,
    accept,
    delete_object,
    delete_version,
    later,
    quarantine,
    release,
    set_aside,
)
from spotune.store.memory import MemoryStore
from tests.factories import NOW
from tests.rules import arrival, rule

RULE = "rule-support"


class Shelf:
    """A rule in a store, and changes of it as the service makes them."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.store.create_rule(rule())

    @property
    def rule(self) -> RuleRecord:
        found = self.store.find_rule(RULE)
        assert found is not None
        return found

    def of_bytes(self, sha256: str) -> Sequence[Arrival]:
        return self.store.arrivals_of_bytes(RULE, sha256)

    def write(self, change: Change) -> Change:
        if not change.empty:
            self.store.commit_arrivals(self.rule, change.rule, change.arrivals)
        return change

    def lands(self, name: str, version: str, order: str, body: str, rows: int = 10, **changes: object) -> Change:
        """An object version arrives, and is good."""
        self.store.record_arrival(arrival(name, version, sequencer=order, **changes))
        return self.checked(name, version, body, rows)

    def checked(self, name: str, version: str, body: str, rows: int = 10) -> Change:
        known = self.get(name, version)
        same = self.store.arrivals_of_object(RULE, known.uri)
        return self.write(
            accept(self.rule, known, Checked(body * 64, rows, "s3://hashes", "chat"), same, self.of_bytes, NOW + 5)
        )

    def deleted(self, name: str, order: str) -> Change:
        mark = arrival(name, f"mark-{order}", sequencer=order, state="deletion", etag="", bytes=0)
        same = self.store.arrivals_of_object(RULE, mark.uri)
        return self.write(delete_object(self.rule, mark, same, self.of_bytes, NOW))

    def get(self, name: str, version: str) -> Arrival:
        found = self.store.get_arrival(RULE, arrival(name).uri, version)
        assert found is not None
        return found

    def state(self, name: str, version: str = "v1") -> str:
        return self.get(name, version).state

    @property
    def pending(self) -> tuple[int, int]:
        return self.rule.pending_rows, self.rule.pending_bytes


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.mark.parametrize(
    ("first", "second"), [("01", "02"), ("0A", "0b"), ("0055AE", "0055AE01"), ("0F", "1"), ("55aed6dc90", "55AED6DC91")]
)
def test_sequencers_are_compared_as_padded_hexadecimal(first: str, second: str) -> None:
    one, other = arrival(sequencer=first), arrival(sequencer=second)
    assert (later(other, one), later(one, other), later(one, one)) == (True, False, False)


def test_zeros_at_the_end_of_a_sequencer_mean_nothing() -> None:
    one, other = arrival(sequencer="0055AE"), arrival(sequencer="0055AE00")
    assert not later(one, other)
    assert not later(other, one)


def test_what_a_listing_found_goes_by_its_time() -> None:
    listed, event = arrival(sequencer="", arrived_at=NOW + 1), arrival(sequencer="FF", arrived_at=NOW)
    assert (later(listed, event), later(event, listed)) == (True, False)


def test_a_good_file_is_the_rule_s_newest_data(shelf: Shelf) -> None:
    shelf.lands("a", "v1", "01", "a")
    shelf.lands("b", "v1", "01", "b", rows=5)
    assert (shelf.get("a", "v1").sequence, shelf.get("b", "v1").sequence, shelf.rule.sequence) == (1, 2, 2)
    assert (shelf.pending, shelf.rule.last_arrival_at) == ((15, 2000), NOW + 5)
    assert (shelf.get("a", "v1").rows, shelf.get("a", "v1").sha256) == (10, "a" * 64)


def test_a_second_delivery_changes_nothing(shelf: Shelf) -> None:
    shelf.lands("a", "v1", "01", "a")
    assert shelf.lands("a", "v1", "01", "a").empty
    assert shelf.pending == (10, 1000)


def test_the_same_bytes_under_another_key_count_once(shelf: Shelf) -> None:
    shelf.lands("a", "v1", "01", "a")
    shelf.lands("copy", "v1", "01", "a")
    assert (shelf.state("copy"), shelf.pending) == ("duplicate", (10, 1000))
    assert "support/a" in shelf.get("copy", "v1").reason


def test_a_later_version_takes_the_place_of_an_earlier_one(shelf: Shelf) -> None:
    shelf.lands("a", "v1", "01", "a")
    shelf.lands("a", "v2", "02", "b", rows=3)
    assert (shelf.state("a"), shelf.state("a", "v2"), shelf.pending) == ("superseded", "accepted", (3, 1000))


def test_an_earlier_version_that_comes_late_does_not_count(shelf: Shelf) -> None:
    shelf.lands("a", "v2", "02", "b", rows=3)
    shelf.lands("a", "v1", "01", "a")
    assert (shelf.state("a"), shelf.state("a", "v2"), shelf.pending) == ("superseded", "accepted", (3, 1000))


def test_an_earlier_version_does_not_come_back_when_the_later_one_was_overtaken_as_well(shelf: Shelf) -> None:
    shelf.lands("a", "v2", "02", "b")
    shelf.lands("a", "v3", "03", "c")
    shelf.lands("a", "v1", "01", "a")
    assert [shelf.state("a", version) for version in ("v1", "v2", "v3")] == ["superseded", "superseded", "accepted"]


def test_a_file_written_again_unchanged_counts_once_and_goes_on_counting(shelf: Shelf) -> None:
    shelf.lands("a", "v1", "01", "a")
    shelf.lands("a", "v2", "02", "a")
    shelf.lands("a", "v3", "03", "a")
    states = [shelf.state("a", version) for version in ("v1", "v2", "v3")]
    assert (states, shelf.pending) == (["accepted", "superseded", "duplicate"], (10, 1000))


def test_a_file_that_was_written_again_unchanged_is_deleted_whole(shelf: Shelf) -> None:
    shelf.lands("a", "v1", "01", "a")
    shelf.lands("a", "v2", "02", "a")
    shelf.deleted("a", "03")
    assert (shelf.state("a"), shelf.state("a", "v2"), shelf.pending) == ("gone", "gone", (0, 0))


def test_a_bad_later_version_leaves_the_earlier_one_counting(shelf: Shelf) -> None:
    shelf.lands("a", "v1", "01", "a")
    bad = shelf.store.record_arrival(arrival("a", "v2", sequencer="02"))
    shelf.write(quarantine(shelf.rule, bad, "line 3: not JSON", "s3://report"))
    assert (shelf.state("a"), shelf.state("a", "v2"), shelf.pending) == ("accepted", "quarantined", (10, 1000))
    assert quarantine(shelf.rule, shelf.get("a", "v2"), "again").empty
    assert quarantine(shelf.rule, shelf.get("a", "v1"), "too late").empty


def test_a_deleted_key_counts_no_more(shelf: Shelf) -> None:
    shelf.lands("a", "v1", "01", "a")
    shelf.deleted("a", "02")
    assert (shelf.state("a"), shelf.pending) == ("gone", (0, 0))
    assert shelf.deleted("a", "02").empty


def test_a_deletion_that_comes_before_its_creation_holds(shelf: Shelf) -> None:
    shelf.deleted("a", "02")
    shelf.lands("a", "v1", "01", "a")
    assert (shelf.state("a"), shelf.pending) == ("gone", (0, 0))


def test_a_deletion_that_comes_late_leaves_what_was_written_since(shelf: Shelf) -> None:
    shelf.lands("a", "v1", "01", "a")
    shelf.lands("a", "v2", "03", "b", rows=3)
    shelf.deleted("a", "02")
    assert (shelf.state("a"), shelf.state("a", "v2"), shelf.pending) == ("superseded", "accepted", (3, 1000))


def test_the_version_that_was_deleted_counts_no_more_and_others_do(shelf: Shelf) -> None:
    shelf.lands("a", "v1", "01", "a")
    shelf.lands("b", "v1", "01", "b")
    shelf.write(delete_version(shelf.rule, shelf.get("a", "v1"), shelf.of_bytes, NOW))
    assert (shelf.state("a"), shelf.state("b"), shelf.pending) == ("gone", "accepted", (10, 1000))
    assert delete_version(shelf.rule, shelf.get("a", "v1"), shelf.of_bytes, NOW).empty


@pytest.mark.parametrize(
    "fall",
    [
        lambda shelf: shelf.deleted("a", "02"),
        lambda shelf: shelf.lands("a", "v2", "02", "c", rows=1),
        lambda shelf: shelf.write(delete_version(shelf.rule, shelf.get("a", "v1"), shelf.of_bytes, NOW)),
    ],
    ids=["deleted", "overwritten", "version deleted"],
)
def test_a_copy_counts_once_what_it_repeats_is_gone(shelf: Shelf, fall: Callable[[Shelf], Change]) -> None:
    shelf.lands("a", "v1", "01", "a")
    for number, name in enumerate(("copy", "copy2"), 1):
        shelf.lands(name, "v1", "01", "a", arrived_at=NOW + number)
    fall(shelf)
    assert [shelf.state(name) for name in ("copy", "copy2")] == ["accepted", "duplicate"]
    assert shelf.pending[0] - (1 if shelf.rule.sequence == 3 else 0) == 10


def test_a_copy_that_was_itself_overwritten_does_not_come_back(shelf: Shelf) -> None:
    shelf.lands("a", "v1", "01", "a")
    shelf.lands("copy", "v1", "01", "a")
    shelf.lands("copy", "v2", "02", "b", rows=3)
    shelf.deleted("a", "02")
    assert (shelf.state("copy"), shelf.state("copy", "v2"), shelf.pending) == ("superseded", "accepted", (3, 1000))


def test_what_a_retraining_has_is_overtaken_too_and_takes_nothing_from_what_is_pending(shelf: Shelf) -> None:
    shelf.lands("a", "v1", "01", "a")
    shelf.store.replace_rule(shelf.rule, shelf.rule.with_(claimed=1, pending_rows=0, pending_bytes=0))
    shelf.lands("a", "v2", "02", "b", rows=3)
    assert (shelf.state("a"), shelf.pending) == ("superseded", (3, 1000))
    shelf.store.replace_rule(shelf.rule, shelf.rule.with_(claimed=2, pending_rows=0, pending_bytes=0))
    shelf.deleted("a", "03")
    assert (shelf.state("a", "v2"), shelf.pending) == ("gone", (0, 0))


def test_an_exact_count_does_not_outlive_what_it_counted(shelf: Shelf) -> None:
    shelf.lands("a", "v1", "01", "a")
    shelf.store.replace_rule(shelf.rule, shelf.rule.with_(counted_through=1, counted_rows=10))
    shelf.deleted("a", "02")
    assert shelf.rule.counted_through == 0


class TestSetAside:
    @pytest.fixture
    def shelf(self) -> Shelf:
        """One that was taken by a retraining, and one that came since."""
        shelf = Shelf()
        shelf.lands("a", "v1", "01", "a")
        shelf.store.replace_rule(shelf.rule, shelf.rule.with_(claimed=1, pending_rows=0, pending_bytes=0))
        shelf.lands("b", "v1", "01", "b", rows=5)
        return shelf

    def aside(self, shelf: Shelf) -> Change:
        return shelf.write(set_aside(shelf.rule, shelf.store.accepted_arrivals(RULE, after=0, through=9), "rejected"))

    def test_data_that_a_retraining_had_is_set_aside_and_no_other(self, shelf: Shelf) -> None:
        self.aside(shelf)
        assert (shelf.state("a"), shelf.state("b"), shelf.pending) == ("set_aside", "accepted", (5, 1000))
        assert self.aside(shelf).empty

    def test_the_same_bytes_again_are_not_new_data(self, shelf: Shelf) -> None:
        self.aside(shelf)
        shelf.lands("again", "v1", "01", "a")
        assert shelf.state("again") == "duplicate"

    def test_released_data_is_the_newest(self, shelf: Shelf) -> None:
        self.aside(shelf)
        shelf.write(release(shelf.rule, [shelf.get("a", "v1"), shelf.get("b", "v1")], NOW))
        assert (shelf.state("a"), shelf.get("a", "v1").sequence, shelf.pending) == ("accepted", 3, (15, 2000))
        assert release(shelf.rule, [shelf.get("a", "v1")], NOW).empty

    def test_data_that_was_overwritten_while_it_was_set_aside_stays_out(self, shelf: Shelf) -> None:
        self.aside(shelf)
        shelf.lands("a", "v2", "02", "c", rows=1)
        assert shelf.state("a") == "superseded"
        assert release(shelf.rule, [shelf.get("a", "v1")], NOW).empty

    def test_a_copy_takes_the_very_place_of_what_was_set_aside_once_that_is_gone(self, shelf: Shelf) -> None:
        self.aside(shelf)
        shelf.lands("copy", "v1", "01", "a")
        shelf.deleted("a", "02")
        assert (shelf.state("a"), shelf.state("copy"), shelf.pending) == ("gone", "set_aside", (5, 1000))
        (placed,) = shelf.store.accepted_arrivals(RULE, after=0, through=1)
        assert placed == shelf.get("copy", "v1")
        shelf.write(release(shelf.rule, [placed], NOW))
        assert (shelf.state("copy"), shelf.pending) == ("accepted", (15, 2000))
