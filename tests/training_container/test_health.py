"""The first look at the machine: an image for GPUs never trains on a CPU without a word."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode

from spotune.contracts.training import ExitCode, HardwareConfig
from tests.training_container.building import ROOT, failure_of
from training_container import attention, health
from training_container.device import find_machine
from training_container.faults import TrainingFault
from training_container.folders import Folders
from training_container.health import (
    ACCELERATOR,
    Found,
    check_bitsandbytes,
    check_machine,
    flash_problem,
    has_kernels,
)
from training_container.inputs import read_inputs
from training_container.job import run
from training_container.stop import StopRequest

pytestmark = pytest.mark.torch

MACHINE = find_machine(HardwareConfig(precision="fp32", micro_batch_size=1, gradient_checkpointing=False))
GPU = replace(MACHINE, device=torch.device("cuda", 0), name="NVIDIA A10G", precision="bf16")
WORKS = Found("cuda", 1, "580.95.05", "13.0")
Root = Callable[..., Path]


class Cards(TorchFunctionMode):
    """CUDA on a machine without it: notes which GPU is asked for, and refuses it."""

    def __init__(self) -> None:
        self.touched: list[torch.device] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        device = torch.device((kwargs or {}).get("device") or "cpu")
        if device.type == "cuda":
            self.touched.append(device)
            raise RuntimeError("CUDA error: all devices are busy")
        return func(*args, **(kwargs or {}))


def code(found: Found) -> tuple[str, ExitCode] | None:
    fault = found.fault()
    return None if fault is None else (fault.code, fault.exit_code)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (WORKS, None),
        (replace(WORKS, gpus=0, driver=None, words="no driver"), ("gpu_missing", ExitCode.INTERNAL)),
        (replace(WORKS, words="error 999"), ("cuda_unusable", ExitCode.INTERNAL)),
        (replace(WORKS, driver="550.163.01", words="too old"), ("driver_too_old", ExitCode.USER_ERROR)),
        # With the image's compatibility libraries an older driver runs it, and is no fault.
        (replace(WORKS, driver="550.163.01"), None),
        (replace(WORKS, cuda=None, words="not compiled"), ("image_without_cuda", ExitCode.USER_ERROR)),
        (Found("cpu", 0, None, None, "not compiled"), None),
        (Found("cpu", 4, "580.95.05", None, "not compiled"), ("image_without_cuda", ExitCode.USER_ERROR)),
        # No image at all: a laptop, or embedded mode, which stands in for machines with GPUs.
        (Found("", 0, None, None, "not compiled"), None),
        (Found("", 1, "550.1", "13.0", "too old"), None),
    ],
)
def test_what_an_image_was_built_for_has_to_be_there(found: Found, expected: tuple[str, ExitCode] | None) -> None:
    assert code(found) == expected


def test_every_fault_says_what_was_seen_and_what_to_do() -> None:
    fault = replace(WORKS, driver="550.163.01", words="found version 12040").fault()
    assert fault is not None
    assert fault.message == "The machine's driver 550.163.01 is too old for the image's CUDA 13.0."
    assert (fault.evidence, bool(fault.remedy)) == ("found version 12040", True)


@pytest.mark.parametrize(
    ("capability", "built", "runs"),
    [
        ((8, 6), ["sm_80"], True),
        ((8, 9), ["sm_80", "sm_86"], True),
        ((8, 0), ["sm_86"], False),
        ((7, 0), ["sm_75", "sm_80", "sm_90"], False),
        ((9, 0), ["sm_90a"], True),
        ((10, 0), ["sm_80", "sm_90"], False),
        ((10, 0), ["sm_80", "compute_90"], True),
        ((12, 0), ["sm_120"], True),
        ((8, 0), [], False),
    ],
)
def test_binary_code_runs_within_its_generation_and_intermediate_code_on_later_ones(
    capability: tuple[int, int], built: list[str], runs: bool
) -> None:
    assert has_kernels(capability, built) is runs


def test_a_gpu_without_kernels_or_with_wrong_ones_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 0))
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_75", "sm_80"])
    with pytest.raises(TrainingFault) as old:
        health.check_kernels(GPU)
    assert (old.value.code, old.value.exit_code) == ("gpu_not_supported", ExitCode.USER_ERROR)
    assert "(7, 0)" in old.value.evidence
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    monkeypatch.setattr(torch.Tensor, "to", lambda tensor, device: tensor + 1)
    with pytest.raises(TrainingFault) as faulty:
        health.check_kernels(GPU)
    assert (faulty.value.code, faulty.value.exit_code) == ("gpu_faulty", ExitCode.INTERNAL)


def test_bitsandbytes_works_here_and_is_refused_by_name_where_it_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    from bitsandbytes import functional

    check_bitsandbytes(MACHINE)
    with monkeypatch.context() as broken:
        broken.setattr(functional, "dequantize_4bit", lambda packed, state: torch.zeros(64, 64))
        with pytest.raises(TrainingFault, match="which this run needs") as wrong:
            check_bitsandbytes(MACHINE)
    assert "wrong by 1" in wrong.value.evidence

    def missing(*_: Any, **__: Any) -> None:
        raise RuntimeError("libbitsandbytes_cuda130.so: cannot open shared object file")

    monkeypatch.setattr(functional, "quantize_4bit", missing)
    with pytest.raises(TrainingFault) as unusable:
        check_bitsandbytes(MACHINE)
    assert unusable.value.code == "bitsandbytes_unusable"
    assert "libbitsandbytes_cuda130.so" in unusable.value.evidence


@pytest.mark.parametrize(
    ("groups", "needed"),
    [
        ({"method": "lora"}, False),
        ({"method": "qlora"}, True),
        ({"method": "lora", "quantization": "int8"}, True),
        ({"method": "lora", "optimization": {"optimizer": "paged_adamw_8bit"}}, True),
    ],
)
def test_bitsandbytes_is_asked_for_where_the_run_needs_it(
    root: Root, monkeypatch: pytest.MonkeyPatch, groups: dict[str, Any], needed: bool
) -> None:
    asked: list[object] = []
    monkeypatch.setattr(health, "check_bitsandbytes", asked.append)
    check_machine(MACHINE, read_inputs(Folders(root(**groups))).config)
    assert bool(asked) is needed


def test_a_flash_attention_that_does_not_load_is_left_out_with_a_warning(
    root: Root, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Mostly it was built for another torch: an undefined symbol at import."""
    (tmp_path / "flash_attn.py").write_text("raise ImportError('undefined symbol: _ZN3c105Error')")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 6))
    monkeypatch.setattr(torch, "linspace", lambda *_, **__: torch.ones(16 * 2 * 32))
    monkeypatch.setattr(health, "check_kernels", lambda machine: None)
    problem = flash_problem(GPU)
    assert problem is not None
    assert "undefined symbol" in problem
    warned = check_machine(GPU, read_inputs(Folders(root())).config)
    assert warned.warnings == (f"flash-attention was not used: {problem}",)
    assert attention._fastest(GPU) == "sdpa"


def test_a_gpu_that_flash_attention_does_not_know_gets_torchs_kernels(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "flash_attn.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    problem = flash_problem(GPU)
    assert problem is not None
    assert "older than its kernels" in problem
    assert flash_problem(MACHINE) is None


def test_a_job_in_an_image_for_gpus_ends_at_once_where_there_is_none(root: Root) -> None:
    """On a CPU it would train until its time limit, for the price of the GPU."""
    folder = root()
    environment = {**os.environ, "SPOTUNE_ML_ROOT": str(folder), "PYTHONPATH": str(ROOT), ACCELERATOR: "cuda"}
    run = subprocess.run(
        [sys.executable, "-m", "training_container"], env=environment, capture_output=True, text=True, check=False
    )
    failure = failure_of(folder)
    assert (run.returncode, failure.code) == (ExitCode.USER_ERROR, "image_without_cuda")
    assert "built without CUDA" in failure.message
    assert not list((folder / "checkpoints").glob("checkpoint-*"))


def test_a_rank_looks_at_its_own_gpu_alone(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    """On GPU 0 the context of every other rank would take memory from the first."""
    inputs = read_inputs(Folders(root()))
    monkeypatch.setenv(ACCELERATOR, "cuda")
    monkeypatch.setenv("LOCAL_RANK", "3")
    with Cards() as cards, pytest.raises(TrainingFault):
        run(inputs, StopRequest())
    assert cards.touched == [torch.device("cuda", 3)]


def test_the_look_can_be_taken_alone(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert health.main() == 0
    assert "bitsandbytes" in capsys.readouterr().out
    monkeypatch.setenv(ACCELERATOR, "cuda")
    assert health.main() == ExitCode.USER_ERROR
    assert "image_without_cuda" in capsys.readouterr().out


def test_the_look_claims_nothing_of_a_flash_attention_that_it_does_not_try(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """On a CPU it is not even imported."""
    (tmp_path / "flash_attn.py").write_text("raise ImportError('undefined symbol: _ZN3c105Error')")
    (tmp_path / "flash_attn-2.9.dist-info").mkdir()
    (tmp_path / "flash_attn-2.9.dist-info" / "METADATA").write_text("Name: flash_attn\nVersion: 2.9\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert health.main() == 0
    assert capsys.readouterr().out.splitlines()[-1] == (
        "flash-attention 2.9: has kernels for GPUs alone; torch's own are used"
    )
