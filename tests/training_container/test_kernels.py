"""What makes a model faster: the same losses and gradients, for models that it can be done to, and told where not."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Cohere2Config,
    Cohere2ForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaForCausalLM,
)
from transformers.models.llama import modeling_llama

from spotune.contracts.training import HardwareConfig
from training_container import projection
from training_container.corpus import Batch, Row, collate
from training_container.device import find_machine
from training_container.kernels import apply_liger, speed_up
from training_container.objectives.supervised import loss_sum, target_losses
from training_container.projection import chunk_projection

pytestmark = pytest.mark.torch

MACHINE = find_machine(HardwareConfig(precision="fp32", micro_batch_size=1, gradient_checkpointing=False))
GPU = replace(MACHINE, device=torch.device("cuda"))
SIZES: dict[str, Any] = {
    "vocab_size": 99,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
}


def llama(model: Path) -> Any:
    """With an adapter that learns, and an output layer that does not."""
    from peft import LoraConfig, get_peft_model

    base = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    adapted = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear"))
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return adapted


def batch_of(lines: int) -> Batch:
    """Several rows a line, and lines of different lengths."""

    def row(first: int, length: int) -> Row:
        trained = torch.arange(length) % 3 > 0
        return Row((torch.arange(length, dtype=torch.int32) * 7 + first) % 99, trained)

    return collate([(row(line, 12 + line), row(line + 5, 9)) for line in range(lines)], pad=0)


def learned(model: Any, batch: Batch, weights: torch.Tensor | None = None) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Each target's loss, and the gradients of their (weighted) sum."""
    model.zero_grad()
    losses = target_losses(model, batch)
    (losses.sum() if weights is None else losses @ weights).backward()
    return losses.detach(), [each.grad.clone() for each in model.parameters() if each.grad is not None]


@pytest.fixture
def chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projection, "CHUNK_LOGITS", 5 * 258)


@pytest.mark.usefixtures("chunks")
@pytest.mark.parametrize("lines", [1, 3])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_loss_in_chunks_has_the_plain_losses_and_gradients(model: Path, lines: int, weighted: bool) -> None:
    tuned, batch = llama(model), batch_of(lines)
    weights = torch.linspace(-1, 2, len(batch.targets)) if weighted else None
    plain = learned(tuned, batch, weights)
    assert chunk_projection(tuned)
    chunked = learned(tuned, batch, weights)
    assert torch.allclose(chunked[0], plain[0], atol=1e-6)
    assert len(chunked[1]) == len(plain[1]) > 0
    assert all(torch.allclose(one, other, atol=1e-6) for one, other in zip(chunked[1], plain[1], strict=True))


@pytest.mark.usefixtures("chunks")
def test_a_loss_in_chunks_rounds_as_the_plain_one_does_in_bf16(model: Path) -> None:
    tuned, batch = llama(model), batch_of(2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        plain = learned(tuned, batch)
        chunk_projection(tuned)
        chunked = learned(tuned, batch)
    assert torch.allclose(chunked[0], plain[0], atol=1e-6)
    assert all(torch.allclose(one, other, atol=2e-2) for one, other in zip(chunked[1], plain[1], strict=True))


@pytest.mark.usefixtures("chunks")
def test_no_more_logits_exist_at_once_than_a_chunk_has(model: Path) -> None:
    tuned, batch = llama(model), batch_of(3)
    chunk_projection(tuned)
    sizes: list[int] = []

    class Watching(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = function(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor) and result.shape[-1:] == (258,) and result.ndim > 1:
                sizes.append(result.numel())
            return result

    with Watching():
        loss_sum(tuned, batch)
    assert sizes
    assert max(sizes) <= projection.CHUNK_LOGITS < len(batch.targets) * 258


def test_few_logits_are_computed_as_ever(model: Path) -> None:
    tuned, batch = llama(model), batch_of(2)
    plain = learned(tuned, batch)
    chunk_projection(tuned)
    again = learned(tuned, batch)
    assert torch.equal(again[0], plain[0])
    assert all(torch.equal(one, other) for one, other in zip(again[1], plain[1], strict=True))


def capped(_: Path) -> Any:
    return Gemma2ForCausalLM(Gemma2Config(**SIZES, final_logit_softcapping=30.0)).requires_grad_(False)


def scaled(_: Path) -> Any:
    return Cohere2ForCausalLM(Cohere2Config(**SIZES, logit_scale=0.25)).requires_grad_(False)


def free(model: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)


@pytest.mark.usefixtures("chunks")
@pytest.mark.parametrize("make", [capped, scaled, free])
def test_a_model_that_changes_or_trains_its_logits_keeps_them(model: Path, make: Callable[[Path], Any]) -> None:
    kept = make(model)
    assert not chunk_projection(kept)
    assert "forward" not in vars(kept.get_output_embeddings())
    logits = kept(input_ids=batch_of(2).ids).logits
    assert logits.shape[-1] == kept.config.vocab_size


@pytest.mark.usefixtures("chunks")
def test_an_architecture_of_another_kind_is_chunked_too() -> None:
    torch.manual_seed(1)
    sizes = {"vocab_size": 258, "n_embd": 32, "n_layer": 1, "n_head": 4}
    other = GPT2LMHeadModel(GPT2Config(**sizes, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0)).requires_grad_(False)
    batch = collate([(Row(torch.arange(20, dtype=torch.int32), torch.arange(20) > 3),)], pad=0)
    plain = target_losses(other, batch)
    assert chunk_projection(other)
    assert torch.allclose(target_losses(other, batch), plain, atol=1e-6)


def liger(monkeypatch: pytest.MonkeyPatch, patch: Callable[..., None]) -> None:
    """The package as far as we call it; its kernels need a GPU."""
    package, module = ModuleType("liger_kernel"), ModuleType("liger_kernel.transformers")
    vars(module)["_apply_liger_kernel_to_instance"] = patch
    monkeypatch.setitem(sys.modules, "liger_kernel", package)
    monkeypatch.setitem(sys.modules, "liger_kernel.transformers", module)


def patching(factor: float) -> Callable[..., None]:
    """As Liger does it: methods of the modules there are, and the class for those to come."""

    def patch(model: Any, **asked: bool) -> None:
        assert asked == {"rope": False, "cross_entropy": False, "fused_linear_cross_entropy": False}
        norm = model.model.norm
        plain = norm.forward
        vars(norm)["forward"] = lambda hidden: plain(hidden) * factor
        vars(norm)["_get_name"] = lambda: "LigerRMSNorm"
        vars(modeling_llama)["LlamaRMSNorm"] = torch.nn.Identity

    return patch


def test_liger_patches_this_model_and_no_other(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    liger(monkeypatch, patching(1.001))
    tuned = llama(model)
    assert apply_liger(tuned, MACHINE) is None
    assert tuned.get_base_model().model.norm._get_name() == "LigerRMSNorm"
    assert not isinstance(LlamaForCausalLM(tuned.config).model.norm, torch.nn.Identity)


def fails(model: Any, **_: bool) -> None:
    patching(3.0)(model, rope=False, cross_entropy=False, fused_linear_cross_entropy=False)
    raise RuntimeError("no triton here")


@pytest.mark.parametrize(
    ("patch", "reason"),
    [
        (None, "liger_kernel"),
        (lambda model, **_: None, "it has no kernels for LlamaForCausalLM"),
        (patching(-3.0), "moved this model's logits"),
        (patching(float("nan")), "moved this model's logits"),
        (fails, "RuntimeError: no triton here"),
    ],
)
def test_where_liger_does_not_serve_the_model_is_as_before_and_the_report_says_why(
    model: Path, patch: Callable[..., None] | None, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if patch is not None:
        liger(monkeypatch, patch)
    tuned, ids = llama(model).eval(), batch_of(1).ids
    before = tuned(input_ids=ids).logits
    missed = apply_liger(tuned, MACHINE)
    assert missed is not None
    assert reason in missed
    assert torch.equal(tuned.eval()(input_ids=ids).logits, before)
    assert "Liger" not in repr(tuned)


def test_a_cpu_is_not_asked_for_liger_and_a_gpu_tells_that_it_is_missing(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert speed_up(llama(model), MACHINE).warnings == MACHINE.warnings
    monkeypatch.setattr("training_container.kernels.apply_liger", lambda model, machine: "no package")
    assert speed_up(llama(model), GPU).warnings == (*MACHINE.warnings, "Liger was not applied: no package.")
