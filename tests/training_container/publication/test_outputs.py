"""What is published beside the adapter, each time by a real run."""

from __future__ import annotations

import json
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from spotune.contracts.errors import RequestRefused
from spotune.contracts.training import ExitCode
from tests.training_container.building import report_of
from training_container.device import Machine
from training_container.publication import outputs
from training_container.publication.gguf_file import load_gguf
from training_container.publication.merged import merge
from training_container.publication.probe import Mismatch, difference
from training_container.stop import StopRequest

pytestmark = pytest.mark.torch

Root = Callable[..., Path]
Train = Callable[..., ExitCode]
IDS = torch.tensor([[72, 101, 108, 108, 111, 32, 119, 111, 114, 108, 100, 33] * 4])
LEARNT = {"optimization": {"epochs": 2, "learning_rate": 0.02}, "checkpoint": {"interval_seconds": 1000}}


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(IDS).logits[0].float()


def tuned(folder: Path) -> Any:
    """The published adapter over the base model, by PEFT alone."""
    base = AutoModelForCausalLM.from_pretrained(folder / "input/data/model", dtype=torch.float32)
    return PeftModel.from_pretrained(base, folder / "model")


@pytest.mark.parametrize("method", ["lora", "dora", "pissa", "ia3", "qlora"])
def test_merged_weights_are_the_adapter_and_the_16_bit_base_in_one(root: Root, train: Train, method: str) -> None:
    quantized = {"hardware": {"precision": "bf16"}} if method == "qlora" else {}
    folder = root(method=method, outputs={"merged": True}, **LEARNT, **quantized)
    assert train(folder) == ExitCode.PUBLISHED
    merged = AutoModelForCausalLM.from_pretrained(folder / "model/merged")
    assert merged.dtype == torch.bfloat16
    assert difference(logits(merged.float()), logits(tuned(folder))) < 0.02
    base = AutoModelForCausalLM.from_pretrained(folder / "input/data/model", dtype=torch.float32)
    assert difference(logits(base), logits(tuned(folder))) > 0.02
    assert (folder / "model/merged/tokenizer.json").exists()
    found = {each.name: each for each in report_of(folder).outputs}
    assert found.keys() == {"adapter", "merged"}
    assert found["merged"].bytes > 0
    assert not (folder / "scratch").exists()


def test_a_gguf_file_reads_as_the_tuned_model(root: Root, train: Train) -> None:
    folder = root(outputs={"gguf": "q8_0"}, **LEARNT)
    assert train(folder) == ExitCode.PUBLISHED
    report = report_of(folder)
    path = folder / "model/gguf/ftjob-1-q8_0.gguf"
    assert [(each.name, each.path) for each in report.outputs] == [("adapter", "."), ("gguf", f"gguf/{path.name}")]
    model = load_gguf(path, torch.float32, torch.device("cpu"))
    assert difference(logits(model), logits(tuned(folder))) < 0.03
    assert not (folder / "model/merged").exists()


def test_a_whole_model_is_read_back_and_written_as_gguf_without_merging(root: Root, train: Train) -> None:
    folder = root(method="full", adapter=None, outputs={"gguf": "f32", "merged": True})
    assert train(folder) == ExitCode.PUBLISHED
    assert [each.name for each in report_of(folder).outputs] == ["model", "gguf"]
    whole = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32)
    read = load_gguf(folder / "model/gguf/ftjob-1-f32.gguf", torch.float32, torch.device("cpu"))
    assert torch.allclose(logits(read), logits(whole), atol=1e-5)


def test_an_adapter_that_loads_as_another_model_is_not_published(
    root: Root, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its config names twice the scale, as PiSSA's would if only the weights were doubled."""
    folder = root(**LEARNT)

    def spoilt(self: outputs.Extras, machine: Machine) -> Any:
        path = self._folder / "adapter_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "lora_alpha": 16}))
        return load(self, machine)

    load = outputs.Extras._load
    monkeypatch.setattr(outputs.Extras, "_load", spoilt)
    with pytest.raises(Mismatch, match="loaded again"):
        train(folder)
    assert list((folder / "model").iterdir()) == []


def test_a_merge_that_went_wrong_costs_the_merged_model_and_not_the_adapter(
    root: Root, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = root(outputs={"merged": True}, **LEARNT)
    wrong = lambda model, check: merge(model, check).apply(_dampen)  # noqa: E731
    monkeypatch.setattr("training_container.publication.merged.merge", wrong)
    assert train(folder) == ExitCode.PUBLISHED
    report = report_of(folder)
    assert [each.name for each in report.outputs] == ["adapter"]
    assert any("merged model" in warning and "differs" in warning for warning in report.warnings)
    assert not (folder / "model/merged").exists()


def _dampen(module: torch.nn.Module) -> None:
    if isinstance(module, torch.nn.Linear):
        module.weight.data *= 0.7


def test_a_full_disk_leaves_out_what_does_not_fit_and_keeps_the_adapter(
    root: Root, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = root(outputs={"merged": True}, **LEARNT)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    made = outputs.Extras._merged

    def on_a_full_disk(self: outputs.Extras) -> Any:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limit[1]))  # the merged weights have 62 kB
        try:
            return made(self)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limit)

    monkeypatch.setattr(outputs.Extras, "_merged", on_a_full_disk)
    assert train(folder) == ExitCode.PUBLISHED
    report = report_of(folder)
    assert [each.name for each in report.outputs] == ["adapter"]
    assert any(warning.startswith("The merged model was left out") for warning in report.warnings)
    assert not (folder / "model/merged").exists()
    assert not (folder / "scratch").exists()


def test_what_does_not_fit_on_the_gpu_in_16_bits_is_made_and_compared_in_host_memory(
    root: Root, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after QLoRA. Each step ends the GPU's memory once; there is none here, so the second try is the first real."""
    ended: set[str] = set()

    def once(name: str) -> None:
        real = getattr(outputs.Extras, name)

        def full(self: outputs.Extras, *arguments: Any) -> Any:
            if name not in ended:
                ended.add(name)
                raise torch.OutOfMemoryError(name)
            assert arguments[-1].device.type == "cpu"
            return real(self, *arguments)

        monkeypatch.setattr(outputs.Extras, name, full)

    steps = ("_write_merged", "_check_merged", "_check_gguf")
    for step in steps:
        once(step)
    folder = root(outputs={"gguf": "f16"}, **LEARNT)
    assert train(folder) == ExitCode.PUBLISHED
    assert ended == set(steps)
    assert [each.name for each in report_of(folder).outputs] == ["adapter", "gguf"]


def test_a_library_that_gives_up_on_an_extra_costs_the_extra_alone(
    root: Root, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    def give_up(*arguments: Any) -> None:
        raise RuntimeError("no name for this tensor")

    folder = root(outputs={"gguf": "f16"})
    monkeypatch.setattr(outputs, "write_gguf", give_up)
    assert train(folder) == ExitCode.PUBLISHED
    report = report_of(folder)
    assert [each.name for each in report.outputs] == ["adapter"]
    assert any(warning.endswith("left out: RuntimeError: no name for this tensor") for warning in report.warnings)
    assert not (folder / "model/gguf").exists()


@pytest.mark.parametrize("unseen", [0, 2000])
def test_what_the_time_limit_leaves_no_room_for_is_left_out_before_it_is_begun(
    root: Root, train: Train, unseen: int
) -> None:
    """The clock jumps to 10 s before the limit when the model folder is complete."""
    folder = root(outputs={"gguf": "f16"}, limits={"unseen_seconds": unseen})
    clock = LateClock(folder / "model/README.md", 3590.0 - unseen)
    assert train(folder, clock=clock) == ExitCode.PUBLISHED
    report = report_of(folder)
    assert [each.name for each in report.outputs] == ["adapter"]
    assert "The GGUF file was left out: the time limit comes first." in report.warnings
    assert (folder / "model/training.svg").exists()
    assert not (folder / "scratch").exists()


class LateClock:
    """A second a look until a file is there, from then on always the same time."""

    def __init__(self, sign: Path, late: float) -> None:
        self._sign, self._late, self._looks = sign, late, 0.0

    def __call__(self) -> float:
        self._looks += 1.0
        return self._late if self._sign.exists() else self._looks


class StopWhilePublishing(StopRequest):
    """Asks when the card, and so the whole model folder, is there."""

    def __init__(self, card: Path) -> None:
        super().__init__()
        self._card = card

    def check(self) -> None:
        self.asked = self.asked or self._card.exists()
        super().check()


def test_a_stop_after_the_adapter_is_there_publishes_it_and_leaves_the_extras_out(root: Root, train: Train) -> None:
    folder = root(outputs={"merged": True, "gguf": "f16"})
    assert train(folder, stop=StopWhilePublishing(folder / "model/README.md")) == ExitCode.PUBLISHED
    report = report_of(folder)
    assert report.outputs == ()
    assert len([warning for warning in report.warnings if "asked to stop" in warning]) == 4
    assert {path.name for path in (folder / "model").iterdir()} >= {"adapter_model.safetensors", "report.json"}
    assert not (folder / "model/merged").exists()


@pytest.mark.parametrize("method", ["prefix", "prompt", "bottleneck"])
def test_what_cannot_be_merged_is_refused_before_anything_is_trained(root: Root, train: Train, method: str) -> None:
    folder = root(method=method, outputs={"merged": True})
    with pytest.raises(RequestRefused, match="cannot be merged"):
        train(folder)
    assert not (folder / "checkpoints").exists() or not list((folder / "checkpoints").glob("checkpoint-*"))


def test_the_card_is_one_that_the_hub_reads_and_shows_the_plot(root: Root, train: Train) -> None:
    folder = root()
    train(folder)
    card = ModelCard.load(folder / "model/README.md")
    assert card.data.base_model == "tiny/llama"
    assert card.data.library_name == "peft"
    assert {result.metric_type for result in card.data.eval_results} >= {"eval_loss", "perplexity", "exact_match"}
    assert "training.svg" in card.text
    assert report_of(folder).data_sha256 in card.text
    assert (folder / "model/training.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (folder / "model/training.svg").read_text()


def test_the_tokenizer_beside_the_weights_is_the_base_models(root: Root, train: Train) -> None:
    folder = root()
    train(folder)
    ours, theirs = (AutoTokenizer.from_pretrained(folder / place) for place in ("model", "input/data/model"))
    assert ours("Hello <|im_end|>")["input_ids"] == theirs("Hello <|im_end|>")["input_ids"]
