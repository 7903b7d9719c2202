"""`/v1/rules`: made once, changed, switched, fired within their limits, and refused where they could not work."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from spotune.contracts.errors import VersionConflict
from spotune.contracts.rules import Arrival, Frozen, MakingKey, Retraining, RuleRecord
from spotune.contracts.sources import SourceGrant
from spotune.retraining.arrivals import Checked, accept, set_aside
from spotune.retraining.course import Ending, ended
from spotune.service.access.keys import issue_key
from spotune.service.installation import install
from spotune.service.retraining import rules as service
from tests import tiny_model
from tests.factories import NOW
from tests.in_process import Client, World
from tests.rules import arrival

RULES = "/v1/rules"
WANTED: dict[str, object] = {
    "name": "support",
    "source": {"uri": "s3://data/acme/support/**"},
    "job": {"model": tiny_model.NAME, "constraints": {"budget_usd": 5}},
    "trigger": {"min_rows": 100},
}


def made(client: Client, **changes: object) -> dict[str, Any]:
    answer = client.call("POST", RULES, {**WANTED, **changes})
    assert answer.status == 200, answer.raw
    return dict(answer.body)


def record(world: World, rule_id: str) -> RuleRecord:
    found = world.store.find_rule(rule_id)
    assert found is not None
    return found


def lands(world: World, rule_id: str, name: str = "a.jsonl", body: str = "a") -> Arrival:
    """A file of 200 rows has come and is good."""
    seen = arrival(name, rule_id=rule_id)
    known = world.store.record_arrival(seen)
    before = record(world, rule_id)
    change = accept(before, known, Checked(body * 64, 200, "s3://hashes", "chat"), [known], lambda _: (), NOW)
    world.store.commit_arrivals(before, change.rule, change.arrivals)
    return change.arrivals[0]


def end(world: World, rule_id: str, ending: Ending) -> None:
    """The rule's living retraining ends, as the control plane ends it."""
    before = record(world, rule_id)
    live = world.store.get_retraining("acme", rule_id, before.live or 0)
    assert live is not None
    had = tuple(world.store.accepted_arrivals(rule_id, after=live.after, through=live.through))
    if ending.decision == "reject":
        change = set_aside(before, had, "rejected")
        world.store.commit_arrivals(before, change.rule, change.arrivals)
        before = record(world, rule_id)
    after, over = ended(before, live, ending, had, world.clock())
    world.store.commit_retraining(live, over, (before, after))


class TestMaking:
    def test_a_rule_says_how_it_stands(self, client: Client) -> None:
        rule = made(client)
        assert rule["job"]["constraints"]["budget_usd"] == 5
        assert (rule["object"], rule["model_group"], rule["enabled"], rule["live"]) == ("rule", "support", True, None)
        assert rule["pending"] == {"rows": 0, "bytes": 0, "last_arrival_at": None}
        assert rule["money"] == {"month": "2026-09", "spent": 0, "limit": None}
        assert client.call("GET", f"{RULES}/{rule['id']}").body == rule
        assert client.call("GET", f"{RULES}/support").body == rule
        assert client.call("GET", RULES).body["data"] == [rule]

    def test_a_rule_created_twice_is_one_rule(self, client: Client) -> None:
        first = made(client)
        assert made(client) == first
        assert made(client, trigger={"min_rows": 100, "quiet_seconds": 300}) == first, "the default in clear"
        assert len(client.call("GET", RULES).body["data"]) == 1

    def test_the_name_of_another_rule_is_refused_with_the_way_to_change_it(self, client: Client) -> None:
        first = made(client)
        answer = client.call("POST", RULES, {**WANTED, "enabled": False})
        assert (answer.status, answer.error["code"]) == (409, "rule_exists")
        assert f"PATCH /v1/rules/{first['id']}" in answer.error["message"]

    def test_two_tenants_may_use_one_name(self, client: Client, stranger: Client) -> None:
        mine = made(client)
        theirs = made(stranger, source={"uri": "s3://data/globex/support/**"})
        assert mine["id"] != theirs["id"]

    def test_two_creations_at_once_are_one_rule(
        self, world: World, client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first = made(client)
        find = world.store.find_rule
        answers: Iterator[RuleRecord | None] = iter([None, find(first["id"])])
        monkeypatch.setattr(world.store, "find_rule", lambda _: next(answers))
        assert made(client)["id"] == first["id"]

    def test_a_tenant_has_so_many_rules_at_most(self, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(service, "MOST_RULES", 2)
        made(client), made(client, name="second")
        answer = client.call("POST", RULES, {**WANTED, "name": "third"})
        assert (answer.status, answer.error["code"]) == (409, "too_many_rules")
        assert made(client)["name"] == "support", "one that is there is no new one"

    def test_names_of_secrets_are_not_shown(self, world: World, client: Client) -> None:
        install(replace(world.here, settings=replace(world.here.settings, network_isolation=False)))
        secret = "spotune/test/trackers/acme/wandb"
        job = {**WANTED["job"], "integrations": [{"type": "wandb", "wandb": {"project": "p", "secret": secret}}]}  # type: ignore[dict-item]
        rule = made(client, job=job)
        assert rule["job"]["integrations"][0]["wandb"]["project"] == "p"
        assert secret not in str(rule)

    def test_the_key_that_made_it_is_kept(self, world: World, client: Client) -> None:
        rule = made(client)
        listed = client.call("GET", "/v1/keys").body["data"]
        assert record(world, rule["id"]).key == listed[0]["id"]


def test_the_document_shows_a_rule_that_is_one(client: Client) -> None:
    paths = client.call("GET", "/openapi.json").body["paths"]
    (example,) = paths["/v1/rules"]["post"]["requestBody"]["content"]["application/json"]["schema"]["examples"]
    here = {"source": {"uri": "s3://data/acme/support/**/*.jsonl"}, "job": {**example["job"], "model": tiny_model.NAME}}
    assert made(client, **{**example, **here})["trigger"]["schedule"] == example["trigger"]["schedule"]
    change = paths["/v1/rules/{rule}"]["patch"]["requestBody"]["content"]["application/json"]["schema"]
    assert change["$ref"].endswith("RuleRequestChanges")


class TestRefusals:
    @pytest.mark.parametrize(
        ("uri", "code"),
        [
            ("s3://data/globex/support/", "source_not_allowed"),
            ("s3://data/acme", "source_not_allowed"),
            ("s3://data/**/support/", "source_not_allowed"),
            ("s3://data/acme*/support/", "source_not_allowed"),
            ("s3://elsewhere/acme/", "source_not_allowed"),
            ("s3://artifacts/acme/jobs/", "source_not_allowed"),
            ("s3://models/base/", "source_not_allowed"),
            ("s3://data/acme/**", "source_matches_outputs"),
            ("s3://data/acme/*/training.jsonl", "source_matches_outputs"),
            ("s3://data/acme/rules/", "source_matches_outputs"),
            ("s3://data/acme/files/file-1/", "source_matches_outputs"),
            ("s3://data/acme/c?pies/**", "source_matches_outputs"),
            ("https://data/acme", "invalid_value"),
        ],
    )
    def test_a_source_that_is_not_the_tenant_s_or_could_be_our_own_output_is_refused(
        self, client: Client, uri: str, code: str
    ) -> None:
        answer = client.call("POST", RULES, {**WANTED, "source": {"uri": uri}})
        assert (answer.status, answer.error["code"], answer.error["param"]) == (400, code, "source.uri"), answer.raw

    @pytest.mark.parametrize(
        ("remote", "code"),
        [
            ("s3://other/x", "source_not_allowed"),
            ("s3://data/acme/support/dvc", "dvc_remote_invalid"),
            ("s3://data/acme/d*", "dvc_remote_invalid"),
        ],
    )
    def test_a_dvc_remote_lies_beside_the_source(self, client: Client, remote: str, code: str) -> None:
        source = {"uri": "s3://data/acme/support/**", "dvc_remote": remote}
        answer = client.call("POST", RULES, {**WANTED, "source": source})
        assert (answer.error["code"], answer.error["param"]) == (code, "source.dvc_remote"), answer.raw
        assert made(client, source={**source, "dvc_remote": "s3://data/acme/dvc"})

    @pytest.mark.parametrize(
        ("changes", "code", "param"),
        [
            ({"model": "no-such-model"}, "model_not_found", "model"),
            ({"training_file": "file-1"}, "unknown_field", "training_file"),
            ({"adapter": {"rank": 512}}, "rank_above_layer", "adapter.rank"),
            ({"adapter": {"type": "full", "rank": 4}}, "setting_without_use", "adapter.rank"),
            (
                {"constraints": {"instance_types": ["ml.x9.large"]}},
                "unknown_instance_type",
                "constraints.instance_types",
            ),
            ({"constraints": {"regions": ["eu-west-9"]}}, "unknown_region", "constraints.regions"),
            ({"gate": {"golden_file": "file-x"}}, "file_not_found", "gate.golden_file"),
        ],
    )
    def test_a_template_that_no_data_could_make_a_job_of_is_refused_by_name(
        self, client: Client, changes: dict[str, object], code: str, param: str
    ) -> None:
        answer = client.call("POST", RULES, {**WANTED, "job": {"model": tiny_model.NAME, **changes}})
        assert answer.status in (400, 404), answer.raw
        assert (answer.error["code"], answer.error["param"]) == (code, f"job.{param}"), answer.raw
        assert client.call("GET", RULES).body["data"] == []

    @pytest.mark.parametrize(
        ("changes", "code", "param"),
        [
            ({"trigger": {"schedule": "0 25 * * *"}}, "schedule_invalid", "trigger.schedule"),
            ({"trigger": {"schedule": "@daily"}}, "schedule_invalid", "trigger.schedule"),
            ({"trigger": {}}, "invalid_value", None),
            ({"trigger": {"min_rows": 0}}, "invalid_value", "trigger.min_rows"),
            ({"monthly_budget_usd": 4.99}, "monthly_budget_too_small", "monthly_budget_usd"),
            ({"colour": "red"}, "unknown_field", "colour"),
        ],
    )
    def test_a_rule_that_could_not_work_is_refused_by_name(
        self, client: Client, changes: dict[str, object], code: str, param: str | None
    ) -> None:
        answer = client.call("POST", RULES, {**WANTED, **changes})
        assert answer.status in (400, 404), answer.raw
        assert (answer.error["code"], answer.error["param"]) == (code, param), answer.raw
        assert client.call("GET", RULES).body["data"] == []

    def test_a_secret_of_another_tenant_s_is_refused(self, client: Client) -> None:
        settings = {"project": "p", "secret": "spotune/test/trackers/globex/wandb"}
        job = {"model": tiny_model.NAME, "integrations": [{"type": "wandb", "wandb": settings}]}
        answer = client.call("POST", RULES, {**WANTED, "job": job})
        assert (answer.error["code"], answer.error["param"]) == ("secret_not_yours", "job.integrations.wandb.secret")

    def test_a_bucket_that_the_operator_opened_may_be_watched_as_far_as_it_is_open(
        self, world: World, client: Client, stranger: Client
    ) -> None:
        opened = (SourceGrant(tenant="acme", bucket="lake", prefix="chat/"),)
        install(replace(world.here, settings=replace(world.here.settings, sources=opened)))
        assert made(client, source={"uri": "s3://lake/chat/**/*.jsonl"})["name"] == "support"
        for who, uri in ((client, "s3://lake/chats/"), (client, "s3://lake/**"), (stranger, "s3://lake/chat/")):
            answer = who.call("POST", RULES, {**WANTED, "name": "other", "source": {"uri": uri}})
            assert answer.error["code"] == "source_not_allowed"


class TestChanging:
    def test_what_is_named_changes_and_the_rest_stays(self, client: Client) -> None:
        rule = made(client, trigger={"min_rows": 100, "max_per_day": 2})
        answer = client.call("PATCH", f"{RULES}/support", {"trigger": {"min_rows": 7}, "dry_run": True})
        assert (answer.body["trigger"]["min_rows"], answer.body["trigger"]["max_per_day"]) == (7, 2)
        assert answer.body["dry_run"]
        assert answer.body["job"] == rule["job"]

    def test_null_sets_a_field_back(self, client: Client) -> None:
        made(client, monthly_budget_usd=50)
        body = client.call("PATCH", f"{RULES}/support", {"monthly_budget_usd": None, "job": {"constraints": None}}).body
        assert body["monthly_budget_usd"] is body["job"]["constraints"]["budget_usd"] is None

    def test_deep_fields_change_alone(self, client: Client) -> None:
        made(client, job={**WANTED["job"], "method": {"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.2}}}})  # type: ignore[dict-item]
        change = {"job": {"method": {"dpo": {"hyperparameters": {"n_epochs": 2}}}}}
        chosen = client.call("PATCH", f"{RULES}/support", change).body["job"]["method"]["dpo"]["hyperparameters"]
        assert (chosen["beta"], chosen["n_epochs"]) == (0.2, 2)

    @pytest.mark.parametrize(
        ("change", "status", "code", "param"),
        [
            ({"trigger": {"min_rows": None}}, 400, "invalid_value", None),
            ({"trigger": {"schedule": "x"}}, 400, "schedule_invalid", "trigger.schedule"),
            ({"monthly_budget_usd": 1}, 400, "monthly_budget_too_small", "monthly_budget_usd"),
            ({"job": {"model": "gone"}}, 404, "model_not_found", "job.model"),
            ({"colour": 1}, 400, "unknown_field", "colour"),
            ({"name": "other"}, 409, "rule_field_fixed", "name"),
            ({"source": {"uri": "s3://data/acme/other/"}}, 409, "rule_field_fixed", "source.uri"),
        ],
    )
    def test_a_bad_change_is_refused_and_changes_nothing(
        self, client: Client, change: dict[str, object], status: int, code: str, param: str | None
    ) -> None:
        rule = made(client)
        answer = client.call("PATCH", f"{RULES}/support", change)
        assert (answer.status, answer.error["code"], answer.error["param"]) == (status, code, param), answer.raw
        assert client.call("GET", f"{RULES}/support").body == rule

    def test_an_evaluation_set_that_was_carved_stays(self, world: World, client: Client) -> None:
        rule = made(client)
        assert client.call("PATCH", f"{RULES}/support", {"frozen": {"max_rows": 50}}).status == 200
        before = record(world, rule["id"])
        uris = dict.fromkeys(("uri", "keys_uri", "manifest_uri"), "s3://data/acme/rules/x")
        carved = Frozen(sha256="0" * 64, rows=5, **uris)
        world.store.replace_rule(before, before.with_(frozen=carved))
        answer = client.call("PATCH", f"{RULES}/support", {"frozen": {"max_rows": 60}})
        assert (answer.status, answer.error["param"]) == (409, "frozen")
        assert client.call("GET", f"{RULES}/support").body["evaluation_set"]["rows"] == 5

    def test_a_rule_can_be_switched_off_whatever_has_become_of_its_model(self, world: World, client: Client) -> None:
        made(client)
        for one in list(world.objects.list("s3://models/base/")):
            world.objects.delete(one.uri)
        assert client.call("PATCH", f"{RULES}/support", {"enabled": False}).body["enabled"] is False
        assert client.call("PATCH", f"{RULES}/support", {"enabled": True}).error["code"] == "model_not_found"

    def test_a_rule_that_is_switched_on_makes_up_for_no_moment_of_its_schedule(
        self, world: World, client: Client
    ) -> None:
        rule = made(client, trigger={"schedule": "0 3 * * *"}, enabled=False)
        world.clock.now += 5 * 86_400
        client.call("PATCH", f"{RULES}/support", {"enabled": True})
        assert record(world, rule["id"]).scheduled_at == world.clock.now

    def test_data_that_left_no_model_is_tried_again_once_the_rule_was_changed(
        self, world: World, client: Client
    ) -> None:
        rule = made(client)
        before = record(world, rule["id"])
        world.store.replace_rule(before, before.with_(tried_through=4))
        client.call("PATCH", f"{RULES}/support", {"job": {"adapter": {"rank": 8}}})
        assert record(world, rule["id"]).tried_through == 0

    def test_a_change_meets_arrivals_that_come_at_the_same_time(
        self, world: World, client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rule = made(client)
        replace_rule, conflicts = world.store.replace_rule, [0, 0]

        def busy(before: RuleRecord, after: RuleRecord) -> None:
            if conflicts:
                conflicts.pop()
                lands(world, rule["id"], f"{len(conflicts)}.jsonl", "ab"[len(conflicts)])
            replace_rule(before, after)

        monkeypatch.setattr(world.store, "replace_rule", busy)
        body = client.call("PATCH", f"{RULES}/support", {"dry_run": True}).body
        assert (body["dry_run"], body["pending"]["rows"]) == (True, 400)


class TestDeleting:
    def test_a_deleted_rule_is_gone(self, client: Client) -> None:
        rule = made(client)
        assert client.call("DELETE", f"{RULES}/support").body["id"] == rule["id"]
        for method, path in (("GET", "support"), ("DELETE", "support"), ("GET", rule["id"]), ("PATCH", "support")):
            body = {"enabled": False} if method == "PATCH" else None
            assert client.call(method, f"{RULES}/{path}", body).status == 404
        assert client.call("GET", RULES).body["data"] == []

    def test_one_made_under_its_name_goes_on_from_its_numbers(self, world: World, client: Client) -> None:
        rule = made(client)
        lands(world, rule["id"])
        assert client.call("POST", f"{RULES}/support/fire").body["number"] == 1
        end(world, rule["id"], Ending("succeeded", "", "promote", 100))
        client.call("DELETE", f"{RULES}/support")
        again = made(client, trigger={"min_rows": 5})
        assert (again["id"], again["retrainings"], again["pending"]["rows"]) == (rule["id"], 1, 0)
        lands(world, rule["id"], "b.jsonl", "b")
        world.clock.now += 3600
        fired = client.call("POST", f"{RULES}/support/fire").body
        assert (fired["number"], fired["after"], fired["through"]) == (2, 1, 2)

    def test_one_made_under_its_name_is_paid_for_by_the_key_that_made_it_again(
        self, world: World, client: Client
    ) -> None:
        rule = made(client)
        first = record(world, rule["id"]).made_by
        client.call("DELETE", f"{RULES}/support")
        nightly = issue_key(world.here, "acme", "nightly", ("submit",), monthly_limit=100_000_000)
        made(Client(nightly))
        again = record(world, rule["id"])
        assert again.made_by == MakingKey(id=again.key, monthly_limit=100_000_000) != first

    def test_one_that_watches_something_else_needs_another_name(self, client: Client) -> None:
        made(client)
        client.call("DELETE", f"{RULES}/support")
        answer = client.call("POST", RULES, {**WANTED, "source": {"uri": "s3://data/acme/other/"}})
        assert (answer.status, answer.error["code"]) == (409, "rule_field_fixed")
        assert made(client)["name"] == "support"


class TestFiring:
    def test_a_person_begins_a_retraining_of_what_is_pending(self, world: World, client: Client) -> None:
        rule = made(client, trigger={"min_rows": 10_000})
        lands(world, rule["id"])
        fired = client.call("POST", f"{RULES}/support/fire").body
        assert (fired["id"], fired["state"], fired["cause"]) == (f"{rule['id']}/1", "preparing", "person")
        assert (fired["after"], fired["through"], fired["cap"], fired["dry_run"]) == (0, 1, 5_000_000, False)
        now = client.call("GET", f"{RULES}/support").body
        assert (now["live"], now["pending"]["rows"], now["money"]["spent"]) == (1, 0, 5_000_000)
        assert client.call("GET", f"{RULES}/support/retrainings").body["data"] == [fired]

    def test_not_beyond_the_rule_s_limits(self, world: World, client: Client) -> None:
        rule = made(client)
        answer = client.call("POST", f"{RULES}/support/fire")
        assert (answer.status, answer.error["code"]) == (409, "rule_waits")
        lands(world, rule["id"])
        client.call("POST", f"{RULES}/support/fire")
        assert "retraining 1" in client.call("POST", f"{RULES}/support/fire").error["message"]
        end(world, rule["id"], Ending("failed", "out of memory", billed=10))
        answer = client.call("POST", f"{RULES}/support/fire")
        assert "min_interval_seconds" in answer.error["message"]
        assert answer.error["details"] == {"not_before": NOW + 3600}
        world.clock.now = NOW + 3600
        assert client.call("POST", f"{RULES}/support/fire").body["through"] == 1

    def test_two_at_once_are_one_and_a_refusal(
        self, world: World, client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rule = made(client)
        lands(world, rule["id"])
        begin_retraining = world.store.begin_retraining

        def late(before: RuleRecord, after: RuleRecord, retraining: Retraining) -> None:
            monkeypatch.setattr(world.store, "begin_retraining", begin_retraining)
            begin_retraining(before, after, retraining)
            raise VersionConflict(rule["id"])

        monkeypatch.setattr(world.store, "begin_retraining", late)
        answer = client.call("POST", f"{RULES}/support/fire")
        assert (answer.status, "retraining 1" in answer.error["message"]) == (409, True)
        assert len(client.call("GET", f"{RULES}/support/retrainings").body["data"]) == 1


class TestReleasing:
    @pytest.fixture
    def rejected(self, world: World, client: Client) -> str:
        """A rule whose first model was rejected, with 70 files."""
        rule_id = str(made(client)["id"])
        for number in range(70):
            lands(world, rule_id, f"{number}.jsonl", f"{number:02d}"[-1])
        client.call("POST", f"{RULES}/support/fire")
        before = record(world, rule_id)
        live = world.store.get_retraining("acme", rule_id, 1)
        assert live is not None
        had = list(world.store.accepted_arrivals(rule_id, after=0, through=70))
        for first in range(0, 70, 30):
            now = record(world, rule_id)
            world.store.commit_arrivals(now, now, set_aside(now, had[first : first + 30], "rejected").arrivals)
        before = record(world, rule_id)
        after, over = ended(before, live, Ending("succeeded", "", "reject", 5), (), NOW)
        world.store.commit_retraining(live, over, (before, after))
        return rule_id

    def test_data_of_a_rejected_model_is_new_again(self, world: World, client: Client, rejected: str) -> None:
        assert client.call("GET", f"{RULES}/support").body["pending"]["rows"] == 0
        answer = client.call("POST", f"{RULES}/support/retrainings/1/release")
        assert (answer.status, answer.body["released"]) == (200, True)
        assert client.call("GET", f"{RULES}/support").body["pending"]["rows"] == 70 * 200
        aside = client.call("GET", f"{RULES}/support/arrivals", query="state=set_aside").body["data"]
        assert aside == []
        again = list(world.store.accepted_arrivals(rejected, after=70, through=140))
        assert [one.sequence for one in again] == list(range(71, 141))

    def test_a_second_release_changes_nothing(self, world: World, client: Client, rejected: str) -> None:
        first = client.call("POST", f"{RULES}/support/retrainings/1/release").body
        version = record(world, rejected).version
        assert client.call("POST", f"{RULES}/support/retrainings/1/release").body == first
        assert record(world, rejected).version == version

    def test_a_release_that_died_half_way_goes_on(
        self, world: World, client: Client, rejected: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        commit, left = world.store.commit_arrivals, [1]

        def dies(before: RuleRecord, after: RuleRecord, arrivals: tuple[Arrival, ...]) -> None:
            if not left:
                raise RuntimeError("killed")
            left.pop()
            commit(before, after, arrivals)

        monkeypatch.setattr(world.store, "commit_arrivals", dies)
        assert client.call("POST", f"{RULES}/support/retrainings/1/release").status == 500
        monkeypatch.undo()
        assert client.call("POST", f"{RULES}/support/retrainings/1/release").body["released"]
        assert record(world, rejected).pending_rows == 70 * 200
        assert record(world, rejected).sequence == 140

    def test_what_was_not_rejected_cannot_be_released(self, world: World, client: Client) -> None:
        rule = made(client)
        lands(world, rule["id"])
        client.call("POST", f"{RULES}/support/fire")
        answer = client.call("POST", f"{RULES}/support/retrainings/1/release")
        assert (answer.status, answer.error["code"]) == (409, "nothing_set_aside")
        answer = client.call("POST", f"{RULES}/support/retrainings/2/release")
        assert (answer.status, answer.error["code"]) == (404, "retraining_not_found")


class TestLists:
    def test_arrivals_page_by_page(self, world: World, client: Client) -> None:
        rule = made(client)
        for number in range(5):
            lands(world, rule["id"], f"{number}#?.jsonl", f"{number}")
        seen: list[str] = []
        query = "limit=2"
        while True:
            page = client.call("GET", f"{RULES}/support/arrivals", query=query).body
            seen += [one["id"] for one in page["data"]]
            if not page["has_more"]:
                break
            query = "limit=2&after=" + page["last_id"]
        assert len(set(seen)) == 5
        assert seen[0].endswith("#v1")

    @pytest.mark.parametrize("after", ["s3://data/acme/x", "x", "s3://data/acme/x#v1"])
    def test_a_cursor_that_names_nothing_is_refused(self, client: Client, after: str) -> None:
        made(client)
        for path, code in (("support/arrivals", "unknown_cursor"), ("", "unknown_cursor")):
            answer = client.call("GET", f"{RULES}/{path}".rstrip("/"), query=f"after={after}")
            assert answer.error["code"] == code
        assert client.call("GET", f"{RULES}/support/retrainings", query="after=x").error["code"] == "unknown_cursor"

    def test_retrainings_page_by_page(self, world: World, client: Client) -> None:
        rule = made(client, trigger={"min_rows": 1, "min_interval_seconds": 0})
        for number in range(3):
            lands(world, rule["id"], f"{number}.jsonl", f"{number}")
            client.call("POST", f"{RULES}/support/fire")
            end(world, rule["id"], Ending("succeeded", "", "hold", 1))
        page = client.call("GET", f"{RULES}/support/retrainings", query="limit=2").body
        assert [one["number"] for one in page["data"]] == [3, 2]
        rest = client.call("GET", f"{RULES}/support/retrainings", query=f"after={page['last_id']}").body
        assert ([one["number"] for one in rest["data"]], rest["has_more"]) == ([1], False)
