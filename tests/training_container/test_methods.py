"""Every method, end to end: the base is scored, training stops and goes on, what is published works on the base."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from spotune.contracts.request import Method, Quantization
from spotune.contracts.training import ExitCode, TrainingConfig
from tests.training_container.building import report_of
from training_container.chat import Chat
from training_container.corpus import load_corpus, load_tokenizer
from training_container.corpus.batches import collate
from training_container.device import evaluating, find_machine
from training_container.folders import Folders
from training_container.inputs import read_inputs
from training_container.loading import load_base
from training_container.methods import METHODS, adapt, base_of, has_adapter, load_adapter
from training_container.objectives.supervised import loss_sum
from training_container.stop import StopRequest

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


class StopAfter(StopRequest):
    """Asks to stop at the n-th look."""

    def __init__(self, looks: int) -> None:
        super().__init__()
        self.looks = looks

    def check(self) -> None:
        self.looks -= 1
        if self.looks <= 0:
            self.ask()
        super().check()


def built(root: Path) -> tuple[Any, TrainingConfig, Any]:
    """A job's model as it is trained, its config, and a batch of its held-out rows."""
    inputs = read_inputs(Folders(root))
    tokenizer = load_tokenizer(inputs.model)
    torch.manual_seed(inputs.config.seed)
    model = adapt(load_base(inputs.model, inputs.config, find_machine(inputs.config.hardware)), inputs.config)
    return model, inputs.config, collate(list(load_corpus(inputs, tokenizer).evaluation), tokenizer.pad_token_id)


def loss_of(model: Any, batch: Any) -> float:
    with evaluating(model):
        return float(loss_sum(model, batch)) / len(batch.targets)


def test_every_method_of_the_contract_has_its_module() -> None:
    assert METHODS.keys() == set(get_args(Method))


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


def reloaded(root: Path, config: TrainingConfig) -> Any:
    """What was published, on a base model that was loaded anew."""
    inputs = read_inputs(Folders(root))
    if not has_adapter(config.method):
        return AutoModelForCausalLM.from_pretrained(root / "model", dtype=torch.float32)
    base = load_base(inputs.model, config, find_machine(config.hardware))
    return load_adapter(base, root / "model")
