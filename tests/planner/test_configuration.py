"""What the request's words become in the container's config."""

from dataclasses import replace
from typing import get_args

import pytest

from spotune.contracts.request import Method, Objective
from spotune.planner.learning_rates import LEARNING_RATES, PREFERENCE_SHARE
from spotune.planner.memory import estimate_memory
from spotune.planner.workload import Layout
from tests.planner.cases import EVERY_TRAINER, LARGE, dataset, plan_for, workload_of


def config_of(model=LARGE, **request):
    return plan_for(model, trainer=EVERY_TRAINER, **request).config


def setting(prepared, name):
    return next(one for one in prepared.settings if one.name == name)


@pytest.mark.parametrize(
    ("adapter", "method", "quantization"),
    [
        ({"type": "lora"}, "lora", "none"),
        ({"type": "qlora"}, "qlora", "nf4"),
        ({"type": "qlora", "quantization": "fp4"}, "qlora", "fp4"),
        ({"type": "lora", "quantization": "int8"}, "lora", "int8"),
        ({"type": "dora", "quantization": "nf4"}, "dora", "nf4"),
        ({"quantization": "none"}, "lora", "none"),
        ({"quantization": "int8"}, "qlora", "int8"),
        ({"type": "full"}, "full", "none"),
        ({"type": "freeze"}, "freeze", "none"),
    ],
)
def test_quantization_is_what_was_asked_for_or_follows_from_the_method(adapter, method, quantization):
    config = config_of(adapter=adapter)
    assert (config.method, config.quantization) == (method, quantization)


def test_each_method_gets_its_own_fields():
    assert config_of(adapter={"type": "prompt", "virtual_tokens": 7}).adapter.virtual_tokens == 7
    assert config_of(adapter={"type": "freeze", "trained_layers": 3}).adapter.trained_layers == 3
    assert config_of(adapter={"type": "bottleneck", "rank": 48}).adapter.rank == 48
    assert config_of(adapter={"type": "full"}).adapter is None


def test_the_scale_of_rslora_is_that_of_lora_at_the_default_rank():
    lora, rslora = (config_of(adapter={"type": method}).adapter for method in ("lora", "rslora"))
    assert rslora.alpha / rslora.rank**0.5 == lora.alpha / lora.rank
    assert config_of(adapter={"type": "rslora", "rank": 64}).adapter.alpha == rslora.alpha


@pytest.mark.parametrize("objective", ["dpo", "orpo", "kto"])
def test_a_preference_has_its_beta_and_is_not_packed(objective):
    prepared = plan_for(LARGE, trainer=EVERY_TRAINER, method={"type": objective})
    config = prepared.config
    assert (config.objective.type, config.objective.beta, config.data.packing) == (objective, 0.1, False)
    assert objective in setting(prepared, "packing").reason
    asked = config_of(method={"type": objective, objective: {"hyperparameters": {"beta": 0.3, "n_epochs": 2}}})
    assert (asked.objective.beta, asked.optimization.epochs) == (0.3, 2)


@pytest.mark.parametrize("method", ["prefix", "prompt"])
def test_tokens_that_stand_before_an_example_are_not_packed(method):
    assert not config_of(adapter={"type": method}).data.packing
    assert config_of(adapter={"type": "lora"}).data.packing


def test_loss_evaluations_early_stopping_and_outputs_arrive():
    config = config_of(
        choice={"loss_on": "last_turn", "evaluations_per_epoch": 4, "early_stopping_patience": 3},
        outputs={"merged": True, "gguf": "q8_0"},
    )
    assert config.objective.loss_on == "last_turn"
    assert (config.evaluation.evaluations_per_epoch, config.evaluation.early_stopping_patience) == (4, 3)
    assert (config.outputs.merged, config.outputs.gguf) == (True, "q8_0")


def test_more_evaluations_and_whole_outputs_are_paid_for():
    def hours(**request):
        return plan_for(LARGE, trainer=EVERY_TRAINER, adapter={"type": "lora"}, **request).plan.chosen.billed_hours.mid

    assert hours(choice={"evaluations_per_epoch": 10}) > hours()
    assert hours(outputs={"merged": True}) > hours()
    plain, whole = config_of(), config_of(outputs={"merged": True})
    assert whole.limits.publication_reserve_seconds > plain.limits.publication_reserve_seconds


def test_whole_weights_are_made_only_where_a_gpu_or_the_machines_memory_holds_them():
    """15 GiB of Llama 3.1 8B are no more than 0.85 of 16 GiB, nor a T4; an A10G has them."""

    def verdicts(**request):
        plan = plan_for(LARGE, adapter={"type": "qlora"}, trainer=EVERY_TRAINER, **request).plan
        return {one.instance_type: one.reason for one in plan.rejections if "published whole" in one.reason}

    assert not verdicts()
    assert verdicts(outputs={"merged": True}).keys() == {"ml.g4dn.xlarge"}


def test_every_method_and_objective_has_a_learning_rate_preferences_a_lower_one():
    assert set(LEARNING_RATES) == set(get_args(Method))
    assert set(PREFERENCE_SHARE) == set(get_args(Objective))
    rates = {
        objective: config_of(adapter={"type": "qlora"}, method={"type": objective}).optimization.learning_rate
        for objective in get_args(Objective)
    }
    assert rates == {"supervised": 2e-4, "dpo": 5e-6, "orpo": 8e-5, "kto": 5e-6}


def test_preferences_cost_what_their_answers_and_the_reference_cost():
    def chosen(objective):
        hardware = {"constraints": {"instance_types": ["ml.g5.xlarge"], "market": "on_demand"}}
        both_answers = 2 if objective in ("dpo", "orpo") else 1
        training = dataset(rows=3000, mean=both_answers * 800, longest=900)
        adapter = {"type": "qlora"}
        choice = {"packing": False, "max_sequence_length": 1024}
        return plan_for(
            LARGE,
            trainer=EVERY_TRAINER,
            training=training,
            adapter=adapter,
            choice=choice,
            method={"type": objective},
            **hardware,
        ).plan.chosen

    supervised, dpo, orpo = chosen("supervised"), chosen("dpo"), chosen("orpo")
    assert orpo.billed_hours.mid > 1.5 * supervised.billed_hours.mid
    assert dpo.tokens_per_second == orpo.tokens_per_second
    assert dpo.billed_hours.mid > 1.05 * orpo.billed_hours.mid, "the base model is asked once"
    assert chosen("kto").tokens_per_second.mid < 0.9 * supervised.tokens_per_second.mid


def test_a_preference_has_the_logits_of_both_answers_in_memory():
    def needed(objective):
        work = replace(workload_of(LARGE), objective=objective)
        return estimate_memory(work, Layout(micro_batch=1, checkpointing=True), usable=80 * 1024**3)

    assert needed("dpo").logits == needed("orpo").logits == 2 * needed("supervised").logits
    assert needed("dpo").weights == needed("supervised").weights
