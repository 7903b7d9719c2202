"""A rule's retrainings from firing to end, by the reconciler and the launch queue alone."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from spotune.contracts import layout
from spotune.contracts.errors import Conflict, NotFound, RequestRefused, Unavailable
from spotune.contracts.identity import ApiKey
from spotune.contracts.job import JobRecord, PayingKey
from spotune.contracts.models import ModelGroup
from spotune.contracts.rules import DataManifest, Retraining, RuleRecord
from spotune.contracts.training import Failure
from spotune.contracts.verdict import GateDecision, Verdict
from spotune.service.access.keys import issue_key, revoke_key
from spotune.service.installation import install
from spotune.service.jobs import control
from spotune.service.jobs.observation import observe
from spotune.service.reconcile import reconcile
from spotune.service.retraining import ends, retrain
from spotune.service.retraining.ends import end
from spotune.service.retraining.rules import create, release
from spotune.service.work import run
from tests import tiny_model
from tests.factories import NOW, lineage, model_version, report
from tests.in_process import World, client_of
from tests.in_process import world as make_world
from tests.landings import Landings, arrivals, made_rule, rows, states, stored

IN = "s3://data/acme/in/"
JOB = {"model": tiny_model.NAME, "constraints": {"budget_usd": 5}}


class Story:
    """A rule that fires on 30 rows, and what happens to it."""

    def __init__(self, *, versionless: tuple[str, ...] = (), **request: object) -> None:
        self.world = make_world(versionless=versionless)
        install(self.world.here)
        self.lands = Landings(self.world)
        made_rule(self.world, request={"job": JOB, "trigger": {"min_rows": 30}, **request})

    @property
    def rule(self) -> RuleRecord:
        return stored(self.world)

    @property
    def retrainings(self) -> list[Retraining]:
        """Oldest first."""
        page = self.world.store.list_retrainings("acme", "rule-support", after=0, limit=100)
        return list(reversed(page.items))

    @property
    def jobs(self) -> list[JobRecord]:
        """Oldest first."""
        return list(reversed(self.world.store.list_jobs("acme", after=None, limit=100).items))

    def land(self, name: str, *numbers: int) -> None:
        self.lands.land(f"{IN}{name}.jsonl", rows(*numbers))

    def pass_by(self, minutes: int = 1) -> None:
        """So many passes of the reconciler, and what they put on the queue."""
        for _ in range(minutes):
            self.world.clock.now += 60
            reconcile(self.world.here)
            self.world.run_queue()

    def manifest(self, retraining: Retraining) -> DataManifest:
        assert retraining.manifest_uri is not None
        return DataManifest.model_validate_json(self.world.objects.read(retraining.manifest_uri))

    def trained_on(self, retraining: Retraining) -> list[int]:
        return numbers_in(self.world.objects.read(self.manifest(retraining).uri))

    @property
    def frozen(self) -> list[int]:
        assert self.rule.frozen is not None
        return numbers_in(self.world.objects.read(self.rule.frozen.uri))

    def end_job(self, decision: GateDecision, job: JobRecord | None = None) -> None:
        """The newest job succeeds with this verdict, and its command is run."""
        job = job or self.jobs[-1]
        verdict = Verdict(decision=decision, conditions=(), reason=f"so it is: {decision}")
        over = job.with_(
            state="succeeded", verdict=verdict, billed=1_000_000, finished_at=self.world.clock(), attempts=()
        )
        assert end(self.world.here, over)


def numbers_in(body: bytes) -> list[int]:
    return [int(json.loads(line)["messages"][0]["content"].split()[3]) for line in body.splitlines()]


def crown(world: World, manifest_uri: str | None, job_id: str = "ftjob-abc") -> None:
    """The group's first version, a champion that was trained by this manifest, or by this job."""
    made = model_version(1, group="support", lineage=lineage(job_id, manifest_uri=manifest_uri), status="champion")
    group = ModelGroup(name="support", tenant="acme", created_at=NOW, champion=1, versions=1)
    world.store.commit_group(None, group, ((None, made),))


class TestFiring:
    def test_new_data_starts_one_job_on_exactly_its_rows_but_the_frozen_ones(self) -> None:
        story = Story()
        story.land("a", *range(20))
        story.land("b", *range(20, 40))
        story.pass_by(4)
        assert story.jobs == [], "the quiet window after the last file has not passed"
        story.pass_by(3)
        (retraining,), (job,) = story.retrainings, story.jobs
        assert (retraining.state, retraining.job_id, retraining.cause) == ("submitted", job.id, "rows")
        assert (job.retraining, job.request.registry.group) == ("rule-support/1", "support")
        assert job.cap == 5_000_000
        assert len(story.frozen) == 4
        assert sorted(story.trained_on(retraining) + story.frozen) == list(range(40))
        assert job.training_uri == "s3://data/acme/rules/rule-support/1/training.jsonl"
        assert story.rule.frozen is not None
        assert job.validation_uri == story.rule.frozen.uri
        assert job.state != "failed"

    def test_the_manifest_pins_each_version_with_its_hash_and_its_rows(self) -> None:
        story = Story()
        story.land("a", *range(40))
        story.pass_by(7)
        (retraining,) = story.retrainings
        manifest, (arrival,) = story.manifest(retraining), arrivals(story.world)
        (entry,) = manifest.entries
        assert (entry.uri, entry.version_id, entry.sha256) == (arrival.uri, arrival.version_id, arrival.sha256)
        assert (entry.rows, entry.taken, manifest.rows, retraining.rows) == (40, 36, 36, 36)

    def test_too_few_rows_start_nothing_and_it_says_what_it_waits_for(self) -> None:
        story = Story()
        story.land("a", *range(29))
        story.pass_by(20)
        assert story.retrainings == []
        assert "min_rows 30" in story.rule.waiting_for

    def test_rows_that_are_there_twice_count_once(self) -> None:
        story = Story()
        story.land("a", *range(20))
        story.land("b", *range(1, 21))
        story.pass_by(20)
        assert story.retrainings == []
        assert (story.rule.pending_rows, story.rule.counted_rows) == (40, 21)
        story.land("c", *range(100, 109))
        story.pass_by(7)
        assert len(story.retrainings) == 1

    def test_nothing_more_is_begun_while_one_lives(self) -> None:
        story = Story()
        story.land("a", *range(40))
        story.pass_by(7)
        story.land("b", *range(100, 140))
        story.pass_by(200)
        assert len(story.retrainings) == len(story.jobs) == 1

    def test_a_dry_run_plans_and_starts_nothing(self) -> None:
        story = Story(dry_run=True)
        story.land("a", *range(40))
        story.pass_by(8)
        (retraining,) = story.retrainings
        assert (retraining.state, story.jobs) == ("planned", [])
        assert "36 rows would be trained on" in retraining.reason
        assert story.rule.live is None
        story.pass_by(200)
        assert len(story.retrainings) == 1, "the same data is planned once"

    def test_what_the_service_refuses_is_ended_with_its_words_and_gives_its_data_back(self) -> None:
        story = Story(job={**JOB, "constraints": {"budget_usd": 0.0001}})
        story.land("a", *range(40))
        story.pass_by(8)
        (retraining,) = story.retrainings
        assert (retraining.state, story.jobs) == ("refused", [])
        assert "budget" in retraining.reason
        (told,) = [json.loads(str(one["body"])) for one in story.world.deliveries.messages]
        assert (told["type"], told["data"]["retraining"]) == ("rule.retraining_refused", 1)
        assert told["data"]["message"] == retraining.reason
        assert (story.rule.live, story.rule.pending_rows) == (None, 40)

    def test_a_service_that_does_not_answer_is_asked_again_and_given_up_after_a_day(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def silent(*_: object, **__: object) -> None:
            raise Unavailable("the market does not answer.", code="aws_unavailable")

        story = Story()
        story.land("a", *range(40))
        with monkeypatch.context() as patch:
            patch.setattr(retrain, "submit", silent)
            for _ in range(7):
                story.world.clock.now += 60
                reconcile(story.world.here)
                for message in story.world.queue.take():
                    with pytest.raises(Unavailable):
                        run(story.world.here, message)
            (retraining,) = story.retrainings
            assert retraining.state == "preparing"
            story.world.clock.now += retrain.GIVE_UP
            retrain.carry_on(story.world.here, "rule-support")
        (retraining,) = story.retrainings
        assert (retraining.state, story.rule.pending_rows) == ("refused", 40)
        assert "within 24 hours" in retraining.reason

    def test_a_refusal_that_comes_beside_the_job_does_not_end_its_retraining(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = retrain.submit

        def quicker(*arguments: Any, **named: Any) -> JobRecord:
            real(*arguments, **named)
            raise RequestRefused("The limit is reached.", code="monthly_limit_reached")

        story = Story()
        story.land("a", *range(40))
        monkeypatch.setattr(retrain, "submit", quicker)
        story.pass_by(8)
        (retraining,), (job,) = story.retrainings, story.jobs
        assert (retraining.state, retraining.job_id) == ("submitted", job.id)

    def test_of_two_deliveries_at_work_on_it_the_first_manifest_stays(self, monkeypatch: pytest.MonkeyPatch) -> None:
        story = Story()
        story.land("a", *range(40))
        story.land("b", *range(40, 80))
        write_new = story.world.objects.write_new

        def late(uri: str, body: bytes) -> bool:
            """While the other delivery has chosen and not yet written, this one does all, without the second file."""
            monkeypatch.setattr(story.world.objects, "write_new", write_new)
            lost = arrivals(story.world)[1]
            story.lands.send(story.lands.delete_version(lost.uri, lost.version_id))
            retrain.carry_on(story.world.here, "rule-support")
            return write_new(uri, body)

        monkeypatch.setattr(story.world.objects, "write_new", late)
        story.pass_by(8)
        (retraining,), (job,) = story.retrainings, story.jobs
        manifest = story.manifest(retraining)
        assert retraining.job_id == job.id
        body = story.world.objects.read(manifest.uri)
        assert hashlib.sha256(body).hexdigest() == manifest.sha256
        assert sorted(n for n in numbers_in(body) if n not in story.frozen) == sorted(numbers_in(body))
        assert max(numbers_in(body)) < 40

    def test_a_retraining_that_stands_still_is_found_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        story = Story()
        story.land("a", *range(40))
        story.world.clock.now += 600
        retrain.look(story.world.here, "rule-support")
        assert story.retrainings[0].state == "preparing", "its process was killed here"
        story.pass_by(2)
        assert story.retrainings[0].state == "submitted"


class TestPaying:
    """What a rule's jobs spend counts against the key that made it, however long ago that was revoked."""

    def story(self, limit: int | None) -> tuple[Story, ApiKey]:
        story = Story()
        story.world.store.replace_rule(story.rule, story.rule.with_(deleted_at=NOW))
        issue_key(story.world.here, "acme", "nightly", ("submit",), monthly_limit=limit)
        ((key, _),) = story.world.store.list_keys("acme")
        create(story.world.here, "acme", story.rule.request, key)
        return story, key

    def retrained(self, story: Story) -> JobRecord:
        story.land("a", *range(40))
        story.pass_by(8)
        (job,) = story.jobs
        return job

    @pytest.mark.parametrize("forgotten", [False, True])
    def test_the_limit_of_a_revoked_key_holds_and_that_of_a_forgotten_one(self, forgotten: bool) -> None:
        story, key = self.story(100_000_000)
        revoke_key(story.world.here, "acme", key.id)
        if forgotten:
            forget(story.world, key)
        assert self.retrained(story).key == PayingKey(id=key.id, monthly_limit=100_000_000)

    def test_the_rule_of_a_forgotten_key_without_a_limit_goes_on(self) -> None:
        story, key = self.story(None)
        forget(story.world, key)
        assert self.retrained(story).key is None

    def test_the_rule_of_an_earlier_version_whose_key_is_forgotten_says_so_and_spends_nothing(self) -> None:
        story = Story()
        story.world.store.replace_rule(story.rule, story.rule.with_(key="key-1"))
        story.land("a", *range(40))
        story.pass_by(8)
        (retraining,) = story.retrainings
        assert (retraining.state, retraining.manifest_uri, story.jobs) == ("refused", None, [])
        assert "key-1" in retraining.reason
        assert "Delete the rule and make it again" in retraining.reason


def forget(world: World, key: ApiKey) -> None:
    """As the table's time to live does 90 days after a key was revoked."""
    del world.store._keys[key.sha256]


class TestByHand:
    def test_a_person_fires_whatever_the_thresholds_say(self) -> None:
        story = Story()
        story.land("a", *range(20))
        begun = retrain.fire(story.world.here, "acme", "rule-support")
        assert (begun.number, begun.cause) == (1, "person")
        story.world.run_queue()
        assert story.retrainings[0].state == "submitted"

    def test_not_twice_at_once_and_not_without_data(self) -> None:
        story = Story()
        with pytest.raises(Conflict, match="new data"):
            retrain.fire(story.world.here, "acme", "rule-support")
        story.land("a", *range(20))
        retrain.fire(story.world.here, "acme", "rule-support")
        story.land("b", *range(20, 40))
        with pytest.raises(Conflict, match="retraining 1 has not ended"):
            retrain.fire(story.world.here, "acme", "rule-support")

    def test_another_tenant_finds_no_such_rule(self) -> None:
        story = Story()
        with pytest.raises(NotFound):
            retrain.fire(story.world.here, "globex", "rule-support")


class TestEnds:
    @pytest.fixture
    def story(self) -> Story:
        made = Story()
        made.land("a", *range(40))
        made.pass_by(7)
        return made

    @pytest.mark.parametrize("decision", ["promote", "hold"])
    def test_what_was_trained_on_counts_as_that(self, story: Story, decision: GateDecision) -> None:
        story.end_job(decision)
        (retraining,) = story.retrainings
        assert (retraining.state, retraining.decision, retraining.billed) == ("succeeded", decision, 1_000_000)
        assert (story.rule.live, story.rule.pending_rows) == (None, 0)
        assert story.rule.spent == 1_000_000
        assert states(story.world) == ["accepted"]

    def test_what_was_rejected_is_set_aside_until_it_is_released(self, story: Story) -> None:
        story.land("b", *range(100, 120))
        story.end_job("reject")
        assert states(story.world) == ["set_aside", "accepted"]
        assert story.rule.pending_rows == 20
        for _ in range(2):
            assert release(story.world.here, "acme", "rule-support", 1).released
            assert states(story.world) == ["accepted", "accepted"]
            assert story.rule.pending_rows == 60

    def test_what_failed_is_the_next_ones_with_what_came_since(self, story: Story) -> None:
        name = f"{story.jobs[0].id}-1"
        failure = Failure(code="out_of_memory", message="It does not fit.")
        ended = {"status": "Failed", "secondary_status": "Failed", "failure_reason": "x"}
        story.world.training_jobs.observe(name, failure=failure, exit_code=2, **ended)
        observe(story.world.here, name)
        assert story.jobs[0].state == "failed"
        story.pass_by(3)
        assert story.retrainings[0].state == "failed"
        assert story.rule.pending_rows == 40
        story.pass_by(120)
        assert len(story.retrainings) == 1, "the same data is not tried again by itself"
        story.land("b", *range(100, 110))
        story.pass_by(8)
        assert len(story.retrainings) == 2
        trained = story.trained_on(story.retrainings[1])
        assert sorted(trained + story.frozen) == [*range(40), *range(100, 110)]

    def test_what_was_cancelled_is_given_back(self, story: Story) -> None:
        control.cancel(story.world.here, "acme", story.jobs[0].id)
        story.world.training_jobs.observe(f"{story.jobs[0].id}-1", status="Stopped", secondary_status="Stopped")
        story.pass_by(3)
        (retraining,) = story.retrainings
        assert (retraining.state, story.rule.pending_rows) == ("cancelled", 40)

    def test_an_end_comes_as_often_as_it_likes(self, story: Story) -> None:
        for _ in range(3):
            story.end_job("reject")
        assert states(story.world) == ["set_aside"]
        assert story.rule.spent == 1_000_000

    def test_what_is_billed_after_the_end_is_the_rules_too(self, story: Story) -> None:
        story.end_job("hold")
        over = story.jobs[0].with_(state="succeeded", billed=1_200_000, attempts=())
        for _ in range(2):
            assert end(story.world.here, over)
        assert story.retrainings[0].billed == story.rule.spent == 1_200_000

    def test_an_end_waits_until_its_job_has_no_training_job_that_lives(self, story: Story) -> None:
        job = story.jobs[0].with_(state="cancelled")
        assert job.open
        assert not end(story.world.here, job)
        assert story.retrainings[0].state == "submitted"

    def test_what_is_promoted_ends_once_the_registry_has_it_and_in_an_hour_at_the_latest(self, story: Story) -> None:
        verdict = Verdict(decision="promote", conditions=(), reason="better")
        now = story.world.clock()
        over = story.jobs[0].with_(
            state="succeeded", verdict=verdict, fine_tuned_model="ft:x", finished_at=now, attempts=()
        )
        assert not end(story.world.here, over)
        story.world.clock.now += ends.REGISTERING + 1
        assert end(story.world.here, over)

    def test_only_what_was_rejected_is_released_and_only_by_its_tenant(self, story: Story) -> None:
        with pytest.raises(Conflict, match="was set aside"):
            release(story.world.here, "acme", "rule-support", 1)
        story.end_job("reject")
        with pytest.raises(NotFound):
            release(story.world.here, "globex", "rule-support", 1)
        with pytest.raises(NotFound):
            release(story.world.here, "acme", "rule-support", 2)

    def test_more_files_than_one_transaction_takes_are_set_aside_and_released_whole(self) -> None:
        story = Story()
        events = [story.lands.put(f"{IN}{number}.jsonl", rows(number)) for number in range(70)]
        story.lands.send(*events)
        story.pass_by(7)
        story.end_job("reject")
        assert set(states(story.world)) == {"set_aside"}
        release(story.world.here, "acme", "rule-support", 1)
        assert (story.rule.pending_rows, set(states(story.world))) == (70, {"accepted"})


class TestTheWholeLoop:
    def complete(self, story: Story) -> None:
        """The newest job's container publishes a model that is better than the base."""
        job = story.jobs[-1]
        name = f"{job.id}-{len(job.attempts)}"
        output = layout.model_output_uri(layout.job_uri("artifacts", "acme", job.id), name)
        story.world.objects.write(f"{output}report.json", report(job_id=job.id).model_dump_json().encode())
        spent = {"training_seconds": 600, "billable_seconds": 600}
        story.world.training_jobs.observe(name, status="Completed", secondary_status="Completed", **spent)
        observe(story.world.here, name)
        story.world.run_queue()

    def test_a_promoted_model_is_the_champion_that_the_next_retraining_goes_on_from(self) -> None:
        story = Story()
        story.land("a", *range(100))
        story.pass_by(7)
        self.complete(story)
        first = story.retrainings[0]
        assert (first.state, first.decision) == ("succeeded", "promote")
        assert first.billed == story.jobs[0].billed > 0
        group = story.world.store.get_group("acme", "support")
        assert group is not None
        assert group.champion == 1
        story.world.clock.now += 4000
        story.land("b", *range(200, 240))
        story.pass_by(8)
        second, job = story.retrainings[1], story.jobs[1]
        assert story.manifest(second).parent == first.manifest_uri
        assert job.champion is not None
        assert job.champion.name == story.jobs[0].fine_tuned_model
        assert job.validation_uri == story.jobs[0].validation_uri, "both are measured on the same rows"
        assert sorted(n for n in story.trained_on(second) if n >= 200) == list(range(200, 240))


class TestAfterAChampion:
    def test_only_what_it_does_not_know_counts_and_old_rows_are_replayed(self) -> None:
        story = Story()
        story.land("a", *range(100))
        story.pass_by(7)
        first = story.retrainings[0]
        assert first.manifest_uri is not None
        crown(story.world, first.manifest_uri)
        story.end_job("promote")
        story.world.clock.now += 4000
        story.land("b", *range(50, 120))
        story.pass_by(8)
        assert len(story.retrainings) == 1, "twenty of the seventy are new"
        story.land("c", *range(200, 230))
        story.pass_by(8)
        second = story.retrainings[1]
        manifest = story.manifest(second)
        trained = story.trained_on(second)
        new, replayed = [n for n in trained if n >= 100], [n for n in trained if n < 100]
        assert sorted(new) == [*range(100, 120), *range(200, 230)]
        assert len(replayed) == manifest.replayed_rows == round(50 * 0.2 / 0.8)
        assert not set(trained) & set(story.frozen)
        assert manifest.parent == first.manifest_uri
        assert story.manifest(first).rows == 90

    @pytest.mark.parametrize("delivered", [1, 2])
    def test_data_is_chosen_anew_where_another_is_champion_by_the_time_of_submission(
        self, monkeypatch: pytest.MonkeyPatch, delivered: int
    ) -> None:
        """In the same delivery, at the last moment; or in the next one, since the first was cut off."""
        story = Story()
        client = client_of(story.world.here, "acme")
        file_id = client.upload(rows(*range(40)))
        persons = client.call("POST", "/v1/fine_tuning/jobs", {**JOB, "training_file": file_id}).body["id"]
        right = retrain.submit  # type: ignore[attr-defined]

        def first(*arguments: Any, **named: Any) -> JobRecord:
            monkeypatch.setattr(retrain, "submit", right)
            crown(story.world, None, persons)
            if delivered == 2:
                raise Unavailable("cut off", code="store_unavailable")
            submitted: JobRecord = right(*arguments, **named)
            return submitted

        monkeypatch.setattr(retrain, "submit", first)
        story.land("a", *range(100))
        if delivered == 2:
            with pytest.raises(Unavailable):
                story.pass_by(10)
        story.pass_by(10)
        (retraining,) = story.retrainings
        job = story.jobs[-1]
        assert (job.retraining, retraining.job_id) == (f"{story.rule.id}/1", job.id)
        assert job.champion is not None
        assert job.training_uri == story.manifest(retraining).uri
        assert sum(n < 40 for n in story.trained_on(retraining)) == story.manifest(retraining).replayed_rows < 40
        assert retraining.rows == len(story.trained_on(retraining))

    @pytest.mark.parametrize("lost", [False, True])
    def test_what_a_person_trained_it_on_is_not_new_as_long_as_that_can_be_seen(self, lost: bool) -> None:
        story = Story()
        client = client_of(story.world.here, "acme")
        file_id = client.upload(rows(*range(40)))
        job = client.call("POST", "/v1/fine_tuning/jobs", {**JOB, "training_file": file_id}).body
        crown(story.world, None, job["id"])
        if lost:
            client.call("DELETE", f"/v1/files/{file_id}")
        story.land("a", *range(60))
        story.pass_by(8)
        assert [one.number for one in story.retrainings] == ([1] if lost else []), "twenty of the sixty are new"
        story.land("b", *range(100, 130))
        story.pass_by(8)
        if not lost:
            trained = story.trained_on(story.retrainings[0])
            assert {*trained} | {*story.frozen} >= {*range(40, 60), *range(100, 130)}
            assert min(trained) >= 40
            assert min(story.frozen) >= 40, "on rows that it was trained on the champion would look too good"

    def test_growth_is_measured_against_a_person_s_file_too(self) -> None:
        story = Story(trigger={"min_growth": 1.0})
        client = client_of(story.world.here, "acme")
        body = {**JOB, "training_file": client.upload(rows(*range(40)))}
        crown(story.world, None, client.call("POST", "/v1/fine_tuning/jobs", body).body["id"])
        story.land("a", *range(100, 139))
        story.pass_by(8)
        assert story.retrainings == []
        story.land("b", 139)
        story.pass_by(8)
        assert [one.cause for one in story.retrainings] == ["growth"]


class TestBadDays:
    def test_a_file_that_is_gone_by_then_is_left_out(self) -> None:
        story = Story()
        story.land("a", *range(40))
        story.land("b", *range(40, 80))
        lost = arrivals(story.world)[1]
        story.world.objects.delete_version(lost.uri, lost.version_id)
        story.pass_by(8)
        (retraining,) = story.retrainings
        assert sorted(story.trained_on(retraining) + story.frozen) == list(range(40))
        assert states(story.world) == ["accepted", "gone"]

    def test_a_file_that_is_another_by_then_is_left_out(self) -> None:
        story = Story(versionless=("data",))
        story.land("a", *range(40))
        story.land("b", *range(40, 80))
        story.world.objects.write(f"{IN}b.jsonl", rows(*range(90, 99)))
        story.pass_by(8)
        (retraining,) = story.retrainings
        assert retraining.state == "submitted", retraining.reason
        assert sorted(story.trained_on(retraining) + story.frozen) == list(range(40))

    def test_where_all_files_are_gone_it_ends_with_words(self) -> None:
        story = Story()
        story.land("a", *range(40))
        (lost,) = arrivals(story.world)
        story.world.objects.delete_version(lost.uri, lost.version_id)
        story.pass_by(8)
        (retraining,) = story.retrainings
        assert (retraining.state, story.rule.live, story.rule.pending_rows) == ("refused", None, 0)
        assert retraining.reason

    def test_damaged_hashes_are_made_anew(self) -> None:
        story = Story()
        story.land("a", *range(40))
        retrain.look(story.world.here, "rule-support")
        (arrival,) = arrivals(story.world)
        assert arrival.hashes_uri is not None
        whole = story.world.objects.read(arrival.hashes_uri)
        retrain.fire(story.world.here, "acme", "rule-support")
        story.world.objects.write(arrival.hashes_uri, whole[:-1])
        story.world.run_queue()
        assert story.retrainings[0].state == "submitted"
        assert story.world.objects.read(arrival.hashes_uri) == whole

    def test_a_dataset_with_rows_of_what_spotune_wrote_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from spotune.service.retraining import datasets

        story = Story()
        story.land("a", *range(40))
        monkeypatch.setattr(datasets, "may_feed", lambda here, tenant, uri: False)
        story.pass_by(8)
        (retraining,) = story.retrainings
        assert retraining.state == "refused"
        assert "where Spotune itself writes" in retraining.reason

    def test_copies_of_its_own_datasets_give_a_rule_no_new_row(self) -> None:
        story = Story()
        story.land("a", *range(100))
        story.pass_by(7)
        first = story.retrainings[0]
        assert first.manifest_uri is not None
        crown(story.world, first.manifest_uri)
        story.end_job("promote")
        assert story.rule.frozen is not None
        for name, uri in (("x", story.manifest(first).uri), ("y", story.rule.frozen.uri)):
            story.lands.land(f"{IN}{name}.jsonl", story.world.objects.read(uri))
        story.pass_by(200)
        assert len(story.retrainings) == 1
        assert story.rule.counted_rows == 0

    @pytest.mark.parametrize(
        "forged",
        [
            {"uri": "s3://data/globex/training.jsonl"},
            {"known_uri": "s3://data/globex/known"},
            {"entries": "s3://data/globex/in/secret.jsonl"},
            {},
        ],
    )
    def test_a_manifest_that_its_tenant_has_forged_reads_and_writes_nothing_of_anothers(
        self, forged: dict[str, Any]
    ) -> None:
        honest = Story()
        honest.land("a", *range(40))
        honest.pass_by(8)
        true, folder = honest.manifest(honest.retrainings[0]), "s3://data/acme/rules/rule-support/1/"
        story = Story()
        story.land("a", *range(40))
        if "entries" in forged:
            story.world.objects.write(forged["entries"], rows(*range(40)))
            forged = {"entries": (true.entries[0].with_(uri=forged["entries"], version_id=""),)}
        body = true.with_(**forged).model_dump_json().encode() if forged else b"{ cut"
        story.world.objects.write(f"{folder}manifest.json", body)
        story.pass_by(8)
        assert story.retrainings[0].state == "refused"
        assert story.jobs == []
        assert story.world.objects.head("s3://data/globex/training.jsonl") is None
        assert story.world.objects.head(f"{folder}training.jsonl") is None


class Killed(BaseException):
    """The process is gone."""


WRITES = {
    "store": ("replace_rule", "begin_retraining", "commit_retraining", "commit_arrivals", "create_job", "commit"),
    "objects": ("write", "write_new", "write_stream"),
    "queue": ("send",),
}


class TestKills:
    @pytest.mark.parametrize("moment", ["before", "after"])
    def test_a_process_killed_at_any_write_leaves_one_job_on_the_same_rows(
        self, moment: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for number in range(1000):
            with monkeypatch.context() as patch:
                story = Story()
                story.land("a", *range(40))
                kills = _kill_at(story.world, number, moment, patch)
                for _ in range(60):
                    try:
                        story.pass_by()
                    except Killed:
                        continue
                (retraining,), (job,) = story.retrainings, story.jobs
                assert (retraining.state, retraining.job_id) == ("submitted", job.id)
                assert sorted(story.trained_on(retraining) + story.frozen) == list(range(40))
                assert story.rule.pending_rows == 0
                if not kills:
                    assert number > 8
                    return
        pytest.fail("the story has no end")

    @pytest.mark.parametrize("moment", ["before", "after"])
    def test_a_process_killed_while_data_is_set_aside_or_given_back_loses_none(
        self, moment: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for number in range(1000):
            with monkeypatch.context() as patch:
                story = Story()
                story.lands.send(*[story.lands.put(f"{IN}{n}.jsonl", rows(n)) for n in range(40)])
                story.pass_by(7)
                kills = _kill_at(story.world, number, moment, patch)
                for _ in range(4):
                    try:
                        story.end_job("reject", story.jobs[0])
                        release(story.world.here, "acme", "rule-support", 1)
                    except Killed:
                        continue
                rule = story.rule
                assert (rule.live, rule.pending_rows, rule.spent) == (None, 40, 1_000_000)
                assert set(states(story.world)) == {"accepted"}
                assert len({one.sequence for one in arrivals(story.world)}) == 40
                if not kills:
                    assert number > 4
                    return
        pytest.fail("the story has no end")


def _kill_at(world: World, number: int, moment: str, patch: pytest.MonkeyPatch) -> list[str]:
    """Kill the process once, before or after its write of this number; which write that was, once it was made."""
    count, killed = 0, list[str]()

    def killing(name: str, write: Any) -> Any:
        def run(*arguments: Any, **named: Any) -> Any:
            nonlocal count
            count += 1
            due = count == number + 1
            if due:
                killed.append(name)
            if due and moment == "before":
                raise Killed(name)
            answer = write(*arguments, **named)
            if due:
                raise Killed(name)
            return answer

        return run

    for part, names in WRITES.items():
        edge = getattr(world, part)
        for name in names:
            patch.setattr(edge, name, killing(name, getattr(edge, name)))
    return killed
