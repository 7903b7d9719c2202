"""Whatever a person did wrong ends in `output/failure`: typed, with evidence and remedy, and exit code 2."""

from __future__ import annotations

import errno
import json
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from spotune.contracts.training import CONFIG_VERSION, ExitCode, Failure
from tests.explained import container_failed, explained
from tests.training_container.building import chat, failure_of, write_rows
from training_container import faults
from training_container.__main__ import main
from training_container.folders import Folders

pytestmark = pytest.mark.torch

Root = Callable[..., Path]


@pytest.fixture
def end_of(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], tuple[ExitCode, Failure]]]:
    """Runs the container's own `main` and gives its exit code and failure."""
    handler = signal.getsignal(signal.SIGTERM)

    def run(root: Path) -> tuple[ExitCode, Failure]:
        monkeypatch.setenv("SPOTUNE_ML_ROOT", str(root))
        return main(), failure_of(root)

    yield run
    signal.signal(signal.SIGTERM, handler)


End = Callable[[Path], tuple[ExitCode, Failure]]


def own_model(root: Path) -> Path:
    """Replace the shared model by a copy that a test may harm."""
    link = Folders(root).channel("model")
    shared = link.resolve()
    link.unlink()
    shutil.copytree(shared, link)
    return link


def set_config(root: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = Folders(root).config
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))


def no_model(root: Path) -> None:
    Folders(root).channel("model").unlink()


def no_training(root: Path) -> None:
    shutil.rmtree(Folders(root).channel("training"))


def empty_validation(root: Path) -> None:
    Folders(root).channel("validation").mkdir()


def two_files(root: Path) -> None:
    write_rows(Folders(root).channel("training") / "more.jsonl", [chat("a", "b")])


def no_config(root: Path) -> None:
    Folders(root).config.unlink()


def broken_config(root: Path) -> None:
    Folders(root).config.write_text('{"version": 1,')


def newer_config(root: Path) -> None:
    set_config(root, lambda config: config.update(version=CONFIG_VERSION + 1))


def invalid_config(root: Path) -> None:
    set_config(root, lambda config: config["optimization"].update(learning_rate="fast", colour="red"))


def two_hosts(root: Path) -> None:
    path = Folders(root).resources
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"current_host": "algo-1", "hosts": ["algo-1", "algo-2"]}))


def unknown_target(root: Path) -> None:
    set_config(root, lambda config: config["adapter"].update(target_modules=["q_proj", "query_key_value"]))


def pickled_weights(root: Path) -> None:
    folder = own_model(root)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def no_weights(root: Path) -> None:
    (own_model(root) / "model.safetensors").unlink()


def cut_weights(root: Path) -> None:
    path = own_model(root) / "model.safetensors"
    path.write_bytes(path.read_bytes()[:5000])


def missing_weights(root: Path) -> None:
    from safetensors.torch import load_file, save_file

    path = own_model(root) / "model.safetensors"
    tensors = load_file(path)
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, path, metadata={"format": "pt"})


def unknown_architecture(root: Path) -> None:
    path = own_model(root) / "config.json"
    path.write_text(json.dumps({"model_type": "from_the_future"}))


def no_tokenizer(root: Path) -> None:
    (own_model(root) / "tokenizer.json").unlink()


def no_template(root: Path) -> None:
    (own_model(root) / "chat_template.jinja").unlink()


def template_that_rewrites_the_chat(root: Path) -> None:
    template = "{% for message in messages %}{{ loop.length }}{{ message['content'] }}{% endfor %}"
    (own_model(root) / "chat_template.jinja").write_text(template)


def too_long_sequences(root: Path) -> None:
    set_config(root, lambda config: config["data"].update(max_sequence_length=4096))


def faulty_rows(root: Path) -> None:
    (Folders(root).channel("training") / "train.jsonl").write_text('{"messages": []}\nnot json\n')


def all_truncated(root: Path) -> None:
    set_config(root, lambda config: config["data"].update(max_sequence_length=16))


def diverging(root: Path) -> None:
    set_config(root, lambda config: config["optimization"].update(learning_rate=1e30, max_gradient_norm=1e30))


def no_time(root: Path) -> None:
    set_config(root, lambda config: config["limits"].update(max_runtime_seconds=5, publication_reserve_seconds=5))


@pytest.mark.parametrize(
    ("harm", "code", "says", "cause"),
    [
        (no_config, "missing_channel", "channel config", "internal"),
        (broken_config, "config_unreadable", "not JSON", "internal"),
        (newer_config, "config_version", f"version {CONFIG_VERSION + 1}", "internal"),
        (invalid_config, "config_invalid", "2 faults", "internal"),
        (no_training, "missing_channel", "channel training", "internal"),
        (empty_validation, "missing_channel", "channel validation", "internal"),
        (no_model, "model_missing", "channel model", "model_unavailable"),
        (two_files, "channel_ambiguous", "2 files", "internal"),
        (two_hosts, "hosts_not_supported", "2 hosts", "internal"),
        (unknown_target, "unknown_target_modules", "query_key_value", "settings_invalid"),
        (pickled_weights, "pickled_weights", "pickled", "model_unavailable"),
        (no_weights, "model_without_weights", "safetensors", "model_unavailable"),
        (cut_weights, "model_unreadable", "cannot be loaded", "model_unavailable"),
        (missing_weights, "model_incomplete", "1 weights", "model_unavailable"),
        (unknown_architecture, "model_unreadable", "cannot be loaded", "model_unavailable"),
        (no_tokenizer, "tokenizer_missing", "tokenizer.json", "no_loss_mask"),
        (no_template, "no_chat_template", "no chat template", "no_loss_mask"),
        (template_that_rewrites_the_chat, "template_without_loss_mask", "template", "no_loss_mask"),
        (too_long_sequences, "sequence_too_long", "512 positions", "settings_invalid"),
        (faulty_rows, "dataset_faults", "2 faults", "bad_data"),
        (all_truncated, "no_trainable_rows", "trainable", "no_loss_mask"),
        (diverging, "loss_not_finite", "diverged at step", "loss_not_finite"),
        (no_time, "runtime_too_short", "single step", "money_ran_out"),
    ],
    ids=lambda value: value.__name__ if callable(value) else None,
)
def test_the_failure_names_its_cause_and_so_does_the_diagnosis(
    root: Root, end_of: End, harm: Callable[[Path], None], code: str, says: str, cause: str
) -> None:
    folder = root()
    harm(folder)
    exit_code, failure = end_of(folder)
    assert failure.code == code
    assert says in failure.message
    assert failure.remedy
    assert exit_code == ExitCode.USER_ERROR
    assert not (folder / "model" / "report.json").exists()
    told = explained(container_failed(failure, exit_code))
    assert told.cause == cause
    assert any(failure.message in words for words in told.evidence)


def test_unknown_target_modules_list_those_that_exist(root: Root, end_of: End) -> None:
    folder = root()
    unknown_target(folder)
    assert "down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj" in end_of(folder)[1].evidence


def test_an_invalid_config_names_each_field(root: Root, end_of: End) -> None:
    folder = root()
    invalid_config(folder)
    evidence = end_of(folder)[1].evidence
    assert "optimization.learning_rate" in evidence
    assert "optimization.colour" in evidence


def test_a_full_disk_is_the_persons_to_mend_and_the_trainers_own_fault_is_not() -> None:
    full, code = faults.failure_of(OSError(errno.ENOSPC, "No space left on device"))
    assert (full.code, code) == ("disk_full", ExitCode.USER_ERROR)
    own, code = faults.failure_of(ZeroDivisionError("division by zero"))
    assert (own.code, code) == ("internal", ExitCode.INTERNAL)


@pytest.mark.parametrize(
    ("error", "says"),
    [(ValueError("canary-of-a-row"), faults.LEFT_OUT), (RuntimeError("CUDA error: unspecified"), "CUDA error")],
)
def test_the_trainers_own_failure_quotes_no_row(
    root: Root,
    end_of: End,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    error: Exception,
    says: str,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("training_container.corpus.loading.held_out", fail)
    exit_code, failure = end_of(root())
    assert (exit_code, failure.code) == (ExitCode.INTERNAL, "internal")
    assert f"{type(error).__name__}: {says}" in failure.message
    assert "test_faults.py" in failure.evidence, "it has the frames"
    assert "canary-of-a-row" not in failure.model_dump_json() + "".join(capfd.readouterr())


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes"),
    ],
)
def test_every_end_of_memory_is_out_of_memory(error: Exception) -> None:
    failure, code = faults.failure_of(error)
    assert (failure.code, code) == ("out_of_memory", ExitCode.USER_ERROR)


def test_a_failure_stays_readable_after_sagemakers_cut_at_1024_characters() -> None:
    fault = faults.TrainingFault("code", "m" * 5000, evidence='"\n' * 5000, remedy="Do this.")
    failure, _ = faults.failure_of(fault)
    assert len(failure.model_dump_json()) <= 1024
    assert failure.remedy == "Do this."
