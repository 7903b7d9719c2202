"""A succeeded job becomes one version of its group, whatever is delivered twice, lost, killed or away."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest

from spotune.aws.base import AwsRefused
from spotune.contracts.errors import Unavailable, VersionConflict
from spotune.contracts.job import ChampionReference
from spotune.service.launch import run_command
from spotune.service.models import registration
from spotune.service.reconcile import reconcile
from tests.factories import config, dataset, request
from tests.in_process import World
from tests.in_process import world as make_world
from tests.service.registered import GROUP, WEIGHTS, finished, group_of, registered, statuses

AWAY = Unavailable("no answer.", code="aws_unavailable")


class Killed(BaseException):
    """The process dies here."""


@pytest.fixture
def world() -> World:
    return make_world()


def news(world: World) -> list[tuple[str, str]]:
    """Types and models of what was sent to the topic."""
    bodies = [json.loads(str(message["body"])) for message in world.deliveries.messages]
    return [(body["type"], body["data"]["id"]) for body in bodies]


def test_a_promoted_model_is_champion_told_of_and_mirrored_and_its_command_is_done(world: World) -> None:
    record, entry = finished(world, 1)
    run_command(world.here, record.id, entry)
    version = world.store.find_version("acme", "ft:tiny::1")
    assert version is not None
    assert (version.number, version.status, group_of(world).champion) == (1, "champion", 1)
    assert version.settled
    assert list(world.store.unsettled_versions()) == []
    assert world.registry.shown[str(version.package_arn)].status == "champion"
    assert news(world) == [("model.promoted", "ft:tiny::1")]
    assert world.store.get_command(record.id, entry) is None


def test_a_version_says_all_that_is_needed_to_make_it_again(world: World) -> None:
    registered(world, 1)
    version = registered(
        world,
        2,
        training=dataset(sha256="a" * 64),
        validation=dataset(sha256="b" * 64),
        retraining="rule-1/4",
        training_uri="s3://data/acme/rules/rule-1/4/training.jsonl",
        champion="ft:tiny::1",
    )
    made = version.lineage
    assert (made.job_id, made.base, made.seed, made.cost, made.method) == ("ftjob-2", "tiny", 7, 180_000, "lora")
    assert (made.data_sha256, made.evaluation_sha256) == ("a" * 64, "b" * 64)
    assert made.manifest_uri == "s3://data/acme/rules/rule-1/4/manifest.json"
    assert made.config_sha256 == hashlib.sha256(config(job_id="ftjob-2").model_dump_json().encode()).hexdigest()
    assert made.image == world.here.settings.training_image
    assert made.parent is None
    weights = next(file for file in version.files if file.name == WEIGHTS)
    assert weights.sha256 == hashlib.sha256(b"weights of ftjob-2").hexdigest()


def test_a_version_that_went_on_from_the_champion_names_it_as_its_parent(world: World) -> None:
    first = registered(world, 1)
    reference = ChampionReference(name=first.name, number=1, uri=first.uri, start=True)
    record, _ = finished(world, 2, champion=first.name)
    changed = record.with_(champion=reference)
    assert registration.lineage_of(world.here, changed, changed.report).parent == first.name  # type: ignore[arg-type]


def test_rows_that_the_seed_held_out_are_told_apart_by_data_and_seed(world: World) -> None:
    record, _ = finished(world, 1)
    assert record.report is not None
    report = record.report

    def evaluation(**changes: object) -> str:
        return registration.lineage_of(world.here, record.with_(**changes), report).evaluation_sha256

    assert evaluation() == evaluation()
    assert evaluation() != evaluation(config=config(seed=8))
    assert evaluation() != evaluation(training=dataset(sha256="c" * 64))


def test_a_job_without_a_group_stands_alone(world: World) -> None:
    record, entry = finished(world, 1, group=None)
    run_command(world.here, record.id, entry)
    assert world.store.list_groups("acme", after=None, limit=5).items == ()
    assert world.store.get_command(record.id, entry) is None


def test_a_second_delivery_registers_nothing_and_says_the_same_again(world: World) -> None:
    record, entry = finished(world, 1)
    world.store.complete_command = lambda entry: None  # type: ignore[method-assign]
    for _ in range(3):
        run_command(world.here, record.id, entry)
    assert (group_of(world).versions, statuses(world)) == (1, ["champion"])
    assert len(world.deliveries.messages) == 1


@pytest.mark.parametrize("step", ["commit_group", "replace_version"])
@pytest.mark.parametrize("done", [False, True])
def test_a_process_killed_at_any_write_leaves_one_version_that_is_told_of(
    world: World, monkeypatch: pytest.MonkeyPatch, step: str, done: bool
) -> None:
    registered(world, 1)
    world.deliveries.messages.clear()
    record, entry = finished(world, 2, champion="ft:tiny::1")
    writes = 2 if step == "replace_version" else 1
    for write in range(writes):
        with monkeypatch.context() as patch:
            patch.setattr(world.store, step, killed(getattr(world.store, step), after=0 if done else write, done=done))
            with pytest.raises(Killed):
                run_command(world.here, record.id, entry)
    run_command(world.here, record.id, entry)
    reconcile(world.here)
    assert statuses(world) == ["former", "champion"]
    assert list(world.store.unsettled_versions()) == []
    assert set(news(world)) == {("model.promoted", "ft:tiny::2")}
    ids = {json.loads(str(message["body"]))["id"] for message in world.deliveries.messages}
    assert len(ids) == 1, "receivers drop what they have by its id"


def killed(operation: Callable[..., Any], *, after: int, done: bool) -> Callable[..., Any]:
    """The operation, killed at its call number `after`, before or after it was done."""
    calls = iter(range(100))

    def call(*arguments: Any) -> Any:
        last = next(calls) == after
        if last and not done:
            raise Killed
        answer = operation(*arguments)
        if last:
            raise Killed
        return answer

    return call


def test_an_answer_that_was_lost_registers_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    record, entry = finished(world, 1)
    commit = world.store.commit_group

    def lost(*arguments: Any) -> None:
        commit(*arguments)
        raise AWAY

    with monkeypatch.context() as patch:
        patch.setattr(world.store, "commit_group", lost)
        with pytest.raises(Unavailable):
            run_command(world.here, record.id, entry)
    assert world.store.get_command(record.id, entry) is not None
    run_command(world.here, record.id, entry)
    assert (group_of(world).versions, statuses(world)) == (1, ["champion"])


def test_of_two_jobs_that_were_judged_against_no_champion_the_second_only_passes(world: World) -> None:
    first, second = registered(world, 1, champion=None), registered(world, 2, champion=None)
    assert (first.status, second.status) == ("champion", "passed")
    assert group_of(world).champion == 1


def test_registrations_at_once_are_all_taken_in_and_one_is_champion(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between reading the group and committing, another registration comes through."""
    record, entry = finished(world, 1)
    commit, others = world.store.commit_group, iter([2])

    def commit_after_another(*arguments: Any) -> None:
        for number in others:
            registered(world, number, champion=None)
        commit(*arguments)

    monkeypatch.setattr(world.store, "commit_group", commit_after_another)
    run_command(world.here, record.id, entry)
    assert statuses(world) == ["champion", "passed"]
    versions = world.store.list_versions("acme", GROUP, after=0, limit=9).items
    assert [version.name for version in versions] == ["ft:tiny::1", "ft:tiny::2"]


def test_two_deliveries_at_once_of_one_command_register_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    record, entry = finished(world, 1)
    commit, others = world.store.commit_group, iter([entry])

    def commit_after_the_other(*arguments: Any) -> None:
        for other in others:
            run_command(world.here, record.id, other)
        commit(*arguments)

    monkeypatch.setattr(world.store, "commit_group", commit_after_the_other)
    run_command(world.here, record.id, entry)
    assert (group_of(world).versions, statuses(world)) == (1, ["champion"])


def test_a_group_that_never_stands_still_leaves_the_command(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    record, entry = finished(world, 1)

    def conflict(*_: Any) -> None:
        raise VersionConflict(GROUP)

    monkeypatch.setattr(world.store, "commit_group", conflict)
    with pytest.raises(Unavailable):
        run_command(world.here, record.id, entry)
    assert world.store.get_command(record.id, entry) is not None


@pytest.mark.parametrize("fault", ["missing", "short", "empty"])
def test_a_model_whose_files_are_not_all_there_is_not_promoted(world: World, fault: str) -> None:
    record, entry = finished(world, 1)
    folder = str(record.output_uri)
    gone = {"missing": [WEIGHTS], "short": [], "empty": [WEIGHTS, "adapter_config.json", "report.json"]}[fault]
    for name in gone:
        world.objects.delete(folder + name)
    if fault == "short":
        world.objects.write(folder + WEIGHTS, b"short")
    run_command(world.here, record.id, entry)
    version = world.store.find_version("acme", "ft:tiny::1")
    assert version is not None
    assert (version.status, group_of(world).champion, version.files) == ("passed", None, ())
    assert "not promoted" in version.history[0].why


def test_while_s3_is_away_nothing_is_registered(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    record, entry = finished(world, 1)

    def away(_: str) -> None:
        raise AWAY

    with monkeypatch.context() as patch:
        patch.setattr(world.objects, "list", away)
        with pytest.raises(Unavailable):
            run_command(world.here, record.id, entry)
    assert world.store.get_group("acme", GROUP) is None
    run_command(world.here, record.id, entry)
    assert group_of(world).champion == 1


@pytest.mark.parametrize("outage", [AWAY, AwsRefused("AccessDeniedException", "no"), RuntimeError("a fault of ours")])
def test_an_outage_of_sagemakers_registry_blocks_no_promotion_and_the_mirror_catches_up(
    world: World, outage: Exception
) -> None:
    world.registry.answers.extend([outage, outage])
    version = registered(world, 1)
    assert (group_of(world).champion, version.mirrored) == (1, False)
    assert reconcile(world.here).models_settled == 0
    assert [one.value for one in world.metrics.sent if one.name == "PartsFailed"] == [1], "an operator is told"
    assert reconcile(world.here).models_settled == 1
    assert list(world.registry.shown) == [world.store.find_version("acme", "ft:tiny::1").package_arn]  # type: ignore[union-attr]
    assert news(world) == [("model.promoted", "ft:tiny::1")], "the outage told nobody again"


def test_a_package_whose_arn_was_never_written_down_is_not_made_twice(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    record, entry = finished(world, 1)
    with monkeypatch.context() as patch:
        patch.setattr(world.store, "replace_version", killed(world.store.replace_version, after=1, done=False))
        with pytest.raises(Killed):
            run_command(world.here, record.id, entry)
    assert len(world.registry.shown) == 1
    assert reconcile(world.here).models_settled == 1
    assert len(world.registry.shown) == 1


def test_one_version_that_cannot_be_mirrored_keeps_no_other_from_it(world: World) -> None:
    world.registry.answers.append(RuntimeError("x"))
    registered(world, 1)
    world.registry.answers.append(RuntimeError("x"))
    registered(world, 2)
    world.registry.answers.append(RuntimeError("x"))
    assert [reconcile(world.here).models_settled for _ in range(3)] == [1, 1, 0]


def test_of_what_waits_for_a_person_one_is_told_and_of_what_was_rejected_none(world: World) -> None:
    registered(world, 1, "hold")
    registered(world, 2, "reject")
    assert news(world) == [("model.awaiting_approval", "ft:tiny::1")]
    body = json.loads(str(world.deliveries.messages[0]["body"]))
    assert body["data"] == {
        "id": "ft:tiny::1",
        "tenant": "acme",
        "group": GROUP,
        "version": 1,
        "job_id": "ftjob-1",
        "by": "gate",
        "message": "so it was measured.",
    }


def test_tenants_groups_of_one_name_are_two(world: World) -> None:
    registered(world, 1)
    registered(world, 2, tenant="globex", champion=None)
    assert (group_of(world).champion, group_of(world, "globex").champion) == (1, 1)
    assert (group_of(world).versions, group_of(world, "globex").versions) == (1, 1)


def test_a_job_whose_request_names_no_group_keeps_its_model_as_before(world: World) -> None:
    assert request().registry.group is None
