"""Rules, arrivals and retrainings: what every store must do with them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from spotune.contracts.errors import RequestRefused, VersionConflict
from spotune.contracts.rules import Arrival, Retraining, RuleRecord
from spotune.store.base import Store
from spotune.store.retraining import MOST_ARRIVALS
from tests.factories import NOW
from tests.rules import arrival, retraining, rule, rule_request

RULE = "rule-support"


def kept(store: Store, **changes: object) -> RuleRecord:
    """A rule that the store has."""
    made = rule(**changes)
    assert store.create_rule(made)
    return found(store, made.id)


def found(store: Store, rule_id: str = RULE) -> RuleRecord:
    there = store.find_rule(rule_id)
    assert there is not None
    return there


def accepted(sequence: int, name: str = "", **changes: object) -> Arrival:
    return arrival(
        name or f"{sequence}.jsonl", state="accepted", sequence=sequence, sha256=f"{sequence:064d}", rows=7, **changes
    )


class TestRules:
    def test_a_new_rule_is_read_back_as_it_was_with_version_1(self, store: Store) -> None:
        made = rule(begun=(NOW, NOW + 1), live=3, waiting_for="x" * 3000)
        assert store.create_rule(made)
        assert store.get_rule("acme", RULE) == store.find_rule(RULE) == made.with_(version=1)

    def test_a_second_rule_of_its_id_is_not_kept_even_where_the_first_was_deleted(self, store: Store) -> None:
        first = kept(store)
        assert not store.create_rule(rule(key="another"))
        store.replace_rule(first, first.with_(deleted_at=NOW))
        assert not store.create_rule(rule(key="another"))
        assert found(store).key == ""

    def test_a_deleted_rule_is_in_no_list_and_found_by_the_control_plane_alone(self, store: Store) -> None:
        first = kept(store)
        store.replace_rule(first, first.with_(deleted_at=NOW))
        assert store.get_rule("acme", RULE) is None
        assert store.list_rules("acme", after=None, limit=5).items == ()
        assert list(store.rules_of_bucket("data")) == list(store.active_rules()) == []
        assert found(store).deleted_at == NOW

    def test_a_deleted_rule_stays_active_until_its_retraining_has_ended(self, store: Store) -> None:
        first = kept(store, live=1)
        store.replace_rule(first, first.with_(deleted_at=NOW))
        assert [one.id for one in store.active_rules()] == [RULE]
        store.replace_rule(found(store), found(store).with_(live=None))
        assert list(store.active_rules()) == []

    def test_a_rule_that_is_off_is_of_its_bucket_but_not_active(self, store: Store) -> None:
        kept(store, request=rule_request(enabled=False))
        assert [one.id for one in store.rules_of_bucket("data")] == [RULE]
        assert list(store.active_rules()) == list(store.rules_of_bucket("other")) == []

    def test_another_tenant_s_rule_looks_missing(self, store: Store) -> None:
        kept(store)
        assert store.get_rule("globex", RULE) is None
        assert store.list_rules("globex", after=None, limit=5).items == ()

    def test_rules_come_newest_first_page_by_page(self, store: Store) -> None:
        for number in range(5):
            kept(store, id=f"rule-{number}", created_at=NOW + number)
        first = store.list_rules("acme", after=None, limit=2)
        assert ([one.id for one in first.items], first.has_more) == (["rule-4", "rule-3"], True)
        last = store.list_rules("acme", after="rule-2", limit=2)
        assert ([one.id for one in last.items], last.has_more) == (["rule-1", "rule-0"], False)

    def test_a_cursor_that_names_no_rule_of_the_tenant_s_is_refused(self, store: Store) -> None:
        kept(store)
        for tenant, after in (("acme", "rule-x"), ("globex", RULE), ("acme", "x" * 300)):
            with pytest.raises(RequestRefused) as refused:
                store.list_rules(tenant, after=after, limit=2)
            assert refused.value.code == "unknown_cursor"

    def test_a_change_on_an_old_version_is_a_conflict_and_changes_nothing(self, store: Store) -> None:
        old = kept(store)
        store.replace_rule(old, old.with_(pending_rows=5))
        with pytest.raises(VersionConflict):
            store.replace_rule(old, old.with_(pending_rows=9))
        assert (found(store).pending_rows, found(store).version) == (5, 2)

    def test_a_rule_that_was_never_made_cannot_be_changed(self, store: Store) -> None:
        with pytest.raises(VersionConflict):
            store.replace_rule(rule(version=0), rule())
        assert store.find_rule(RULE) is None

    def test_a_change_cannot_move_a_rule_to_another_tenant(self, store: Store) -> None:
        mine = kept(store)
        with pytest.raises(ValueError, match="globex"):
            store.replace_rule(mine, mine.with_(tenant="globex"))

    def test_an_id_that_no_rule_could_have_is_missing(self, store: Store) -> None:
        for strange in ("", "x" * 300, "r\u00fcle", "a\nb"):
            assert store.get_rule("acme", strange) is store.find_rule(strange) is None
            assert store.list_retrainings("acme", strange, after=0, limit=3).items == ()
            assert store.get_retraining("acme", strange, 1) is None
            assert store.arrivals_of_object(strange, "s3://data/a") == store.arrivals_of_bytes(strange, "1" * 64) == ()
            assert list(store.accepted_arrivals(strange, after=0, through=9)) == []
            assert store.list_arrivals("acme", strange, after=None, limit=3).items == ()


class TestArrivals:
    def test_an_object_version_is_recorded_once(self, store: Store) -> None:
        assert store.record_arrival(arrival()) == arrival()
        assert store.record_arrival(arrival(arrived_at=NOW + 9, bytes=5)) == arrival()
        assert store.record_arrival(arrival(version_id="v2")) == arrival(version_id="v2")
        assert store.get_arrival(RULE, arrival().uri, "v1") == arrival()

    def test_an_object_version_is_recorded_once_for_each_rule(self, store: Store) -> None:
        store.record_arrival(arrival())
        other = arrival(rule_id="rule-other")
        assert store.get_arrival("rule-other", other.uri, "v1") is None
        assert store.record_arrival(other) == other

    def test_arrivals_recorded_at_once_are_one(self, store: Store) -> None:
        with ThreadPoolExecutor(6) as pool:
            told = list(pool.map(lambda size: store.record_arrival(arrival(bytes=size)), range(1, 13)))
        assert len(set(told)) == 1

    def test_a_rule_and_its_arrivals_change_together_or_not_at_all(self, store: Store) -> None:
        old = kept(store)
        store.commit_arrivals(old, old.with_(sequence=1), (accepted(1),))
        with pytest.raises(VersionConflict):
            store.commit_arrivals(old, old.with_(sequence=2), (accepted(2),))
        assert store.get_arrival(RULE, accepted(2).uri, "v1") is None
        assert list(store.accepted_arrivals(RULE, after=0, through=9)) == [accepted(1)]
        assert (found(store).sequence, found(store).version) == (1, 2)

    def test_as_many_arrivals_change_at_once_as_are_promised(self, store: Store) -> None:
        old = kept(store)
        many = tuple(accepted(number) for number in range(1, MOST_ARRIVALS + 2))
        store.commit_arrivals(old, old, many[:-1])
        assert list(store.accepted_arrivals(RULE, after=0, through=999)) == list(many[:-1])
        with pytest.raises(ValueError, match="at most"):
            store.commit_arrivals(found(store), old, many)

    def test_accepted_arrivals_come_by_sequence_whatever_became_of_them(self, store: Store) -> None:
        old = kept(store)
        store.commit_arrivals(old, old, (accepted(3), accepted(1), accepted(11), accepted(2)))
        store.commit_arrivals(found(store), old, (accepted(2).with_(state="gone"),))
        states = [(one.sequence, one.state) for one in store.accepted_arrivals(RULE, after=1, through=11)]
        assert states == [(2, "gone"), (3, "accepted"), (11, "accepted")]
        assert list(store.accepted_arrivals(RULE, after=3, through=3)) == []
        assert [one.sequence for one in store.accepted_arrivals(RULE, after=0, through=2)] == [1, 2]

    def test_one_that_gets_another_sequence_leaves_what_it_was_behind(self, store: Store) -> None:
        old = kept(store)
        store.commit_arrivals(old, old, (accepted(1).with_(state="set_aside"),))
        store.commit_arrivals(found(store), old, (accepted(1).with_(sequence=2),))
        states = [(one.sequence, one.state) for one in store.accepted_arrivals(RULE, after=0, through=9)]
        assert states == [(1, "set_aside"), (2, "accepted")]

    def test_the_versions_of_a_key_are_found_and_no_other_s(self, store: Store) -> None:
        old = kept(store)
        store.record_arrival(arrival(version_id="v2", arrived_at=NOW + 2))
        store.commit_arrivals(old, old, (accepted(1, "a.jsonl"),))
        store.record_arrival(arrival("a.jsonl.dvc"))
        versions = store.arrivals_of_object(RULE, arrival().uri)
        assert [(one.version_id, one.state) for one in versions] == [("v1", "accepted"), ("v2", "arrived")]

    def test_the_arrivals_of_the_same_bytes_are_found_as_they_are_now(self, store: Store) -> None:
        old = kept(store)
        first, twin = accepted(1), accepted(1, "b.jsonl", arrived_at=NOW + 1).with_(state="duplicate", sequence=None)
        store.commit_arrivals(old, old, (first, twin, accepted(2)))
        assert store.arrivals_of_bytes(RULE, f"{1:064d}") == (first, twin)
        store.commit_arrivals(found(store), old, (first.with_(state="gone"),))
        assert [one.state for one in store.arrivals_of_bytes(RULE, f"{1:064d}")] == ["gone", "duplicate"]
        assert store.arrivals_of_bytes(RULE, "f" * 64) == store.arrivals_of_bytes("rule-other", f"{1:064d}") == ()

    def test_a_key_may_be_as_long_as_s3_takes_it_and_hold_any_character(self, store: Store) -> None:
        long = arrival("\u00e4#%2F " + "x" * 990, version_id="\u00e9" * 500)
        assert store.record_arrival(long) == store.get_arrival(RULE, long.uri, long.version_id) == long
        after = f"{long.uri}#{long.version_id}"
        assert store.list_arrivals("acme", RULE, after=after, limit=3).items == ()

    def test_arrivals_come_newest_first_page_by_page_and_by_state(self, store: Store) -> None:
        old = kept(store)
        for number in range(4):
            store.record_arrival(arrival(f"{number}", arrived_at=NOW + number))
        store.commit_arrivals(old, old, (arrival("1", arrived_at=NOW + 1, state="quarantined"),))
        names = [one.uri[-1] for one in store.list_arrivals("acme", RULE, after=None, limit=9).items]
        assert names == ["3", "2", "1", "0"]
        page = store.list_arrivals("acme", RULE, after=f"{arrival('3').uri}#v1", limit=2)
        assert ([one.uri[-1] for one in page.items], page.has_more) == (["2", "1"], True)
        page = store.list_arrivals("acme", RULE, after=None, limit=2, state="arrived")
        assert ([one.uri[-1] for one in page.items], page.has_more) == (["3", "2"], True)
        page = store.list_arrivals("acme", RULE, after=f"{arrival('2').uri}#v1", limit=2, state="arrived")
        assert ([one.uri[-1] for one in page.items], page.has_more) == (["0"], False)
        assert [one.uri[-1] for one in store.list_arrivals("acme", RULE, after=None, limit=2, state="gone").items] == []

    def test_another_tenant_s_arrivals_look_missing(self, store: Store) -> None:
        store.record_arrival(arrival())
        assert store.list_arrivals("globex", RULE, after=None, limit=9).items == ()
        for tenant, after in (("globex", f"{arrival().uri}#v1"), ("acme", "s3://data/x#v1"), ("acme", "")):
            with pytest.raises(RequestRefused):
                store.list_arrivals(tenant, RULE, after=after, limit=9)

    def test_arrivals_that_nobody_looked_into_are_found_oldest_first(self, store: Store) -> None:
        old = kept(store)
        for number in (3, 1, 2):
            store.record_arrival(arrival(f"{number}", arrived_at=NOW + number))
        store.record_arrival(arrival("4", arrived_at=NOW, rule_id="rule-other"))
        store.commit_arrivals(old, old, (arrival("1", arrived_at=NOW + 1, state="quarantined"),))
        assert [one.uri[-1] for one in store.waiting_arrivals(NOW + 3)] == ["4", "2"]
        assert [one.uri[-1] for one in store.waiting_arrivals(NOW + 3.5)] == ["4", "2", "3"]

    def test_changes_at_once_are_one_change_and_conflicts(self, store: Store) -> None:
        old = kept(store)

        def commit(sequence: int) -> bool:
            try:
                store.commit_arrivals(old, old.with_(sequence=sequence), (accepted(sequence),))
            except VersionConflict:
                return False
            return True

        with ThreadPoolExecutor(6) as pool:
            done = [number for number, told in enumerate(pool.map(commit, range(1, 13)), 1) if told]
        assert len(done) == 1
        assert [one.sequence for one in store.accepted_arrivals(RULE, after=0, through=99)] == done
        assert found(store).sequence == done[0]


class TestRetrainings:
    def begun(self, store: Store, **changes: object) -> Retraining:
        rule_now = store.find_rule(RULE) or kept(store)
        made = retraining(**changes)
        store.begin_retraining(rule_now, rule_now.with_(live=made.number, retrainings=made.number), made)
        return made.with_(version=1)

    def test_a_retraining_begins_with_its_rule(self, store: Store) -> None:
        made = self.begun(store)
        assert store.get_retraining("acme", RULE, 1) == made
        assert (found(store).live, found(store).version) == (1, 2)

    def test_one_begins_of_two_that_would_at_once(self, store: Store) -> None:
        old = kept(store)
        store.begin_retraining(old, old.with_(live=1), retraining())
        for number in (1, 2):
            with pytest.raises(VersionConflict):
                store.begin_retraining(old, old.with_(live=number), retraining(number=number, cap=9))
        assert store.get_retraining("acme", RULE, 2) is None
        assert store.list_retrainings("acme", RULE, after=0, limit=9).items == (retraining(version=1),)

    def test_a_number_is_given_once(self, store: Store) -> None:
        self.begun(store)
        with pytest.raises(VersionConflict):
            self.begun(store, cap=9)
        assert found(store).version == 2

    def test_it_changes_alone_or_with_its_rule(self, store: Store) -> None:
        first = self.begun(store)
        store.commit_retraining(first, first.with_(state="submitted"))
        second = first.with_(state="submitted", version=2)
        assert store.get_retraining("acme", RULE, 1) == second
        rule_now = found(store)
        store.commit_retraining(second, second.with_(state="failed"), (rule_now, rule_now.with_(live=None)))
        assert store.get_retraining("acme", RULE, 1) == second.with_(state="failed", version=3)
        assert (found(store).live, found(store).version) == (None, rule_now.version + 1)

    @pytest.mark.parametrize("stale", ["retraining", "rule"])
    def test_a_change_on_an_old_version_of_either_changes_neither(self, store: Store, stale: str) -> None:
        first = self.begun(store)
        rule_now = found(store)
        if stale == "retraining":
            store.commit_retraining(first, first.with_(state="submitted"))
        else:
            store.replace_rule(rule_now, rule_now.with_(pending_rows=5))
        before = store.get_retraining("acme", RULE, 1), found(store)
        with pytest.raises(VersionConflict):
            store.commit_retraining(first, first.with_(state="failed"), (rule_now, rule_now.with_(live=None)))
        assert (store.get_retraining("acme", RULE, 1), found(store)) == before

    def test_they_come_newest_first_page_by_page(self, store: Store) -> None:
        for number in range(1, 12):
            self.begun(store, number=number)
        first = store.list_retrainings("acme", RULE, after=0, limit=3)
        assert ([one.number for one in first.items], first.has_more) == ([11, 10, 9], True)
        last = store.list_retrainings("acme", RULE, after=4, limit=3)
        assert ([one.number for one in last.items], last.has_more) == ([3, 2, 1], False)
        assert store.list_retrainings("acme", RULE, after=1, limit=3).items == ()

    def test_another_tenant_s_look_missing(self, store: Store) -> None:
        self.begun(store)
        assert store.get_retraining("globex", RULE, 1) is None
        assert store.list_retrainings("globex", RULE, after=0, limit=3).items == ()
        assert store.get_retraining("acme", RULE, 0) is store.get_retraining("acme", RULE, -1) is None


def test_one_damaged_record_keeps_nobody_from_the_others(dynamodb: object, table: str) -> None:
    from spotune.store.dynamo import DynamoStore

    client: Callable[..., object] = dynamodb.update_item  # type: ignore[attr-defined]
    store = DynamoStore(table, dynamodb)
    for number in (1, 2):
        kept(store, id=f"rule-{number}", created_at=NOW + number)
        store.record_arrival(arrival(f"{number}", arrived_at=NOW + number, rule_id=f"rule-{number}"))
    items = dynamodb.scan(TableName=table)["Items"]  # type: ignore[attr-defined]
    for item in (one for one in items if one["pk"]["S"] == "RULE#rule-1"):
        client(
            TableName=table,
            Key={"pk": item["pk"], "sk": item["sk"]},
            UpdateExpression="SET body = :body",
            ExpressionAttributeValues={":body": {"S": "{}"}},
        )
    assert [one.id for one in store.active_rules()] == ["rule-2"]
    assert [one.id for one in store.rules_of_bucket("data")] == ["rule-2"]
    assert [one.rule_id for one in store.waiting_arrivals(NOW + 9)] == ["rule-2"]
