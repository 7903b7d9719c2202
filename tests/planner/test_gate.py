"""What a gate may not ask for, and what its comparisons take of the plan."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from spotune.contracts.base import MICRO
from spotune.contracts.dataset import GoldenReport
from spotune.contracts.errors import RequestRefused
from spotune.contracts.events import Prepared
from spotune.contracts.request import JobRequest
from spotune.contracts.training import ChampionConfig
from spotune.planner import Judged, known_config, prepare, read_architecture
from spotune.planner.evaluation import Evaluations, evaluations
from spotune.planner.gate import check_gate
from spotune.planner.volume import Volume
from tests import tiny_model
from tests.factories import NOW, dataset, job, request

GROUP = {"registry": {"group": "triage"}}
GOLDEN = GoldenReport(
    uri="s3://data/acme/g.jsonl", sha256="2" * 64, bytes=9000, prompts=40, prompt_tokens=4000, answer_tokens=300
)
CHAMPION = ChampionConfig(name="ft:tiny:triage:old", start=False)
ARCHITECTURE = read_architecture(tiny_model.CONFIG)
VOLUME = Volume(rows=90, sequences=90, row_sequences=1, tokens=9000, evaluation_tokens=1000)


def refusal(**changes: object) -> RequestRefused:
    with pytest.raises(RequestRefused) as refused:
        check_gate(request(**changes))
    assert refused.value.remedy
    return refused.value


@pytest.mark.parametrize(
    ("gate", "field"),
    [
        ({"better_than_champion": {}}, "gate.better_than_champion"),
        ({"no_slice_worse": {}}, "gate.no_slice_worse"),
        ({"max_cost_usd": 3}, "gate.max_cost_usd"),
        ({"approval": True}, "gate.approval"),
    ],
)
def test_what_has_no_meaning_without_a_group_is_refused_by_name(gate: dict[str, object], field: str) -> None:
    refused = refusal(gate=gate)
    assert (refused.code, refused.param) == ("group_missing", field)
    check_gate(request(gate=gate, **GROUP))


def test_there_is_no_champion_to_go_on_from_without_a_group() -> None:
    assert refusal(registry={"start_from": "champion"}).param == "registry.start_from"


@pytest.mark.parametrize("condition", ["better_than_champion", "no_slice_worse"])
def test_a_metric_that_is_not_measured_is_refused_with_those_that_are(condition: str) -> None:
    asked = {"gate": {condition: {"metric": "exact_match"}}, **GROUP}
    refused = refusal(**asked)
    assert (refused.code, refused.param) == ("conflicting_settings", f"gate.{condition}.metric")
    check_gate(request(training={"generation_examples": 20}, **asked))
    preferring = refusal(method={"type": "dpo"}, gate={condition: {}}, **GROUP)
    assert (preferring.code, preferring.param) == ("metric_not_measured", f"gate.{condition}.metric")
    assert "preference_accuracy" in preferring.remedy
    judged = {"gate": {condition: {"metric": "preference_accuracy"}}, **GROUP}
    check_gate(request(method={"type": "dpo"}, **judged))
    assert refusal(**judged).code == "metric_not_measured"


def test_a_share_of_golden_prompts_needs_the_prompts() -> None:
    assert refusal(gate={"min_golden": 0.9}).param == "gate.min_golden"
    check_gate(request(gate={"min_golden": 0.9, "golden_file": "file-golden"}))


def plan_for(asked: JobRequest, judged: Judged, config: Mapping[str, object] = tiny_model.CONFIG) -> Prepared:
    record = job()
    return prepare(
        asked,
        job_id=record.id,
        model=record.model,
        architecture_config=config,
        training=dataset(),
        validation=None,
        cap=5000 * MICRO,
        now=NOW,
        judged=judged,
    )


def test_the_container_is_told_whom_to_compare_with_and_how_long_answers_may_be() -> None:
    config = plan_for(request(), Judged(CHAMPION, "lora", 5_000_000, GOLDEN)).config
    assert config.champion == CHAMPION
    assert (config.evaluation.golden, config.evaluation.golden_new_tokens) == (True, 300)
    alone = plan_for(request(), Judged()).config
    assert (alone.champion, alone.evaluation.golden) == (None, False)
    assert config.limits.publication_reserve_seconds > alone.limits.publication_reserve_seconds


def test_the_plan_says_what_the_comparisons_take_and_counts_it() -> None:
    alone, judged = plan_for(request(), Judged()), plan_for(request(), Judged(CHAMPION, "lora", 5_000_000_000, GOLDEN))
    said = {one.name: one for one in judged.settings}
    assert said["champion"].value == CHAMPION.name
    assert "measured on the same rows" in said["champion"].reason
    assert said["golden_prompts"].value == "40"
    assert "base, champion and tuned model" in said["golden_prompts"].reason
    assert not {"champion", "golden_prompts"} & {one.name for one in alone.settings}
    assert judged.golden == GOLDEN
    assert judged.plan.chosen.billed_hours.mid > alone.plan.chosen.billed_hours.mid
    assert judged.plan.chosen.start_seconds > alone.plan.chosen.start_seconds, "its files are downloaded"


def test_each_model_is_measured_once_at_each_end() -> None:
    asked = request(training={"generation_examples": 16})

    def take(judged: Judged, *, base_scored: bool = False) -> Evaluations:
        return evaluations(asked, VOLUME, epochs=2, base_scored=base_scored, judged=judged)

    assert take(Judged()) == Evaluations(tokens=3 * 1000, rounds=2 * 64)
    assert take(Judged(champion=CHAMPION)) == Evaluations(tokens=4 * 1000, rounds=3 * 64, guests=1)
    assert take(Judged(golden=GOLDEN)) == Evaluations(tokens=3 * 1000 + 2 * 4000, rounds=2 * 64 + 2 * 3 * 300)
    both = take(Judged(champion=CHAMPION, golden=GOLDEN))
    assert both == Evaluations(tokens=4 * 1000 + 3 * 4000, rounds=3 * 64 + 3 * 3 * 300, guests=1)
    assert take(Judged(), base_scored=True) == Evaluations(tokens=2 * 1000, rounds=64)


def test_a_model_is_loaded_as_a_guest_where_it_is_not_the_one_that_is_trained() -> None:
    start = CHAMPION.with_(start=True)
    assert Judged(champion=CHAMPION, champion_method="lora").guests == 1
    assert Judged(champion=start, champion_method="lora").guests == 0, "it is the model before its first step"
    assert Judged(champion=start, champion_method="full").guests == 1, "the base is not in it"
    slow, fast = (Evaluations(guests=guests).seconds(1.0, ARCHITECTURE) for guests in (2, 1))
    assert slow == 2 * fast > 0


def test_a_champion_of_virtual_tokens_is_measured_on_machines_that_do_not_spread_the_blocks() -> None:
    large = {**known_config("Qwen/Qwen2.5-7B-Instruct")}  # type: ignore[dict-item]
    asked = request(adapter={"type": "full"}, constraints={"budget_usd": 5000})
    alone = plan_for(asked, Judged(), large).plan.rungs
    assert {rung.hardware.sharding for rung in alone if rung.hardware} & {"zero3", "fsdp"}
    beside = plan_for(asked, Judged(CHAMPION, "prefix"), large).plan.rungs
    assert not {rung.hardware.sharding for rung in beside if rung.hardware} & {"zero3", "fsdp"}
