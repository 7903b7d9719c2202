"""A further region that the settings do not name any more: seen, not left behind, and its data kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from spotune.contracts.errors import Conflict
from spotune.deploy import deployment, kept
from spotune.deploy.deployment import Step
from tests.deploy.conftest import AWAY, Make, drawer_of, killed_after, listening
from tests.deploy.test_deployment import deploy, silent
from tests.deploy.test_destruction import Aws, destroy, held

pytestmark = pytest.mark.embedded


def last(steps: tuple[Step, ...]) -> dict[str, set[str]]:
    """What the last step does, by what it does."""
    changes = steps[-1].changes
    return {action: {one.name for one in changes if one.action == action} for action in {one.action for one in changes}}


def test_its_stack_goes_and_its_data_is_there_when_it_is_named_again(install: Make, aws: Aws, code: Path) -> None:
    with_it, without = install("leaving", further_regions=(AWAY,)), install("leaving")
    deploy(with_it, code)
    bucket = f"spotune-leaving-000000000000-{AWAY}-data"
    aws("s3", AWAY).put_object(Bucket=bucket, Key="team/copy", Body=b"there")

    steps = deployment.plan(without, code)
    assert (steps[-1].stack, steps[-1].region, steps[-1].goes) == ("spotune-leaving-further", AWAY, True)
    seen = last(steps)
    assert seen["Keep"] == {"DataBucket", "JobsBucket", "ModelsBucket", "AccessLogsBucket"}
    assert {"ForwardingRole", "ForwardStateChanges"} <= seen["Remove"]
    assert with_it.further(AWAY).exists()

    made = deployment.deploy(without, code, silent, shown=steps)
    assert made.changed
    assert not without.further(AWAY).exists()
    assert without.home.parameters()["FurtherRegions"] == ""
    assert aws("s3", AWAY).get_object(Bucket=bucket, Key="team/copy")["Body"].read() == b"there"
    assert [step.stack for step in deployment.plan(without, code)] == ["spotune-leaving-code", "spotune-leaving"]
    assert deploy(without, code).changed is False

    assert seen["Keep"] == {
        change.name for change in deployment.plan(with_it, code)[1].changes if change.action == "Import"
    }
    deploy(with_it, code)
    assert aws("s3", AWAY).get_object(Bucket=bucket, Key="team/copy")["Body"].read() == b"there"
    drawer = drawer_of(with_it)
    assert kept.noted(drawer) == []


def test_what_it_left_is_noted_though_somebody_who_deploys_too_gives_the_note_up(install: Make, code: Path) -> None:
    deploy(install("handover", further_regions=(AWAY,)), code)
    drawer = drawer_of(install("handover"))
    with listening(
        "after-call.cloudformation.DeleteStack", lambda **_: drawer.revise(kept.NOTE, lambda _: []) and None
    ):
        deploy(install("handover"), code)
    assert {thing.name for thing in kept.noted(drawer)} >= {"DataBucket", "JobsBucket", "ModelsBucket"}


def test_what_it_left_goes_with_the_installations_data(install: Make, aws: Aws, code: Path) -> None:
    deploy(install("leftover", further_regions=(AWAY,)), code)
    deploy(install("leftover"), code)
    assert any(AWAY in name for name in held(aws, "leftover"))
    destroy(install("leftover"), delete_data=True)
    assert held(aws, "leftover") == set()


def test_a_region_that_trains_does_not_leave(install: Make, code: Path, waiting_job: Callable[..., None]) -> None:
    deploy(install("trains", further_regions=(AWAY,)), code)
    waiting_job("ftjob-away-1", "trains", AWAY)
    for attempt in (deployment.plan, deploy):
        with pytest.raises(Conflict, match=rf"ftjob-away-1 in {AWAY}") as refusal:
            attempt(install("trains"), code)
        assert refusal.value.code == "jobs_running"
    assert install("trains").home.parameters()["FurtherRegions"] == AWAY
    assert install("trains").further(AWAY).exists()


@pytest.mark.parametrize("operation", ["ExecuteChangeSet", "DeleteStack"])
def test_cut_off_the_next_deployment_takes_it_away(install: Make, code: Path, operation: str) -> None:
    stage = f"cut{operation.lower()[:7]}"
    deploy(install(stage, further_regions=(AWAY,)), code)
    without = install(stage)
    with killed_after(operation):
        deploy(without, code)
    deploy(without, code)
    assert not without.further(AWAY).exists()
    drawer = drawer_of(without)
    assert {thing.region for thing in kept.noted(drawer)} == {AWAY}


def test_a_plan_of_what_was_destroyed_shows_what_is_taken_over_and_asks_for_nothing_twice(
    install: Make, code: Path
) -> None:
    installation = install("replanned", further_regions=(AWAY,))
    deploy(installation, code)
    destroy(installation)
    bucket, further, home = steps = deployment.plan(installation, code)
    assert bucket.changes == ()
    for step, names in ((further, {"DataBucket", "JobsBucket", "ModelsBucket"}), (home, {"Table", "DataBucket"})):
        taken = {change.name for change in step.changes if change.action == "Import"}
        assert names <= taken
        assert not taken & {change.name for change in step.changes if change.action == "Add"}
        assert step.creates
    assert (installation.home.status(), installation.further(AWAY).status()) == (None, None)
    deployment.deploy(installation, code, silent, shown=steps)
    assert installation.home.parameters()["FurtherRegions"] == AWAY
    assert [step.changes for step in deployment.plan(installation, code)] == [(), (), ()]
