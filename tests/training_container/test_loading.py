"""The base model's files: damaged, foreign, incomplete, or of code that nobody trusts."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from bitsandbytes.nn import Linear4bit, Linear8bitLt
from safetensors.torch import load_file, save_file

from spotune.contracts.training import TrainingConfig
from tests.training_container.building import CONFIG
from training_container.device import evaluating, find_machine
from training_container.faults import TrainingFault
from training_container.loading import TRUSTED_CODE, load_base
from training_container.quantization import check_quantized, check_unpacked

pytestmark = pytest.mark.torch

CODE = """
from transformers import LlamaConfig, LlamaForCausalLM

class HomeConfig(LlamaConfig):
    model_type = "home_made"

class HomeModel(LlamaForCausalLM):
    config_class = HomeConfig
"""
AUTO_MAP = {"AutoConfig": "home.HomeConfig", "AutoModelForCausalLM": "home.HomeModel"}


def config(**changes: Any) -> TrainingConfig:
    return TrainingConfig.model_validate({**CONFIG, **changes})


@pytest.fixture
def folder(tmp_path: Path, model: Path) -> Path:
    """A copy of the tiny model."""
    return Path(shutil.copytree(model, tmp_path / "copy"))


@pytest.fixture
def load(folder: Path) -> Callable[..., Any]:
    def load_it(**changes: Any) -> Any:
        settings = config(**changes)
        return load_base(folder, settings, find_machine(settings.hardware))

    return load_it


def facts(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def fault_of(load: Callable[..., Any], **changes: Any) -> TrainingFault:
    with pytest.raises(TrainingFault) as caught:
        load(**changes)
    return caught.value


def with_code(folder: Path, **auto_map: str) -> None:
    (folder / "home.py").write_text(CODE)
    facts(folder, model_type="home_made", architectures=["HomeModel"], auto_map={**AUTO_MAP, **auto_map})


def test_code_of_the_models_own_runs_only_where_the_administrator_named_its_content(
    folder: Path, load: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with_code(folder)
    fault = fault_of(load)
    assert fault.code == "model_code_not_trusted"
    monkeypatch.setenv(TRUSTED_CODE, f"0000, {fault.evidence.rpartition(' ')[2]}")
    assert type(load()).__name__ == "HomeModel"
    (folder / "home.py").write_text(CODE + "# another line\n")
    assert fault_of(load).code == "model_code_not_trusted"


def test_code_in_another_repository_is_never_run(
    folder: Path, load: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with_code(folder, AutoConfig="someone/else--home.HomeConfig")
    monkeypatch.setenv(TRUSTED_CODE, "None,")
    assert fault_of(load).code == "model_code_not_trusted"


def test_a_family_that_transformers_has_is_built_by_it_whatever_code_lies_beside(
    folder: Path, load: Callable[..., Any]
) -> None:
    (folder / "home.py").write_text("raise SystemExit('this ran')")
    facts(folder, auto_map=AUTO_MAP)
    assert type(load()).__name__ == "LlamaForCausalLM"


def test_a_family_that_nobody_knows_is_refused(folder: Path, load: Callable[..., Any]) -> None:
    facts(folder, model_type="nobodys")
    fault = fault_of(load)
    assert (fault.code, "nobodys" in fault.evidence) == ("model_unreadable", True)


@pytest.mark.parametrize("content", [b"[]", b"{", b""])
def test_a_config_that_is_none_is_refused(folder: Path, load: Callable[..., Any], content: bytes) -> None:
    (folder / "config.json").write_bytes(content)
    assert fault_of(load).code == "model_unreadable"
    (folder / "config.json").unlink()
    assert fault_of(load).code == "model_unreadable"


def test_weights_of_another_shape_than_the_config_says_are_refused(folder: Path, load: Callable[..., Any]) -> None:
    facts(folder, intermediate_size=80)
    fault = fault_of(load)
    assert fault.code == "model_incomplete"
    assert "mlp.down_proj" in fault.evidence


def test_weights_that_are_missing_are_named(folder: Path, load: Callable[..., Any]) -> None:
    path = folder / "model.safetensors"
    weights = load_file(path)
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, path, metadata={"format": "pt"})
    fault = fault_of(load)
    assert (fault.code, fault.evidence) == ("model_incomplete", "model.layers.1.mlp.up_proj.weight")


@pytest.mark.parametrize("keep", [0.0, 0.001, 0.5, 0.99])
def test_a_file_that_was_cut_off_is_refused(folder: Path, load: Callable[..., Any], keep: float) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    assert fault_of(load).code == "model_unreadable"


@pytest.mark.parametrize(
    ("method", "precision", "dtype"), [("lora", "bf16", torch.bfloat16), ("full", "bf16", torch.float32)]
)
def test_weights_have_the_machines_type_or_are_the_optimizers_master_copy(
    load: Callable[..., Any], method: str, precision: str, dtype: torch.dtype
) -> None:
    hardware = {**CONFIG["hardware"], "precision": precision}
    adapter = None if method == "full" else CONFIG["adapter"]
    model = load(method=method, adapter=adapter, hardware=hardware)
    assert {parameter.dtype for parameter in model.parameters()} == {dtype}
    assert not model.training


@pytest.mark.parametrize("quantization", ["nf4", "fp4", "int8"])
def test_linear_layers_of_the_blocks_are_quantized_as_asked_and_nothing_else(
    load: Callable[..., Any], quantization: str
) -> None:
    model = load(method="qlora", quantization=quantization)
    kind = Linear8bitLt if quantization == "int8" else Linear4bit
    quantized = {name for name, module in model.named_modules() if isinstance(module, kind)}
    assert len(quantized) == 2 * 7
    assert model.get_input_embeddings().weight.dtype in (torch.float32, torch.bfloat16)
    check_quantized(model, quantization)  # type: ignore[arg-type]
    with pytest.raises(RuntimeError):
        check_quantized(model, "int8" if quantization != "int8" else "nf4")


def test_a_layer_that_was_repacked_for_inference_is_seen_before_it_trains_without_gradients(
    load: Callable[..., Any],
) -> None:
    hardware = {**CONFIG["hardware"], "precision": "bf16"}
    model = load(method="qlora", hardware=hardware)
    ids = torch.arange(8)[None]
    with evaluating(model), torch.autocast("cpu", dtype=torch.bfloat16):
        model(input_ids=ids)
    check_unpacked(model)
    layer = next(module for module in model.modules() if isinstance(module, Linear4bit))
    layer.weight.quant_state.packing_format_for_cpu = True
    with pytest.raises(RuntimeError, match="repacked"):
        check_unpacked(model)
