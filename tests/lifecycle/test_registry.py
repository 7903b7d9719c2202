"""What may happen to a version and to a group's champion, by example and over random histories."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from spotune.contracts.errors import Conflict
from spotune.contracts.models import ModelGroup, ModelVersion
from spotune.contracts.verdict import GateDecision, Verdict
from spotune.lifecycle import registry
from spotune.lifecycle.registry import KEPT_CHANGES, Act, Move
from tests.factories import NOW, model_version

ACT = Act(by="key_1", at=NOW + 50, why="because")


@dataclass
class Registry:
    """A group and its versions, as a store would hold them."""

    group: ModelGroup = field(default_factory=lambda: ModelGroup(name="support", tenant="acme", created_at=NOW))
    versions: dict[int, ModelVersion] = field(default_factory=dict)

    @property
    def champion(self) -> ModelVersion | None:
        return None if self.group.champion is None else self.versions[self.group.champion]

    def take(self, move: Move | None) -> None:
        if move is not None:
            self.group = move.group
            self.versions |= {one.number: one for one in move.versions}

    def register(self, decision: GateDecision = "promote", *, fault: str = "", champion: str | None = "present") -> int:
        compared = (self.champion and self.champion.name) if champion == "present" else champion
        number = self.group.versions + 1
        verdict = Verdict(decision=decision, conditions=(), champion=compared, reason="so it was measured.")
        made = model_version(number, verdict=verdict, history=())
        self.take(registry.register(self.group, self.champion, made, NOW + number, fault=fault))
        return number

    def promote(self, number: int, fault: str = "") -> None:
        self.take(registry.promote(self.group, self.champion, self.versions[number], ACT, fault=fault))

    def approve(self, number: int, fault: str = "") -> None:
        self.take(registry.approve(self.group, self.champion, self.versions[number], ACT, fault=fault))

    def roll_back(self, fault: str = "") -> None:
        champion = self.champion
        assert champion is not None
        former = (self.versions[number] for number in registry.former_champions(self.group))
        nearest = next((one for one in former if one.status == "former"), None)
        self.take(registry.roll_back(self.group, champion, nearest, ACT, fault=fault))

    def replace(self, version: ModelVersion | None) -> None:
        if version is not None:
            self.versions[version.number] = version


@pytest.fixture
def kept() -> Registry:
    return Registry()


def test_the_verdict_gives_a_version_its_first_status(kept: Registry) -> None:
    for decision, status in (("promote", "champion"), ("hold", "awaiting_approval"), ("reject", "rejected")):
        version = kept.versions[kept.register(decision)]  # type: ignore[arg-type]
        assert version.status == status
        assert [(one.sequence, one.status, one.by, one.why) for one in version.history] == [
            (1, status, "gate", "so it was measured.")
        ]
        assert not version.settled
    assert (kept.group.champion, kept.group.versions) == (1, 3)


def test_a_champion_that_changed_since_the_gate_looked_is_not_replaced(kept: Registry) -> None:
    kept.register()
    late = kept.versions[kept.register(champion=None)]
    assert (late.status, kept.group.champion) == ("passed", 1)
    assert "no champion" in late.history[0].why
    assert kept.versions[1].name in late.history[0].why


def test_what_has_no_files_never_becomes_champion(kept: Registry) -> None:
    kept.register(fault="its folder is empty")
    assert (kept.versions[1].status, kept.group.champion) == ("passed", None)
    assert "its folder is empty" in kept.versions[1].history[0].why
    kept.register()
    held = kept.register("hold")
    kept.promote(kept.register(champion=None))
    for act in (lambda: kept.promote(1, "gone"), lambda: kept.approve(held, "gone"), lambda: kept.roll_back("gone")):
        with pytest.raises(Conflict) as refused:
            act()
        assert refused.value.code == "model_files_gone"
    assert kept.group.champion == 4


def test_a_replaced_champion_knows_by_whom_and_the_group_why(kept: Registry) -> None:
    kept.register()
    kept.promote(kept.register(champion=None))
    assert (kept.versions[1].status, kept.versions[2].status) == ("former", "champion")
    assert kept.versions[2].name in kept.versions[1].history[-1].why
    last = kept.group.history[-1]
    assert (last.number, last.before, last.by, last.why, last.rollback) == (2, 1, "key_1", "because", False)


@pytest.mark.parametrize(
    ("status", "remedy"), [("awaiting_approval", "Approve"), ("rejected", "train again"), ("deleted", "Train again")]
)
def test_what_may_not_be_promoted_says_why_and_what_to_do(kept: Registry, status: str, remedy: str) -> None:
    with pytest.raises(Conflict, match=remedy) as refused:
        registry.promote(kept.group, None, model_version(status=status), ACT)
    assert refused.value.code == "wrong_status"


def test_an_approval_of_what_was_compared_with_an_earlier_champion_lets_it_pass_only(kept: Registry) -> None:
    kept.register()
    held = kept.register("hold")
    kept.register()
    kept.approve(held)
    version = kept.versions[held]
    assert (version.status, kept.group.champion) == ("passed", 3)
    assert version.history[-1].by == "key_1"
    assert version.history[-1].why.startswith("because Its gate compared it with")


def test_rollbacks_go_further_back_each_time_and_end_with_a_reason(kept: Registry) -> None:
    for _ in range(3):
        kept.register()
    for before in (2, 1):
        kept.roll_back()
        assert (kept.group.champion, kept.versions[before].status) == (before, "champion")
        assert kept.group.history[-1].rollback
        assert kept.versions[before].history[-1].rollback
    with pytest.raises(Conflict) as refused:
        kept.roll_back()
    assert refused.value.code == "nothing_to_roll_back_to"


def test_a_promotion_after_a_rollback_is_what_is_gone_back_from_next(kept: Registry) -> None:
    for _ in range(3):
        kept.register()
    kept.roll_back()
    kept.register()
    assert registry.former_champions(kept.group) == (2, 1)
    kept.roll_back()
    assert kept.group.champion == 2


def test_a_version_that_was_promoted_twice_is_gone_back_from_step_by_step(kept: Registry) -> None:
    kept.register()
    kept.register()
    kept.promote(1)
    for expected in (2, 1):
        kept.roll_back()
        assert kept.group.champion == expected


def test_a_rollback_passes_over_what_was_deprecated_or_deleted(kept: Registry) -> None:
    for _ in range(4):
        kept.register()
    kept.replace(registry.deprecate(kept.versions[3], ACT))
    kept.replace(registry.delete(kept.versions[2], ACT))
    kept.roll_back()
    assert kept.group.champion == 1
    kept.promote(3)
    assert kept.group.champion == 3


@pytest.mark.parametrize("status", ["deprecated", "deleted", "rejected", "passed", "awaiting_approval"])
def test_what_is_no_former_champion_is_not_gone_back_to(kept: Registry, status: str) -> None:
    kept.register()
    champion = kept.champion
    assert champion is not None
    with pytest.raises(Conflict) as refused:
        registry.roll_back(kept.group, champion, model_version(2, status=status), ACT)
    assert refused.value.code == "nothing_to_roll_back_to"


def test_a_champion_is_neither_deprecated_nor_deleted(kept: Registry) -> None:
    kept.register()
    for act in (registry.deprecate, registry.delete):
        with pytest.raises(Conflict, match="Promote another"):
            act(kept.versions[1], ACT)


def test_a_group_and_a_version_that_were_read_at_different_moments_write_each_version_once(kept: Registry) -> None:
    """The group still names version 1, which by its own record was replaced meanwhile."""
    kept.register()
    replaced = kept.versions[1].with_(status="former")
    move = registry.promote(kept.group, replaced, replaced, ACT)
    assert move is not None
    assert [one.number for one in move.versions] == [1]


def test_histories_keep_their_newest_changes_and_sequences_go_on(kept: Registry) -> None:
    kept.register()
    kept.register()
    for turn in range(KEPT_CHANGES + 5):
        kept.promote(1 if turn % 2 == 0 else 2)
    assert len(kept.group.history) == KEPT_CHANGES
    changes = [one.sequence for one in kept.versions[1].history]
    assert len(changes) == KEPT_CHANGES
    assert changes == list(range(changes[0], changes[0] + KEPT_CHANGES))
    assert registry.former_champions(kept.group)


def test_a_rollback_beyond_the_kept_history_leaves_a_line_of_one(kept: Registry) -> None:
    kept.register()
    kept.register()
    kept.roll_back()
    shortened = kept.group.with_(history=kept.group.history[-1:])
    assert registry.former_champions(shortened) == ()


class Histories(RuleBasedStateMachine):
    """Registrations and people's acts, in any order, each of which may come twice."""

    numbers = Bundle("numbers")

    def __init__(self) -> None:
        super().__init__()
        self.kept = Registry()
        self.faulty: set[int] = set()
        self.turned_away: set[int] = set()

    def _try(self, act: str, *arguments: object) -> None:
        """Do it twice: where the first time is done, the second changes nothing."""
        before = self.kept.group, dict(self.kept.versions)
        try:
            getattr(self.kept, act)(*arguments)
        except Conflict:
            assert (self.kept.group, self.kept.versions) == before, "what is refused changes nothing"
            return
        after = self.kept.group, dict(self.kept.versions)
        if act != "roll_back":
            getattr(self.kept, act)(*arguments)
            assert (self.kept.group, self.kept.versions) == after

    @rule(
        target=numbers,
        decision=st.sampled_from(["promote", "promote", "hold", "reject"]),
        late=st.booleans(),
        fault=st.sampled_from(["", "", "", "gone"]),
    )
    def register(self, decision: GateDecision, late: bool, fault: str) -> int:
        number = self.kept.register(decision, fault=fault, champion=None if late else "present")
        if fault:
            self.faulty.add(number)
        if decision == "reject":
            self.turned_away.add(number)
        return number

    @rule(number=numbers)
    def promote(self, number: int) -> None:
        self._try("promote", number, "gone" if number in self.faulty else "")

    @rule(number=numbers)
    def approve(self, number: int) -> None:
        self._try("approve", number, "gone" if number in self.faulty else "")

    @rule(number=numbers)
    def reject(self, number: int) -> None:
        try:
            self.kept.replace(registry.reject(self.kept.versions[number], ACT))
        except Conflict:
            return
        self.turned_away.add(number)

    @rule(number=numbers, act=st.sampled_from([registry.deprecate, registry.delete]))
    def put_away(self, number: int, act: object) -> None:
        try:
            self.kept.replace(act(self.kept.versions[number], ACT))  # type: ignore[operator]
        except Conflict:
            assert self.kept.versions[number].status in ("champion", "rejected", "deleted")

    @rule()
    def roll_back(self) -> None:
        if self.kept.group.champion is not None:
            self._try("roll_back")

    @rule(number=numbers)
    def promote_and_go_back(self, number: int) -> None:
        """It is as it was: the champion, and where a rollback would lead."""
        champion, line = self.kept.group.champion, registry.former_champions(self.kept.group)
        fault = "gone" if number in self.faulty else ""
        try:
            self.kept.promote(number, fault)
        except Conflict:
            return
        if champion is not None and self.kept.group.champion != champion:
            self.kept.roll_back()
            assert self.kept.group.champion == champion
            assert registry.former_champions(self.kept.group) == line

    @invariant()
    def one_champion_and_always_one(self) -> None:
        crowned = [number for number, one in self.kept.versions.items() if one.status == "champion"]
        champion = self.kept.group.champion
        assert crowned == ([] if champion is None else [champion])
        assert (champion is not None) == bool(self.kept.group.history)

    @invariant()
    def nothing_rejected_and_nothing_without_files_was_ever_champion(self) -> None:
        ever = {change.number for change in self.kept.group.history}
        assert not ever & (self.faulty | self.turned_away)

    @invariant()
    def each_change_says_who_and_continues_the_one_before(self) -> None:
        for version in self.kept.versions.values():
            assert version.history[-1].status == version.status
            assert [one.sequence for one in version.history] == list(range(1, len(version.history) + 1))
            assert all(one.by for one in version.history)
        champions = [change.before for change in self.kept.group.history[1:]]
        assert champions == [change.number for change in self.kept.group.history[:-1]]


TestHistories = Histories.TestCase
TestHistories.settings = settings(
    max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
