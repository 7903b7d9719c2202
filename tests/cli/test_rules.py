"""`rules` against the real handlers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from spotune.retraining.course import Ending
from tests import tiny_model
from tests.cli.conftest import Run, Service
from tests.handlers.test_rules import end, lands

RULE = f"""\
name: support
source:
  uri: s3://data/acme/support/**
job:
  model: {tiny_model.NAME}
  constraints:
    budget_usd: 5
trigger:
  min_rows: 100
monthly_budget_usd: 50
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "rule.yaml"
    path.write_text(RULE)
    return path


@pytest.fixture
def rule_id(service: Service, run: Run, file: Path) -> str:
    made = run("rules", "create", file, "--json")
    assert made.code == 0, made.err
    return str(made.json["id"])


def test_a_rule_is_made_shown_and_listed(service: Service, run: Run, file: Path) -> None:
    out = run("rules", "create", file).out
    for word in ("support", "s3://data/acme/support/**", "100 rows", "4 a day at most", "$0.0000 of $50.00"):
        assert word in out
    assert run("rules", "show", "support").out == out
    listed = run("rules", "list", "--json").json
    assert [one["name"] for one in listed["data"]] == ["support"]
    assert "s3://data/acme/support/**" in run("rules", "list").out


def test_the_same_file_twice_is_one_rule(run: Run, file: Path, rule_id: str) -> None:
    assert run("rules", "create", file, "--json").json["id"] == rule_id
    assert len(run("rules", "list", "--json").json["data"]) == 1
    other = run("rules", "create", file, "--set", "trigger.min_rows=5")
    assert other.code == 2
    assert f"PATCH /v1/rules/{rule_id}" in other.err


def test_the_rule_of_the_documentation_is_one(service: Service, run: Run, tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "rules.md").read_text()
    text = page.partition("```yaml\n")[2].partition("```")[0]
    path = tmp_path / "rule.yaml"
    path.write_text(text.replace("acme-data", "data").replace("HuggingFaceTB/SmolLM2-135M-Instruct", tiny_model.NAME))
    made = run("rules", "create", path, "--json")
    assert made.code == 0, made.err
    assert made.json["trigger"]["schedule"] == "0 3 * * 1-5"


def test_a_json_file_is_a_rule_file_too(service: Service, run: Run, tmp_path: Path) -> None:
    path = tmp_path / "rule.json"
    body = {"name": "j", "source": {"uri": "s3://data/acme/j/"}, "job": {"model": tiny_model.NAME}}
    path.write_text(json.dumps({**body, "trigger": {"min_growth": 0.2}}))
    assert "20% growth" in run("rules", "create", path).out


def test_faults_of_a_file_are_told_with_their_lines_before_anything_is_sent(
    service: Service, run: Run, file: Path
) -> None:
    file.write_text(RULE.replace("min_rows: 100", "min_row: 100").replace("budget_usd: 5", "budget_usd: free"))
    refused = run("rules", "create", file)
    assert refused.code == 2
    assert "line 9: unknown field 'trigger.min_row'. Did you mean 'min_rows'?" in refused.err
    assert "line 7: 'job.constraints.budget_usd'" in refused.err
    assert service.calls == []


def test_golden_prompts_on_this_machine_are_uploaded(service: Service, run: Run, file: Path) -> None:
    (file.parent / "golden.jsonl").write_text('{"prompt": "a", "expected": "b"}\n')
    job = RULE.replace("trigger:", "  gate:\n    golden_file: golden.jsonl\ntrigger:")
    file.write_text(job)
    made = run("rules", "create", file, "--json").json
    assert made["job"]["gate"]["golden_file"].startswith("file-")
    file.write_text(job.replace("golden.jsonl", "missing.jsonl"))
    missing = run("rules", "create", file)
    assert missing.code == 2
    assert "job.gate.golden_file" in missing.err


def test_fields_are_changed_and_set_back(run: Run, rule_id: str) -> None:
    changed = run("rules", "set", "support", "trigger.min_rows=7", "monthly_budget_usd=null", "--json").json
    assert (changed["trigger"]["min_rows"], changed["monthly_budget_usd"]) == (7, None)
    assert changed["job"]["constraints"]["budget_usd"] == 5
    refused = run("rules", "set", "support", "trigger.schedule=tomorrow")
    assert (refused.code, "five fields" in refused.err) == (2, True)
    assert run("rules", "set", "support", "trigger.min_rows").code == 2


def test_a_rule_is_switched_off_and_on(run: Run, rule_id: str) -> None:
    assert run("rules", "off", "support").out == "support is off.\n"
    assert run("rules", "show", "support", "--json").json["enabled"] is False
    assert run("rules", "on", rule_id).out == "support is on.\n"


def test_a_rule_is_fired_and_its_retrainings_are_listed(service: Service, run: Run, rule_id: str) -> None:
    nothing = run("rules", "fire", "support")
    assert (nothing.code, "new data" in nothing.err) == (2, True)
    lands(service.world, rule_id)
    assert "Retraining 1 of support has begun; it may cost $5.00 at most." in run("rules", "fire", "support").out
    assert run("rules", "retrainings", "support", "--json").json["data"][0]["state"] == "preparing"
    assert "one lives" in run("rules", "list").out
    end(service.world, rule_id, Ending("succeeded", "", "reject", 1_500_000))
    out = run("rules", "retrainings", "support").out
    assert ("rejected" in out, "$1.50" in out) == (True, True)
    assert "counts as new again" in run("rules", "release", "support", 1).out
    assert "succeeded, released" in run("rules", "retrainings", "support").out
    assert run("rules", "release", "support", 2).code == 3


def test_arrivals_are_listed_by_state(service: Service, run: Run, rule_id: str) -> None:
    lands(service.world, rule_id, "a.jsonl")
    assert "s3://data/acme/support/a.jsonl" in run("rules", "arrivals", "support").out
    assert run("rules", "arrivals", "support", "--state", "quarantined", "--json").json["data"] == []
    assert run("rules", "arrivals", "support", "--state", "strange").code == 2


def test_a_deleted_rule_is_gone(run: Run, rule_id: str) -> None:
    assert "starts nothing any more" in run("rules", "delete", "support").out
    for line in (("show", "support"), ("off", "support"), ("delete", "support"), ("fire", rule_id)):
        assert run("rules", *line).code == 3


def test_a_name_that_is_a_path_leads_nowhere_else(run: Run, rule_id: str) -> None:
    assert run("rules", "show", "../keys").code == 3


def test_an_answer_that_was_lost_makes_no_second_rule(service: Service, run: Run, file: Path) -> None:
    lost = [True]

    def lose(method: str, path: str) -> bool:
        return method == "POST" and path.endswith("/rules") and bool(lost) and lost.pop()

    service.lose = lose
    assert run("rules", "create", file, "--json").json["name"] == "support"
    assert lost == []
    assert len(run("rules", "list", "--json").json["data"]) == 1
