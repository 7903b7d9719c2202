"""What somebody agreed to is carried out, and nothing else: a real CloudFormation, and somebody else at work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from spotune.contracts.errors import Conflict
from spotune.deploy import deployment
from spotune.deploy.deployment import Step
from spotune.deploy.installation import Installation
from tests.deploy.conftest import AWAY, Make
from tests.deploy.test_deployment import change_sets, deploy, silent

pytestmark = pytest.mark.embedded


def carry_out(installation: Installation, code: Path, shown: tuple[Step, ...]) -> deployment.Deployed:
    return deployment.deploy(installation, code, silent, shown=shown)


def refused(installation: Installation, code: Path, shown: tuple[Step, ...]) -> bool:
    with pytest.raises(Conflict) as refusal:
        carry_out(installation, code, shown)
    return refusal.value.code == "changed_since_shown"


def test_what_was_shown_is_carried_out(install: Make, code: Path) -> None:
    first = install("shown", further_regions=(AWAY,))
    assert carry_out(first, code, deployment.plan(first, code)).changed
    later = install("shown", further_regions=(AWAY,), limits={"jobs": 7})
    assert carry_out(later, code, deployment.plan(later, code)).changed
    assert later.home.parameters()["Jobs"] == "7"
    assert carry_out(later, code, deployment.plan(later, code)).changed is False


def test_a_change_that_somebody_made_meanwhile_is_not_undone_unseen(
    install: Make, aws: Callable[..., Any], code: Path
) -> None:
    deploy(install("seen"), code)
    mine, theirs = install("seen", limits={"jobs": 7}), install("seen", limits={"jobs": 8})
    shown = deployment.plan(mine, code)
    deploy(theirs, code)
    again = deployment.plan(mine, code)
    assert [step.changes for step in again] == [step.changes for step in shown], "they differ by their values alone"
    assert refused(mine, code, shown)
    assert mine.home.parameters()["Jobs"] == "8"
    assert change_sets(aws, "spotune-seen") == []
    carry_out(mine, code, again)
    assert mine.home.parameters()["Jobs"] == "7"


def test_changes_that_were_not_shown_are_withdrawn(install: Make, aws: Callable[..., Any], code: Path) -> None:
    deploy(install("unshown"), code)
    wanted = install("unshown", limits={"jobs": 7})
    bucket, home = deployment.plan(wanted, code)
    assert refused(wanted, code, (bucket, replace(home, changes=home.changes[1:])))
    assert refused(wanted, code, (bucket,))
    assert wanted.home.parameters()["Jobs"] == "100"
    assert change_sets(aws, "spotune-unshown") == []


def test_what_was_shown_as_new_and_is_there_by_now_is_not_touched(install: Make, code: Path) -> None:
    mine = install("raced", limits={"jobs": 7})
    shown = deployment.plan(mine, code)
    deploy(install("raced", limits={"jobs": 8}), code)
    assert refused(mine, code, shown)
    assert mine.home.parameters()["Jobs"] == "8"
