import pytest

from spotune.contracts.errors import RequestRefused
from spotune.planner import known_config
from spotune.planner.combinations import METHOD_FIELDS
from tests.planner.cases import EVERY_TRAINER, LARGE, plan_for

REACHES = {
    "method.type": ({"method": {"type": "dpo"}}, lambda config: config.objective.type, "dpo"),
    "adapter.quantization": (
        {"adapter": {"type": "lora", "quantization": "int8"}},
        lambda config: config.quantization,
        "int8",
    ),
    "training.loss_on": ({"choice": {"loss_on": "all"}}, lambda config: config.objective.loss_on, "all"),
    "training.evaluations_per_epoch": (
        {"choice": {"evaluations_per_epoch": 2}},
        lambda config: config.evaluation.evaluations_per_epoch,
        2,
    ),
    "training.early_stopping_patience": (
        {"choice": {"early_stopping_patience": 2}},
        lambda config: config.evaluation.early_stopping_patience,
        2,
    ),
    "outputs.merged": ({"outputs": {"merged": True}}, lambda config: config.outputs.merged, True),
    "outputs.gguf": ({"outputs": {"gguf": "f16"}}, lambda config: config.outputs.gguf, "f16"),
    "integrations": (
        {"integrations": [{"type": "tensorboard"}]},
        lambda config: [tracker.type for tracker in config.trackers],
        ["tensorboard"],
    ),
}
"""What is asked for, where the container reads it, and what it reads."""


def refusal(**request):
    with pytest.raises(RequestRefused) as refused:
        plan_for(trainer=EVERY_TRAINER, **request)
    return refused.value


@pytest.mark.parametrize("name", sorted(REACHES))
def test_what_is_asked_for_reaches_the_container(name):
    request, read, expected = REACHES[name]
    assert read(plan_for(**request).config) == expected


@pytest.mark.parametrize("method", sorted(METHOD_FIELDS))
def test_every_method_is_planned(method):
    assert plan_for(adapter={"type": method}).config.method == method


def test_qlora_over_weights_that_are_not_quantized_is_refused():
    refused = refusal(adapter={"type": "qlora", "quantization": "none"})
    assert (refused.code, refused.param) == ("conflicting_settings", "adapter.quantization")


@pytest.mark.parametrize("method", ["full", "freeze"])
@pytest.mark.parametrize("quantization", ["nf4", "fp4", "int8"])
def test_what_trains_the_weights_themselves_takes_no_quantization(method, quantization):
    refused = refusal(adapter={"type": method, "quantization": quantization})
    assert (refused.code, refused.param) == ("conflicting_settings", "adapter.quantization")


@pytest.mark.parametrize(
    ("method", "field", "value"),
    [
        ("full", "rank", 8),
        ("full", "trained_layers", 3),
        ("freeze", "alpha", 3.0),
        ("lora", "virtual_tokens", 7),
        ("auto", "trained_layers", 7),
        ("ia3", "rank", 8),
        ("prompt", "target_modules", "attention"),
        ("bottleneck", "virtual_tokens", 7),
    ],
)
def test_a_setting_that_the_method_has_no_use_for_is_refused_not_dropped(method, field, value):
    refused = refusal(adapter={"type": method, field: value})
    assert (refused.code, refused.param) == ("setting_without_use", f"adapter.{field}")
    assert method in str(refused)


@pytest.mark.parametrize("method", ["prefix", "prompt", "bottleneck"])
@pytest.mark.parametrize("output", [{"merged": True}, {"gguf": "q8_0"}])
def test_what_cannot_be_merged_is_not_asked_for_merged(method, output):
    refused = refusal(adapter={"type": method}, outputs=output)
    assert (refused.code, refused.param) == ("output_not_possible", f"outputs.{next(iter(output))}")


@pytest.mark.parametrize(
    ("adapter", "field", "largest", "code"),
    [
        ({"type": "lora", "rank": 193}, "rank", 192, "rank_above_layer"),
        ({"rank": 512}, "rank", 192, "rank_above_layer"),
        ({"type": "pissa", "rank": 512, "target_modules": ["q_proj", "down_proj"]}, "rank", None, None),
        ({"type": "freeze", "trained_layers": 31}, "trained_layers", 30, "too_many_trained_layers"),
    ],
)
def test_what_the_model_has_no_room_for_is_refused_with_the_largest_value(adapter, field, largest, code):
    if code is None:
        assert plan_for(trainer=EVERY_TRAINER, adapter=adapter).config.adapter.rank == 512
        return
    refused = refusal(adapter=adapter)
    assert (refused.code, refused.param) == (code, f"adapter.{field}")
    assert f"Set it to {largest} or less" in refused.remedy
    assert plan_for(trainer=EVERY_TRAINER, adapter={**adapter, field: largest})


def test_a_preference_has_its_loss_on_the_answers():
    refused = refusal(method={"type": "dpo"}, choice={"loss_on": "last_turn"})
    assert (refused.code, refused.param) == ("conflicting_settings", "training.loss_on")


def test_dora_over_int8_and_a_prefix_under_checkpointing_are_refused():
    assert refusal(adapter={"type": "dora", "quantization": "int8"}).param == "adapter.quantization"
    refused = refusal(adapter={"type": "prefix"}, choice={"gradient_checkpointing": True})
    assert refused.param == "training.gradient_checkpointing"
    assert not plan_for(adapter={"type": "prefix"}).config.hardware.gradient_checkpointing


@pytest.mark.parametrize(
    ("model", "changes", "word"),
    [
        ("google/gemma-2-2b-it", {}, "gemma2"),
        (LARGE, {"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "llama3"),
        (LARGE, {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e6}}, "yarn"),
        ("mistralai/Mistral-7B-v0.3", {"sliding_window": 4096}, "4096"),
        (
            LARGE,
            {"model_type": "qwen2", "rope_scaling": None, "use_sliding_window": True, "sliding_window": 512},
            "512",
        ),
        (LARGE, {"model_type": "qwen3", "rope_scaling": None, "head_dim": 64}, "64"),
    ],
)
def test_gguf_of_a_model_that_is_not_written_as_such_is_refused_before_it_is_paid_for(model, changes, word):
    config = {**known_config(model), **changes}
    refused = refusal(model=model, config=config, outputs={"gguf": "f16"})
    assert (refused.code, refused.param) == ("output_not_possible", "outputs.gguf")
    assert word in str(refused)
    assert plan_for(model, config=config, trainer=EVERY_TRAINER, outputs={"merged": True}).config.outputs.merged
    plain = {**known_config(LARGE), "rope_scaling": None, "rope_parameters": {"rope_type": "default"}}
    assert plan_for(LARGE, config=plain, trainer=EVERY_TRAINER, outputs={"gguf": "f16"}).config.outputs.gguf


def test_a_gate_that_no_answer_could_pass_is_refused():
    refused = refusal(gate={"min_exact_match": 0.5})
    assert (refused.code, refused.param) == ("conflicting_settings", "gate.min_exact_match")
    assert plan_for(gate={"min_exact_match": 0.5}, choice={"generation_examples": 5}).config
