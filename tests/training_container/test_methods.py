"""Every method, end to end: the base is scored, training stops and goes on, what is published works on the base."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from spotune.contracts.request import Method, Quantization
from spotune.contracts.training import ExitCode, TrainingConfig
from tests.training_container.building import StopAfter, report_of
from training_container.chat import Chat
from training_container.corpus import load_corpus, load_tokenizer
from training_container.corpus.batches import collate
from training_container.device import Machine, evaluating, find_machine
from training_container.faults import TrainingFault
from training_container.folders import Folders
from training_container.inputs import read_inputs
from training_container.loading import load_base
from training_container.methods import METHODS, adapt, base_of, has_adapter
from training_container.methods.published import load_adapter, save_adapter
from training_container.model import check_gradients, trainable, with_gradient
from training_container.objectives.supervised import loss_sum

pytestmark = pytest.mark.torch

Root = Callable[..., Path]
Train = Callable[..., ExitCode]
RATES = {"ia3": 0.05, "prefix": 0.1, "prompt": 0.1}
"""Where the tiny model's usual rate is too low to see it learn in a few steps."""


def changes(method: Method, quantization: Quantization = "none", **more: Any) -> dict[str, Any]:
    """A job's groups for this method. fp32, so that what is compared differs by rounding alone."""
    return {
        "method": method,
        "quantization": quantization,
        "adapter": None if method == "full" else {"rank": 4, "virtual_tokens": 5, "trained_layers": 1},
        "data": {"packing": method not in ("prefix", "prompt")},
        "optimization": {"learning_rate": RATES.get(method, 0.01)},
        **more,
    }


def built(root: Path, machine: Machine | None = None) -> tuple[Any, TrainingConfig, Any]:
    """A job's model as it is trained, its config, and a batch of its held-out rows."""
    inputs = read_inputs(Folders(root))
    tokenizer = load_tokenizer(inputs.model)
    torch.manual_seed(inputs.config.seed)
    machine = machine or find_machine(inputs.config.hardware)
    model = adapt(load_base(inputs.model, inputs.config, machine), inputs.config)
    return model, inputs.config, collate(list(load_corpus(inputs, tokenizer).evaluation), tokenizer.pad_token_id)


def loss_of(model: Any, batch: Any) -> float:
    with evaluating(model):
        return float(loss_sum(model, batch)) / len(batch.targets)


def test_every_method_of_the_contract_has_its_module() -> None:
    assert METHODS.keys() == set(get_args(Method))


@pytest.mark.proves
@pytest.mark.parametrize("method", get_args(Method))
def test_a_method_trains_stops_goes_on_and_is_published(root: Root, train: Train, method: Method) -> None:
    whole, stopped = root("whole", **changes(method)), root("stopped", **changes(method))
    assert train(whole) == ExitCode.PUBLISHED
    report = report_of(whole)
    base, _, _ = built(root("base", method="lora", data={"packing": changes(method)["data"]["packing"]}))
    batch = built(whole)[2]
    with base_of(base):
        assert loss_of(base, batch) == pytest.approx(report.base.eval_loss, rel=1e-5 if method != "qlora" else 0.05)
    assert report.tuned.eval_loss < report.base.eval_loss

    assert train(stopped, stop=StopAfter(12 if changes(method)["data"]["packing"] else 40)) == ExitCode.STOPPED
    assert train(stopped) == ExitCode.PUBLISHED
    assert report_of(stopped).resumes[-1].step > 0
    published = [load_file(next((folder / "model").glob("*.safetensors"))) for folder in (whole, stopped)]
    assert all(torch.equal(published[0][name], published[1][name]) for name in published[0])

    again = reloaded(whole, read_inputs(Folders(whole)).config)
    assert loss_of(again, batch) == pytest.approx(report.tuned.eval_loss, rel=1e-5)
    assert Chat(read_inputs(Folders(whole)).model, whole / "model").answer("What is 1?") is not None


@pytest.mark.proves
@pytest.mark.parametrize(
    ("method", "quantization"),
    [("qlora", "fp4"), ("qlora", "int8"), ("dora", "nf4"), ("pissa", "nf4"), ("ia3", "int8"), ("bottleneck", "nf4")],
)
def test_a_method_trains_over_a_quantized_base(
    root: Root, train: Train, method: Method, quantization: Quantization
) -> None:
    folder = root(**changes(method, quantization))
    assert train(folder) == ExitCode.PUBLISHED
    report = report_of(folder)
    assert report.tuned.eval_loss < report.base.eval_loss
    again = reloaded(folder, read_inputs(Folders(folder)).config)
    assert loss_of(again, built(folder)[2]) == pytest.approx(report.tuned.eval_loss, rel=1e-3)


def reloaded(root: Path, config: TrainingConfig) -> Any:
    """What was published, on a base model that was loaded anew."""
    inputs = read_inputs(Folders(root))
    if not has_adapter(config.method):
        return AutoModelForCausalLM.from_pretrained(root / "model", dtype=torch.float32)
    base = load_base(inputs.model, config, find_machine(config.hardware))
    return load_adapter(base, root / "model")


ADAPTERS = sorted(method for method in get_args(Method) if has_adapter(method))


@pytest.mark.parametrize(
    ("method", "quantization"),
    [
        *((method, "none") for method in get_args(Method)),
        *((method, "nf4") for method in ADAPTERS),
        *((method, "int8") for method in ADAPTERS if method != "dora"),
        ("qlora", "fp4"),
    ],
)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_every_trained_tensor_has_a_gradient_after_an_evaluation_and_what_was_saved_answers_the_same(
    root: Root, tmp_path: Path, method: Method, quantization: Quantization, precision: str
) -> None:
    hardware = {"precision": precision, "gradient_checkpointing": method != "prefix"}
    folder = root(**changes(method, quantization, hardware=hardware))
    model, config, batch = built(folder)
    machine = find_machine(config.hardware)
    with machine.autocast():
        with evaluating(model):
            loss_sum(model, batch)
        loss_sum(model, batch).backward()
    check_gradients(model, with_gradient(model))
    assert all(parameter.dtype == torch.float32 for parameter in trainable(model).values())
    if has_adapter(method):
        with torch.no_grad():
            for parameter in trainable(model).values():
                parameter -= 0.05 * torch.nan_to_num(parameter.grad / parameter.grad.norm())
        save_adapter(model, tmp_path, config)
        again = load_adapter(load_base(read_inputs(Folders(folder)).model, config, machine), tmp_path)
        with machine.autocast(), base_of(model):
            plain = loss_of(model, batch)
        with machine.autocast():
            assert loss_of(model, batch) != plain
            assert loss_of(again, batch) == pytest.approx(
                loss_of(model, batch), rel=2e-3 if precision == "bf16" else 1e-5
            )


def test_dora_over_int8_is_refused(root: Root, train: Train) -> None:
    assert fault_of(train, root(**changes("dora", "int8"))).code == "dora_over_int8"


@pytest.mark.parametrize(
    ("method", "quantization"), [*((method, "none") for method in get_args(Method)), ("lora", "nf4"), ("lora", "int8")]
)
def test_in_fp16_the_scaled_loss_gives_the_gradients_of_fp32(
    root: Root, method: Method, quantization: Quantization
) -> None:
    adapter = None if method == "full" else {"rank": 4, "dropout": 0.0}
    folder = root(**changes(method, quantization, adapter=adapter))
    exact, _, batch = built(folder)
    halves, _, _ = built(folder, Machine(torch.device("cpu"), "cpu", "fp16"))
    loss_sum(exact, batch).backward()
    scaler = torch.amp.GradScaler("cpu", init_scale=4096.0)
    optimizer = torch.optim.SGD(trainable(halves).values())
    with torch.autocast("cpu", dtype=torch.float16):
        loss = loss_sum(halves, batch) / len(batch.targets)
    scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
    scaler.unscale_(optimizer)  # refuses gradients in fp16
    check_gradients(halves, with_gradient(halves))
    one, other = (
        torch.cat([parameter.grad.flatten() for parameter in trainable(model).values() if parameter.grad is not None])
        for model in (exact, halves)
    )
    assert torch.cosine_similarity(one, other, dim=0) > 0.99


@pytest.mark.parametrize("method", ["full", "freeze"])
@pytest.mark.parametrize("quantization", ["nf4", "fp4", "int8"])
def test_weights_that_are_trained_are_not_quantized(
    root: Root, train: Train, method: Method, quantization: Quantization
) -> None:
    assert fault_of(train, root(**changes(method, quantization))).code == "quantized_weights_not_trained"


def fault_of(train: Train, root: Path) -> TrainingFault:
    with pytest.raises(TrainingFault) as caught:
        train(root)
    return caught.value


def test_only_the_last_blocks_and_the_norm_behind_them_are_trained(root: Root, train: Train) -> None:
    folder = root(**changes("freeze"))
    train(folder)
    tuned, base = (
        AutoModelForCausalLM.from_pretrained(path).state_dict()
        for path in (folder / "model", read_inputs(Folders(folder)).model)
    )
    moved = {name for name in base if not torch.equal(tuned[name], base[name])}
    assert moved == {name for name in base if name.startswith("model.layers.1.") or name == "model.norm.weight"}


def test_more_trained_layers_than_there_are_is_refused(root: Root, train: Train) -> None:
    fault = fault_of(train, root(**changes("freeze", adapter={"trained_layers": 3})))
    assert fault.code == "too_many_trained_layers"
    assert "2" in fault.remedy


@pytest.mark.parametrize("method", ["lora", "pissa", "bottleneck"])
def test_a_rank_above_a_layer_is_refused(root: Root, train: Train, method: Method) -> None:
    assert fault_of(train, root(**changes(method, adapter={"rank": 33}))).code == "rank_above_layer"


@pytest.mark.parametrize("method", ["prefix", "prompt"])
def test_virtual_tokens_are_not_packed(root: Root, train: Train, method: Method) -> None:
    assert fault_of(train, root(**changes(method, data={"packing": True}))).code == "packed_virtual_tokens"


def test_a_prefix_is_not_dropped_by_checkpointing(root: Root, train: Train) -> None:
    folder = root(**changes("prefix", hardware={"gradient_checkpointing": True}))
    assert fault_of(train, folder).code == "prefix_with_checkpointing"


def test_a_tokenizer_without_a_pad_token_trains_the_same_weights(
    root: Root, train: Train, model: Path, tmp_path: Path
) -> None:
    padded, bare = root("padded", **changes("prefix")), root("bare", **changes("prefix"))
    without = Path(shutil.copytree(model, tmp_path / "without"))
    (without / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|im_end|>"}))
    (bare / "input/data/model").unlink()
    (bare / "input/data/model").symlink_to(without)
    assert train(padded) == train(bare) == ExitCode.PUBLISHED
    weights = [load_file(folder / "model" / "adapter_model.safetensors") for folder in (padded, bare)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert Chat(without, bare / "model").answer("What is 1?") is not None
