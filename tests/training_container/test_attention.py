"""Packed rows are as good as alone, whichever kernel computes attention."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    modeling_flash_attention_utils,
)

from spotune.contracts.training import HardwareConfig
from training_container import attention
from training_container.attention import ROW_BY_ROW, check_separation, choose_attention
from training_container.corpus import Row, collate
from training_container.device import Machine, find_machine
from training_container.faults import TrainingFault
from training_container.objectives.supervised import loss_sum

pytestmark = pytest.mark.torch

MACHINE = find_machine(HardwareConfig(precision="fp32", micro_batch_size=1, gradient_checkpointing=False))
SHAPE: dict[str, Any] = {
    "vocab_size": 99,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}


def llama(model: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)


def mistral(_: Path) -> Any:
    torch.manual_seed(1)
    return MistralForCausalLM(MistralConfig(**SHAPE, sliding_window=5))


def qwen(_: Path) -> Any:
    torch.manual_seed(2)
    return Qwen3ForCausalLM(Qwen3Config(**SHAPE, head_dim=16))


def row(first: int, length: int) -> Row:
    trained = torch.ones(length, dtype=torch.bool)
    trained[0] = False
    return Row((torch.arange(length, dtype=torch.int32) * 7 + first) % 99, trained)


PACKED = [(row(1, 9), row(2, 1), row(3, 14)), (row(4, 3),), (row(5, 6), row(6, 2))]


def loss_and_gradients(model: Any, lines: list[tuple[Row, ...]]) -> tuple[float, list[torch.Tensor]]:
    model.zero_grad()
    total = torch.zeros(())
    for line in lines:
        loss = loss_sum(model, collate([line], pad=0))
        loss.backward()
        total += loss.detach()
    return float(total), [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]


Make = Callable[[Path], Any]


@pytest.mark.parametrize("make", [llama, mistral, qwen])
@pytest.mark.parametrize("kernel", ["sdpa", "eager", ROW_BY_ROW, "long rows"])
def test_packed_rows_have_the_loss_and_the_gradients_that_each_has_alone(
    model: Path, make: Make, kernel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = make(model)
    alone.set_attn_implementation("eager")
    expected = loss_and_gradients(alone, [(one,) for line in PACKED for one in line if len(one) > 1])
    packed = make(model)
    if kernel in ("sdpa", "eager"):
        packed.set_attn_implementation(kernel)
    else:
        assert choose_attention(packed, MACHINE) == ROW_BY_ROW
        monkeypatch.setattr(attention, "SQUARE_TOKENS", 4 if kernel == "long rows" else 512)
    packed.zero_grad()
    loss = loss_sum(packed, collate(PACKED, pad=0))
    loss.backward()
    assert float(loss) == pytest.approx(expected[0], rel=1e-5)
    gradients = [parameter.grad for parameter in packed.parameters() if parameter.grad is not None]
    assert all(torch.allclose(one, other, atol=2e-5) for one, other in zip(gradients, expected[1], strict=True))


def flash_on_a_cpu(lengths: list[list[int]]) -> Any:
    """flash-attention's two functions by torch, exact; the lengths of the rows it is told of are noted."""

    def causal(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float | None) -> torch.Tensor:
        parts = (part.transpose(-3, -2) for part in (query, key, value))
        attend = torch.nn.functional.scaled_dot_product_attention
        return attend(*parts, is_causal=True, scale=scale, enable_gqa=True).transpose(-3, -2)

    def whole_lines(query: Any, key: Any, value: Any, *, softmax_scale: float | None = None, **_: Any) -> torch.Tensor:
        return causal(query, key, value, softmax_scale)

    def rows(query: Any, key: Any, value: Any, *, cu_seqlens_q: Any, softmax_scale: Any = None, **_: Any) -> Any:
        lengths.append(cu_seqlens_q.diff().tolist())
        split = (part.split(lengths[-1]) for part in (query, key, value))
        return torch.cat([causal(*row, softmax_scale) for row in zip(*split, strict=True)])

    def options(softmax_scale: float | None = None, **_: Any) -> dict[str, Any]:
        return {"softmax_scale": softmax_scale}

    return lambda _: ((whole_lines, rows, None, None, None), (options, None))


@pytest.mark.parametrize("make", [llama, qwen])
def test_flash_attention_is_told_of_every_row_of_every_line(
    model: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """transformers' own path to flash-attention; only the kernel is another."""
    alone = make(model)
    alone.set_attn_implementation("eager")
    expected = loss_and_gradients(alone, [(one,) for line in PACKED for one in line if len(one) > 1])
    lengths: list[list[int]] = []
    monkeypatch.setattr(modeling_flash_attention_utils, "lazy_import_flash_attention", flash_on_a_cpu(lengths))
    flash = make(model)
    flash.config._attn_implementation = "flash_attention_2"  # its setter wants the package
    check_separation(flash, MACHINE)
    lengths.clear()
    loss = loss_sum(flash, collate(PACKED, pad=0))
    loss.backward()
    assert float(loss) == pytest.approx(expected[0], rel=1e-5)
    gradients = [parameter.grad for parameter in flash.parameters() if parameter.grad is not None]
    assert all(torch.allclose(one, other, atol=2e-5) for one, other in zip(gradients, expected[1], strict=True))
    assert lengths == [[9, 1, 14, 3, 21, 6, 2, 16]] * flash.config.num_hidden_layers
    lengths.clear()
    assert float(loss_sum(flash, collate([line[:1] for line in PACKED], pad=0))) == pytest.approx(
        sum(loss_and_gradients(alone, [line[:1]])[0] for line in PACKED), rel=1e-5
    )
    assert not lengths


def test_generation_from_prompts_of_different_lengths_is_the_same_with_every_kernel(model: Path) -> None:
    answers = []
    for kernel in ("sdpa", ROW_BY_ROW):
        chosen = llama(model)
        if kernel == ROW_BY_ROW:
            choose_attention(chosen, MACHINE)
        ids = torch.tensor([[0, 0, 5, 6], [7, 8, 9, 10]])
        mask = torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1]])
        output = chosen.generate(input_ids=ids, attention_mask=mask, max_new_tokens=6, do_sample=False, pad_token_id=0)
        answers.append(output.tolist())
    assert answers[0] == answers[1]


def test_gradient_checkpointing_changes_no_gradient(model: Path) -> None:
    plain = llama(model)
    choose_attention(plain, MACHINE)
    again = copy.deepcopy(plain).train()
    again.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    one, other = (loss_and_gradients(each, PACKED) for each in (plain, again))
    assert one[0] == other[0]
    assert all(torch.equal(first, second) for first, second in zip(one[1], other[1], strict=True))


@pytest.mark.parametrize("make", [llama, mistral, qwen])
def test_rows_are_apart_in_the_models_that_we_know(model: Path, make: Make) -> None:
    chosen = make(model)
    check_separation(chosen, MACHINE)
    choose_attention(chosen, MACHINE)
    check_separation(chosen, MACHINE)


@pytest.mark.parametrize("square", [4, 512])
def test_rows_are_apart_under_attention_dropout_too(square: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "SQUARE_TOKENS", square)
    chosen = Qwen3ForCausalLM(Qwen3Config(**SHAPE, head_dim=16, attention_dropout=0.5)).train()
    choose_attention(chosen, MACHINE)

    def second(first: Row) -> torch.Tensor:
        torch.manual_seed(3)
        batch = collate([(first, row(9, 8))], pad=0)
        output = chosen(input_ids=batch.ids, position_ids=batch.positions, attention_mask=None, use_cache=False)
        return output.logits[0, 8:]

    assert torch.equal(second(row(1, 8)), second(row(2, 8)))
    assert not torch.equal(second(row(1, 8)), chosen.eval()(row(9, 8).ids[None].long()).logits[0])


def test_a_model_whose_rows_see_each_other_is_refused(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leaking = llama(model)
    choose_attention(leaking, MACHINE)
    monkeypatch.setattr(attention, "_row_lengths", lambda positions: [len(positions)])
    with pytest.raises(TrainingFault) as caught:
        check_separation(leaking, MACHINE)
    assert caught.value.code == "packing_leaks"


def test_a_gpu_has_flash_attention_where_it_is_installed_and_can_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """As far as the choice goes; the kernels themselves need a GPU."""
    card = Machine(torch.device("cuda", 0), "card", "bf16")
    for capability, installed, expected in (
        ((8, 0), True, "flash_attention_2"),
        ((8, 0), False, "sdpa"),
        ((7, 5), True, "sdpa"),
    ):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, value=capability: value)
        monkeypatch.setattr(attention, "find_spec", lambda name, value=installed: value or None)
        assert attention._fastest(card) == expected
