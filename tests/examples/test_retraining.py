"""The walk through the whole loop, with a tiny model in the place of the real one."""

from __future__ import annotations

import pytest
import yaml

from examples.retraining.walk import HERE, TICKETS, walk
from spotune.contracts.rules import RuleRequest
from spotune.local.state import StackState
from tests.embedded.bold import add_bold_model
from tests.embedded.functions import reconciling


def test_the_rule_is_one_that_the_service_takes() -> None:
    text = (HERE / "rule.yaml").read_text().replace("BUCKET", "spotune-data")
    rule = RuleRequest.model_validate(yaml.safe_load(text))
    assert rule.job.gate.better_than_champion is not None
    assert rule.job.constraints.budget is not None
    assert len(TICKETS.read_text(encoding="utf-8").splitlines()) >= 480


@pytest.mark.embedded
@pytest.mark.torch
def test_the_walk_ends_where_it_began(stack: StackState, capsys: pytest.CaptureFixture[str]) -> None:
    rule = yaml.safe_load((HERE / "rule.yaml").read_text())
    rule["job"] |= {"model": add_bold_model(stack)}
    rule["job"]["training"] = {"learning_rate": 0.005, "max_sequence_length": 512}
    with reconciling(stack):
        walk(stack, rule)
    said = capsys.readouterr().out
    for words in ("quarantined", "duplicate", "The gate says reject", "byte for byte"):
        assert words in said, said
    assert said.count("The gate says promote") == 2
