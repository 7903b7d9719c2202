"""Arrivals: each object version is counted once for each rule, whatever events do."""

from __future__ import annotations

import json
import random
from concurrent.futures import ThreadPoolExecutor
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from spotune.contracts.errors import Unavailable
from spotune.contracts.landings import parse_landing
from spotune.contracts.rules import QuarantineReport
from spotune.contracts.sources import parse_grants
from spotune.service.installation import install
from spotune.service.retraining import file_checks
from tests.in_process import World
from tests.in_process import world as make_world
from tests.landings import Event, Landings, arrivals, made_rule, rows, states, stored

EVENTS = Path(__file__).parents[2] / "handlers" / "events"
IN = "s3://data/acme/in/"


@pytest.fixture
def world() -> World:
    made = make_world(versionless={"plain"}, sources=parse_grants("acme=plain/in"))
    install(made.here)
    return made


@pytest.fixture
def lands(world: World) -> Landings:
    return Landings(world)


def recorded(name: str) -> Event:
    event: Event = json.loads((EVENTS / f"s3_{name}.json").read_text())
    return event


class TestEvents:
    def test_a_key_is_taken_as_it_is_since_eventbridge_does_not_encode_it(self) -> None:
        landing = parse_landing(recorded("put"))
        assert landing.uri == "s3://data/acme/in/a b+c%20d é漢#?.jsonl"
        assert (landing.kind, landing.version_id, landing.bytes) == ("created", "IYV3p45BT0ac8hjHg1houSdS1a.Mro8e", 5)
        assert (landing.etag, landing.sequencer) == ("b1946ac92492d2347c6235b4d2611184", "617f08299329d189")
        assert landing.at == 1_794_441_600

    @pytest.mark.parametrize(
        ("name", "kind", "version"),
        [
            ("multipart", "created", "IYV3p45BT0ac8hjHg1houSdS1a.Mro8f"),
            ("copy_versionless", "created", ""),
            ("delete_marker", "marked", "1QW9g1Z99LUNbvaaYVpW9xDlOLU.qxgF"),
            ("delete_version", "deleted", "mtB0cV.jejK63XkRNceanNMC.qXPWLeK"),
        ],
    )
    def test_what_s3_sends_is_read(self, name: str, kind: str, version: str) -> None:
        landing = parse_landing(recorded(name))
        assert (landing.kind, landing.version_id) == (kind, version)

    @pytest.mark.parametrize("body", ["", "[]", "null", '{"Records": []}', '{"detail-type": "Object Created"}'])
    def test_what_is_no_event_comes_again_until_it_lies_with_the_dead_letters(self, world: World, body: str) -> None:
        from spotune.service.retraining.arrivals import take

        made_rule(world)
        good = json.dumps(Landings(world).put(f"{IN}a.jsonl", rows(1)))
        assert take(world.here, {"bad": body, "good": good}) == ["bad"]
        assert states(world) == ["accepted"], "the others of the batch have their turn"


class TestOnce:
    def test_a_thousand_deliveries_count_once(self, world: World, lands: Landings) -> None:
        made_rule(world)
        event = lands.put(f"{IN}a.jsonl", rows(1, 2, 3))
        for _ in range(100):
            assert lands.send(*[event] * 10) == []
        rule = stored(world)
        assert (rule.pending_rows, rule.sequence, states(world)) == (3, 1, ["accepted"])

    def test_a_batch_that_tells_one_change_ten_times_reads_it_once(
        self, world: World, lands: Landings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made_rule(world)
        event, stream, read = lands.put(f"{IN}a.jsonl", b"nonsense\n"), world.objects.stream, list[str]()

        def counting(uri: str, **pinned: Any) -> Any:
            read.append(uri)
            return stream(uri, **pinned)

        monkeypatch.setattr(world.objects, "stream", counting)
        assert lands.send(*[event] * 10) == []
        assert len(read) == len(world.deliveries.messages) == 1

    @pytest.mark.parametrize("key", ["a b+c%20d é漢#?.jsonl", "plus+plus.jsonl", "%2B.jsonl", "deep/er/a.jsonl"])
    def test_keys_with_all_that_s3_takes_are_found_under_their_own_name(
        self, world: World, lands: Landings, key: str
    ) -> None:
        made_rule(world)
        lands.land(IN + key, rows(1))
        (arrival,) = arrivals(world)
        assert (arrival.uri, arrival.state) == (IN + key, "accepted")

    def test_the_longest_key_that_s3_takes(self, world: World, lands: Landings) -> None:
        made_rule(world)
        lands.land(IN + "k" * (1024 - len("acme/in/")), rows(1))
        lands.land(IN + "b" * (1024 - len("acme/in/")), b"no rows\n")
        assert sorted(states(world)) == ["accepted", "quarantined"]

    def test_two_rules_on_one_prefix_count_each_for_itself(self, world: World, lands: Landings) -> None:
        made_rule(world)
        made_rule(world, id="rule-other")
        lands.land(f"{IN}a.jsonl", rows(1, 2))
        for rule_id in ("rule-support", "rule-other"):
            assert stored(world, rule_id).pending_rows == 2
            assert states(world, rule_id) == ["accepted"]

    def test_the_same_bytes_count_once_and_again_when_the_first_are_gone(self, world: World, lands: Landings) -> None:
        made_rule(world)
        assert lands.send(lands.put(f"{IN}a.jsonl", rows(1)), lands.put(f"{IN}b.jsonl", rows(1))) == []
        assert states(world) == ["accepted", "duplicate"]
        assert stored(world).pending_rows == 1
        lands.send(lands.delete(f"{IN}a.jsonl"))
        assert [one.state for one in arrivals(world) if one.uri.endswith("b.jsonl")] == ["accepted"]
        assert stored(world).pending_rows == 1

    def test_a_burst_larger_than_one_transaction_is_counted_whole(self, world: World, lands: Landings) -> None:
        made_rule(world)
        events = [lands.put(f"{IN}{number}.jsonl", rows(number)) for number in range(100)]
        assert lands.send(*events) == []
        rule = stored(world)
        assert (rule.sequence, rule.pending_rows) == (100, 100)
        assert sorted(one.sequence or 0 for one in arrivals(world)) == list(range(1, 101))

    def test_what_arrived_is_checked_by_the_very_version_that_the_event_names(
        self, world: World, lands: Landings
    ) -> None:
        made_rule(world)
        first = lands.put(f"{IN}a.jsonl", rows(1))
        lands.put(f"{IN}a.jsonl", rows(2, 3))
        lands.send(first)
        (arrival,) = arrivals(world)
        assert (arrival.rows, arrival.bytes) == (1, len(rows(1)))


class TestOrder:
    @pytest.mark.parametrize("order", list(permutations(range(3))))
    def test_the_latest_of_the_versions_counts_in_whatever_order_they_are_told(
        self, world: World, lands: Landings, order: tuple[int, ...]
    ) -> None:
        made_rule(world)
        events = [lands.put(f"{IN}a.jsonl", rows(*range(number + 1))) for number in range(3)]
        for place in order:
            lands.send(events[place])
        lands.send(*(events[place] for place in order))
        assert sorted(states(world)) == ["accepted", "superseded", "superseded"]
        assert stored(world).pending_rows == 3

    def test_a_deletion_drops_what_came_before_it_even_where_that_is_told_later(
        self, world: World, lands: Landings
    ) -> None:
        made_rule(world)
        put, deleted = lands.put(f"{IN}a.jsonl", rows(1)), lands.delete(f"{IN}a.jsonl")
        lands.send(deleted)
        lands.send(put)
        assert [one.state for one in arrivals(world)].count("gone") == 1
        assert stored(world).pending_rows == 0
        lands.land(f"{IN}a.jsonl", rows(2, 3))
        assert stored(world).pending_rows == 2

    def test_a_version_that_is_deleted_for_good_drops_itself_alone(self, world: World, lands: Landings) -> None:
        made_rule(world)
        lands.land(f"{IN}a.jsonl", rows(1))
        lands.land(f"{IN}b.jsonl", rows(2, 3))
        gone = arrivals(world)[0]
        lands.send(lands.delete_version(gone.uri, gone.version_id))
        assert states(world) == ["gone", "accepted"]
        assert stored(world).pending_rows == 2

    def test_a_version_whose_deletion_is_told_first_never_counts(self, world: World, lands: Landings) -> None:
        made_rule(world)
        put = lands.put(f"{IN}a.jsonl", rows(1))
        lands.send(lands.delete_version(f"{IN}a.jsonl", put["detail"]["object"]["version-id"]))
        lands.send(put)
        assert states(world) == ["gone"]

    @pytest.mark.parametrize("seed", range(20))
    def test_any_history_in_any_order_with_repeats_ends_as_s3_does(
        self, world: World, lands: Landings, seed: int
    ) -> None:
        made_rule(world)
        dice = random.Random(seed)
        events: list[Event] = []
        for number in range(40):
            uri = f"{IN}{dice.randrange(6)}.jsonl"
            if dice.random() < 0.3 and world.objects.head(uri) is not None:
                events.append(lands.delete(uri))
            else:
                events.append(lands.put(uri, rows(*range(number, number + dice.randrange(1, 5)))))
        told = events + dice.choices(events, k=40)
        dice.shuffle(told)
        while told:
            lands.send(*(told.pop() for _ in range(min(len(told), dice.randrange(1, 11)))))
        there = {info.uri: info.etag for info in world.objects.list(IN)}
        counted = {one.uri: one.etag for one in arrivals(world) if one.state in ("accepted", "duplicate")}
        assert counted == there
        accepted = [one for one in arrivals(world) if one.state == "accepted"]
        assert stored(world).pending_rows == sum(one.rows or 0 for one in accepted)
        assert len({one.sha256 for one in accepted}) == len(set(there.values()))


class TestWithoutVersions:
    URI = "s3://plain/in/a.jsonl"

    @pytest.fixture(autouse=True)
    def rule(self, world: World) -> None:
        made_rule(world, request={"source": {"uri": "s3://plain/in/"}})

    def test_the_etag_stands_for_the_version(self, world: World, lands: Landings) -> None:
        event = lands.put(self.URI, rows(1))
        assert "version-id" not in event["detail"]["object"]
        lands.send(event, event)
        (arrival,) = arrivals(world)
        assert (arrival.version_id, arrival.state) == (arrival.etag, "accepted")

    def test_what_was_overwritten_before_it_was_looked_at_is_left_to_its_successor(
        self, world: World, lands: Landings
    ) -> None:
        first, second = lands.put(self.URI, rows(1)), lands.put(self.URI, rows(2, 3))
        lands.send(second)
        lands.send(first)
        assert stored(world).pending_rows == 2

    def test_an_event_of_what_was_replaced_says_nothing_of_what_is_there_now(
        self, world: World, lands: Landings
    ) -> None:
        first, deleted, last = lands.put(self.URI, rows(1)), lands.delete(self.URI), lands.put(self.URI, rows(2, 3))
        for event in (first, last, deleted):
            lands.send(event)
        assert stored(world).pending_rows == 2

    def test_the_same_bytes_again_after_others_are_the_latest(self, world: World, lands: Landings) -> None:
        first = lands.put(self.URI, rows(1))
        lands.send(first)
        lands.land(self.URI, rows(2, 3))
        lands.land(self.URI, rows(1))
        lands.send(first)
        assert stored(world).pending_rows == 1
        assert [one.etag for one in arrivals(world) if one.state == "accepted"] == [first["detail"]["object"]["etag"]]

    def test_a_deletion_drops_the_key(self, world: World, lands: Landings) -> None:
        lands.land(self.URI, rows(1))
        deleted = lands.delete(self.URI)
        lands.land(self.URI, rows(2, 3))
        lands.send(deleted)
        assert stored(world).pending_rows == 2, "told late, it says nothing of what came after it"
        lands.send(lands.delete(self.URI))
        assert stored(world).pending_rows == 0


class TestNoData:
    @pytest.mark.parametrize("key", ["_SUCCESS", "x/_temporary/0/a", "a.tmp", "a.part", ".a.crc", "a~", "_a", "x/"])
    def test_marks_and_temporary_names_are_no_data(self, world: World, lands: Landings, key: str) -> None:
        made_rule(world)
        lands.land(IN + key, rows(1))
        lands.land(f"{IN}empty.jsonl", b"")
        assert arrivals(world) == []

    @pytest.mark.parametrize(
        ("source", "uri"),
        [
            ("s3://data/acme/", "s3://data/acme/rules/rule-support/1/training.jsonl"),
            ("s3://data/acme/", "s3://data/acme/files/file-a/a.jsonl"),
            ("s3://data/acme/", "s3://data/acme/copies/x/v/a.jsonl"),
            ("s3://artifacts/**", "s3://artifacts/acme/jobs/ftjob-a/output/a.jsonl"),
            ("s3://models/**", "s3://models/base/tiny/a.jsonl"),
            ("s3://data/**", "s3://data/globex/in/a.jsonl"),
            ("s3://plain/**", "s3://plain/other/a.jsonl"),
            ("s3://unheard/**", "s3://unheard/a.jsonl"),
        ],
    )
    def test_what_we_wrote_and_what_is_another_tenants_is_never_taken_whatever_a_rule_says(
        self, world: World, lands: Landings, source: str, uri: str
    ) -> None:
        made_rule(world, request={"source": {"uri": source}})
        lands.land(uri, rows(1))
        assert arrivals(world) == []

    def test_an_object_that_no_rule_watches_costs_no_read(
        self, world: World, lands: Landings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made_rule(world)
        event = lands.put("s3://data/acme/elsewhere/a.jsonl", rows(1))
        monkeypatch.setattr(world.objects, "stream", None)
        assert lands.send(event) == []

    def test_a_deleted_rule_takes_nothing(self, world: World, lands: Landings) -> None:
        rule = made_rule(world)
        world.store.replace_rule(rule, rule.with_(deleted_at=world.clock()))
        lands.land(f"{IN}a.jsonl", rows(1))
        assert stored(world).pending_rows == 0


class TestQuarantine:
    def report(self, world: World, uri: str | None) -> QuarantineReport:
        assert uri is not None
        assert uri.startswith("s3://data/acme/rules/rule-support/quarantine/")
        return QuarantineReport.model_validate_json(world.objects.read(uri))

    def test_a_bad_file_is_reported_and_holds_up_no_other(self, world: World, lands: Landings) -> None:
        made_rule(world)
        bad = rows(1) + b'{"messages": [\n' + rows(2) + b"nonsense\n"
        assert lands.send(lands.put(f"{IN}bad.jsonl", bad), lands.put(f"{IN}good.jsonl", rows(3))) == []
        spoilt, good = arrivals(world)
        assert (spoilt.state, good.state) == ("quarantined", "accepted")
        assert stored(world).pending_rows == 1
        report = self.report(world, spoilt.report_uri)
        assert (report.uri, report.version_id) == (spoilt.uri, spoilt.version_id)
        assert len(report.faults) == 2
        assert report.faults[0].startswith("line 2:")
        assert spoilt.reason == report.reason
        assert spoilt.hashes_uri is None

    def test_its_tenant_is_told_once_however_often_it_is_delivered(self, world: World, lands: Landings) -> None:
        made_rule(world)
        event = lands.put(f"{IN}bad.jsonl", b"nonsense\n")
        for _ in range(5):
            lands.send(event)
        (told,) = world.deliveries.messages
        body = json.loads(str(told["body"]))
        assert (told["type"], told["tenant"]) == ("rule.file_quarantined", "acme")
        (arrival,) = arrivals(world)
        assert body["data"]["file"] == arrival.uri
        assert body["data"]["report"] == arrival.report_uri

    @pytest.mark.parametrize("body", [b"PAR1....", b"\xff\xfe{\x00", b"[\n{}]\n", b"\x00\x00\x00", b"\n\n"])
    def test_what_is_no_jsonl_at_all(self, world: World, lands: Landings, body: bytes) -> None:
        made_rule(world)
        lands.land(f"{IN}bad", body)
        assert states(world) == ["quarantined"]

    def test_rows_that_the_objective_does_not_learn_from(self, world: World, lands: Landings) -> None:
        made_rule(world, request={"job": {"model": "tiny", "method": {"type": "dpo"}}})
        lands.land(f"{IN}a.jsonl", rows(1))
        assert states(world) == ["quarantined"]

    def test_a_file_of_another_format_than_the_rules_first(self, world: World, lands: Landings) -> None:
        made_rule(world)
        plain = b'{"prompt": "a", "completion": "b"}\n'
        lands.land(f"{IN}a.jsonl", rows(1))
        lands.land(f"{IN}b.jsonl", plain)
        other = arrivals(world)[1]
        assert other.state == "quarantined"
        assert "completion format" in self.report(world, other.report_uri).reason

    def test_two_formats_in_one_batch(self, world: World, lands: Landings) -> None:
        made_rule(world)
        plain = b'{"prompt": "a", "completion": "b"}\n'
        lands.send(lands.put(f"{IN}a.jsonl", plain), lands.put(f"{IN}b.jsonl", rows(1)))
        assert states(world) == ["accepted", "quarantined"]

    def test_a_format_whose_only_file_is_gone_binds_nobody(self, world: World, lands: Landings) -> None:
        made_rule(world)
        lands.land(f"{IN}a.jsonl", b'{"prompt": "a", "completion": "b"}\n')
        lands.send(lands.delete(f"{IN}a.jsonl"))
        lands.land(f"{IN}b.jsonl", rows(1))
        assert [one.state for one in arrivals(world) if one.uri.endswith("b.jsonl")] == ["accepted"]

    def test_a_file_too_large_to_check_is_refused_by_name_unread(
        self, world: World, lands: Landings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made_rule(world)
        monkeypatch.setattr(file_checks, "LARGEST_BYTES", 10)
        lands.land(f"{IN}a.jsonl", rows(1))
        (arrival,) = arrivals(world)
        assert "Split it by lines" in self.report(world, arrival.report_uri).reason

    def test_a_file_that_s3_does_not_let_us_read(
        self, world: World, lands: Landings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from spotune.aws.base import ObjectMissing

        def hidden(uri: str, **_: Any) -> None:
            raise ObjectMissing(uri, "AccessDenied")

        made_rule(world)
        event = lands.put(f"{IN}a.jsonl", rows(1))
        with monkeypatch.context() as patch:
            patch.setattr(world.objects, "stream", hidden)
            lands.send(event)
        (arrival,) = arrivals(world)
        assert "AccessDenied" in self.report(world, arrival.report_uri).reason


class TestBadDays:
    def test_an_s3_that_does_not_answer_fails_its_message_alone(
        self, world: World, lands: Landings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made_rule(world)
        stream = world.objects.stream

        def some(uri: str, **pinned: Any) -> Any:
            if uri.endswith("a.jsonl"):
                raise Unavailable("S3 does not answer.", code="aws_unavailable")
            return stream(uri, **pinned)

        events = [lands.put(f"{IN}{name}.jsonl", rows(number)) for number, name in enumerate("ab")]
        with monkeypatch.context() as patch:
            patch.setattr(world.objects, "stream", some)
            assert lands.send(*events) == [0]
        assert states(world) == ["arrived", "accepted"]
        assert lands.send(events[0]) == []
        assert stored(world).pending_rows == 2

    def test_a_version_that_is_gone_when_it_is_read(self, world: World, lands: Landings) -> None:
        made_rule(world)
        event = lands.put(f"{IN}a.jsonl", rows(1))
        world.objects.delete_version(f"{IN}a.jsonl", event["detail"]["object"]["version-id"])
        assert lands.send(event) == []
        assert states(world) == ["gone"]

    def test_deliveries_that_meet_count_each_file_once(self, world: World, lands: Landings) -> None:
        made_rule(world)
        events = [lands.put(f"{IN}{number}.jsonl", rows(number)) for number in range(60)]

        def deliver(seed: int) -> None:
            told = random.Random(seed).sample(events, k=len(events))
            while told:
                failed = lands.send(*(batch := [told.pop() for _ in range(min(len(told), 10))]))
                told += [batch[place] for place in failed]

        with ThreadPoolExecutor(5) as pool:
            list(pool.map(deliver, range(5)))
        rule = stored(world)
        assert (rule.pending_rows, rule.sequence) == (60, 60)
        assert sorted(one.sequence or 0 for one in arrivals(world)) == list(range(1, 61))
