"""What each method computes, against its definition."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import GenerationConfig

from spotune.contracts.request import Method
from spotune.contracts.training import TrainingConfig
from tests.training_container.building import CONFIG
from tests.training_container.shapes import shaped
from training_container.methods import adapt, base_of
from training_container.methods.bottleneck import Bottleneck, bottlenecks
from training_container.methods.pissa import FIRST_A, FIRST_B, lora_layers
from training_container.methods.published import load_adapter, save_adapter
from training_container.model import carried, count_parameters, trainable

pytestmark = pytest.mark.torch

FAMILIES = ["llama", "gpt2", "mpt"]
"""Rotary and learned positions, and none: by mask alone."""
PROMPTS = [[5, 6, 7, 8, 9, 10], [11, 12], [13]]


def config(method: Method, **adapter: Any) -> TrainingConfig:
    settings = {"rank": 4, "alpha": 6.0, "virtual_tokens": 5, **adapter}
    changes = {"method": method, "adapter": settings, "data": {**CONFIG["data"], "packing": False}}
    return TrainingConfig.model_validate({**CONFIG, **changes})


def disturbed(family: str, method: Method, **adapter: Any) -> Any:
    """A model whose adapter has been trained, as it were."""
    model = adapt(shaped(family), config(method, **adapter)).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in trainable(model).values():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
    return model


def logits(model: Any, *lines: list[int], kept: torch.Tensor | None = None) -> torch.Tensor:
    """As the trainer asks: padded on the right, without a mask."""
    longest = max(map(len, lines))
    ids = torch.tensor([line + [0] * (longest - len(line)) for line in lines])
    more = {} if kept is None else {"logits_to_keep": kept}
    if model.config.model_type != "mpt":  # which takes none
        more["position_ids"] = torch.arange(longest).expand(len(lines), -1)
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=ids, attention_mask=None, use_cache=False, **more).logits
    return found


def generated(model: Any, *prompts: list[int]) -> list[list[int]]:
    """As the evaluator asks: padded on the left, with a mask."""
    longest = max(map(len, prompts))
    ids = torch.tensor([[0] * (longest - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    settings = GenerationConfig(do_sample=False, max_new_tokens=6, eos_token_id=63, pad_token_id=0)
    output = model.generate(input_ids=ids, attention_mask=mask, generation_config=settings)
    # Where embeddings are given instead of tokens, generation answers with the new tokens alone.
    new: list[list[int]] = output[:, -6:].tolist()
    return new


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", ["prefix", "prompt", "bottleneck", "lora"])
def test_lines_of_a_batch_do_not_see_each_other_or_their_padding(family: str, method: Method) -> None:
    model = disturbed(family, method)
    together = logits(model, *PROMPTS)
    for line, prompt in enumerate(PROMPTS):
        alone = logits(model, prompt)[0]
        assert torch.allclose(together[line, : len(prompt)], alone, atol=1e-5)
    with base_of(model):
        assert not torch.allclose(logits(model, PROMPTS[0])[0], together[0], atol=1e-3)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", ["prefix", "prompt"])
def test_prompts_of_a_batch_are_answered_as_each_alone_and_as_the_logits_say(family: str, method: Method) -> None:
    model = disturbed(family, method)
    together = generated(model, *PROMPTS)
    for answer, prompt in zip(together, PROMPTS, strict=True):
        assert generated(model, prompt) == [answer]
        said = list(prompt)
        for token in answer:
            assert int(logits(model, said)[0, -1].argmax()) == token
            said.append(token)


@pytest.mark.parametrize("family", ["llama", "gpt2", "mpt"])
def test_a_prompt_is_embeddings_before_the_words_and_positions_kept_count_from_the_words(family: str) -> None:
    model = disturbed(family, "prompt")
    base, words = model.get_base_model(), torch.tensor([PROMPTS[0]])
    virtual = model.prompt_encoder["default"].embedding.weight[None]
    with torch.no_grad():
        whole = torch.cat([virtual, base.get_input_embeddings()(words)], dim=1)
        expected = base(inputs_embeds=whole, use_cache=False).logits[0, 5:]
    assert torch.allclose(logits(model, PROMPTS[0])[0], expected, atol=1e-5)
    kept = torch.tensor([1, 4])
    assert torch.allclose(logits(model, PROMPTS[0], kept=kept)[0], expected[kept], atol=1e-5)


def test_the_base_model_answers_untouched_whatever_the_method_adds() -> None:
    untouched = logits(shaped("llama"), PROMPTS[0])
    for method in ("lora", "dora", "rslora", "pissa", "ia3", "prefix", "prompt", "bottleneck"):
        model = disturbed("llama", method)
        with base_of(model):
            assert torch.equal(logits(model, PROMPTS[0]), untouched), method
        assert not torch.allclose(logits(model, PROMPTS[0]), untouched, atol=1e-3), method


def test_pissa_begins_as_the_base_model_with_the_components_that_peft_finds() -> None:
    from peft import LoraConfig, get_peft_model

    ours = adapt(shaped("llama"), config("pissa")).eval()
    names = sorted({name.rpartition(".")[2] for name, _ in lora_layers(ours)})
    settings = LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=6.0, target_modules=names, init_lora_weights="pissa")
    theirs = dict(lora_layers(get_peft_model(shaped("llama"), settings)))
    assert torch.allclose(logits(ours, PROMPTS[0]), logits(shaped("llama"), PROMPTS[0]), atol=1e-5)
    for name, layer in lora_layers(ours):
        product, expected = (
            one.lora_B["default"].weight @ one.lora_A["default"].weight for one in (layer, theirs[name])
        )
        assert torch.allclose(product, expected, atol=1e-5)
        residual = layer.get_base_layer().weight - layer.scaling["default"] * product
        assert torch.allclose(residual, theirs[name].get_base_layer().weight, atol=1e-5)


def test_pissa_is_published_as_a_plain_lora_of_twice_the_rank_over_the_model_as_it_was(tmp_path: Path) -> None:
    from peft import PeftModel

    model = disturbed("llama", "pissa")
    save_adapter(model, tmp_path, config("pissa"))
    again = PeftModel.from_pretrained(shaped("llama"), tmp_path)
    assert again.peft_config["default"].r == 8
    assert torch.allclose(logits(again, PROMPTS[0]), logits(model, PROMPTS[0]), atol=1e-5)
    assert torch.allclose(logits(again.merge_and_unload(), PROMPTS[0]), logits(model, PROMPTS[0]), atol=1e-5)


def test_pissas_first_components_travel_in_the_checkpoint_and_are_not_trained() -> None:
    model = adapt(shaped("llama"), config("pissa"))
    held = {name for name in carried(model) if name.rpartition(".")[2] in (FIRST_A, FIRST_B)}
    assert len(held) == 2 * 2 * 7
    assert not held & trainable(model).keys()
    assert not held & model.state_dict().keys()
    assert carried(adapt(shaped("llama"), config("lora"))).keys() == trainable(model).keys()


def test_bottleneck_adapters_are_the_papers_and_begin_as_the_identity() -> None:
    # Houlsby et al. 2019, section 2.1: 2md + d + m for each of the two adapters of a layer.
    model = adapt(shaped("llama"), config("bottleneck"))
    assert count_parameters(model)[0] == 2 * 2 * (2 * 4 * 32 + 32 + 4)
    assert [name for name, _ in bottlenecks(model)][:2] == [
        "model.layers.0.attention_adapter",
        "model.layers.0.mlp_adapter",
    ]
    assert torch.equal(logits(model.eval(), PROMPTS[0]), logits(shaped("llama"), PROMPTS[0]))
    adapter, hidden = Bottleneck(6, 2, torch.device("cpu")), torch.randn(3, 6)
    torch.nn.init.normal_(adapter.up.weight)
    inner = torch.nn.functional.gelu(hidden @ adapter.down.weight.T + adapter.down.bias)
    assert torch.allclose(adapter(hidden), hidden + inner @ adapter.up.weight.T + adapter.up.bias, atol=1e-6)


def test_an_adapter_of_another_models_shape_is_not_loaded_by_halves(tmp_path: Path) -> None:
    model = disturbed("llama", "bottleneck")
    save_adapter(model, tmp_path, config("bottleneck"))
    path = tmp_path / "adapter_model.safetensors"
    weights = load_file(path)
    save_file({name: tensor for name, tensor in weights.items() if ".1." not in name}, path)
    with pytest.raises(RuntimeError, match=r"layers\.1\."):
        load_adapter(shaped("llama"), tmp_path)
    save_file({name.replace("layers.1.", "layers.7."): tensor for name, tensor in weights.items()}, path)
    with pytest.raises(RuntimeError, match=r"layers\.7\."):
        load_adapter(shaped("llama"), tmp_path)
