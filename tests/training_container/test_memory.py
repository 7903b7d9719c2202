"""Where memory ends: in a forward pass, a backward pass, an optimizer step, an evaluation, or in the probe before."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from bitsandbytes.optim import PagedAdamW8bit
from safetensors.torch import load_file

from spotune.contracts.training import ExitCode
from tests.training_container.building import StopAfter, report_of
from training_container import job
from training_container.accumulation import Accumulation
from training_container.evaluation.evaluator import Evaluator
from training_container.faults import TooLarge, TrainingFault
from training_container.memory import idle_step
from training_container.paging import PagedAdamW
from training_container.sharding.replicated import Single
from training_container.sharding.world import World
from training_container.trainer import Trainer

pytestmark = pytest.mark.torch

Root = Callable[..., Path]
Train = Callable[..., ExitCode]
GLOBAL = 4
PLANNED = {"hardware": {"micro_batch_size": 4}, "optimization": {"global_batch_size": GLOBAL}}
SMALL = {"hardware": {"micro_batch_size": 1}, "optimization": {"global_batch_size": GLOBAL}}


def weights(root: Path) -> dict[str, torch.Tensor]:
    (path,) = (root / "model").glob("*.safetensors")
    return load_file(path)


def difference(one: Path, other: Path) -> float:
    found = weights(other)
    return max(float((tensor - found[name]).abs().max()) for name, tensor in weights(one).items())


def tried_sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The micro-batches of all forward and backward passes from now on."""
    sizes: list[int] = []
    gradients = Accumulation.gradients

    def tried(of: Accumulation, step: int, sequences: list[Any], micro_batch: int) -> float:
        sizes.append(micro_batch)
        return gradients(of, step, sequences, micro_batch)

    monkeypatch.setattr(Accumulation, "gradients", tried)
    return sizes


def end_memory_in(monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    """More than one sequence at once does not fit: the forward pass fails, or the backward pass after it."""
    gradients, backward = Accumulation.gradients, Single.backward
    size = 0

    def forward(of: Accumulation, step: int, sequences: list[Any], micro_batch: int) -> float:
        nonlocal size
        size = micro_batch
        if where == "forward" and size > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return gradients(of, step, sequences, micro_batch)

    def back(engine: Single, share: torch.Tensor) -> None:
        backward(engine, share)
        if where == "backward" and size > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Accumulation, "gradients", forward)
    monkeypatch.setattr(Single, "backward", back)


@pytest.mark.parametrize("where", ["forward", "backward"])
def test_the_step_is_begun_again_with_half_the_micro_batch_which_is_told_and_remembered(
    root: Root, train: Train, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], where: str
) -> None:
    small, planned = root("small", **SMALL), root("planned", **PLANNED)
    train(small)
    end_memory_in(monkeypatch, where)
    sizes = tried_sizes(monkeypatch)
    assert train(planned, stop=StopAfter(12)) == ExitCode.STOPPED
    assert sizes[:4] == [4, 2, 1, 1]
    assert '"micro_batch": 1' in capsys.readouterr().out
    sizes.clear()
    assert train(planned) == ExitCode.PUBLISHED
    assert set(sizes) == {1}
    assert difference(small, planned) == 0
    assert any("micro-batch" in warning for warning in report_of(planned).warnings)
    assert not any("micro-batch" in warning for warning in report_of(small).warnings)


def test_another_machine_begins_with_the_planned_micro_batch(
    root: Root, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = root(**PLANNED)
    with monkeypatch.context() as limited:
        end_memory_in(limited, "forward")
        train(folder, stop=StopAfter(12))
    find = job.find_machine

    def another(*arguments: Any, **options: Any) -> Any:
        from dataclasses import replace

        return replace(find(*arguments, **options), name="a larger GPU")

    monkeypatch.setattr(job, "find_machine", another)
    sizes = tried_sizes(monkeypatch)
    train(folder)
    assert set(sizes) == {4}


def damage_in_step(monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """Once, the optimizer's step number `at` fails after it has changed weights."""
    step, taken = Single.step, 0

    def fails(engine: Single, rate: float) -> float:
        nonlocal taken
        taken += 1
        if taken == at:
            with torch.no_grad():
                next(iter(engine.parameters.values())).add_(1.0)
            raise torch.OutOfMemoryError("CUDA out of memory")
        return step(engine, rate)

    monkeypatch.setattr(Single, "step", fails)


def test_weights_that_an_optimizer_step_left_half_changed_are_those_of_the_last_checkpoint_again(
    root: Root, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    same = {**PLANNED, "adapter": {"dropout": 0.0}}  # dropout is drawn for each micro-batch
    whole, damaged = root("whole", **same), root("damaged", checkpoint={"interval_seconds": 3600}, **same)
    train(whole)
    damage_in_step(monkeypatch, at=5)
    sizes = tried_sizes(monkeypatch)
    assert train(damaged) == ExitCode.PUBLISHED
    assert report_of(damaged).steps == report_of(whole).steps
    assert sizes[-1] == 2
    assert difference(whole, damaged) < 1e-4


def test_without_a_checkpoint_it_is_out_of_memory(root: Root, train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = root(**PLANNED)
    damage_in_step(monkeypatch, at=1)
    with pytest.raises(TrainingFault) as caught:
        train(folder)
    assert caught.value.code == "out_of_memory"
    assert not list((folder / "checkpoints").glob("checkpoint-*"))


def test_ranks_do_not_begin_again_where_there_is_no_smaller_micro_batch() -> None:
    trainer = Trainer.__new__(Trainer)
    trainer._world = World(rank=0, size=2)
    trainer._micro_batch = 2
    with pytest.raises(TooLarge):
        trainer._go_back("CUDA out of memory")
    trainer._micro_batch = 1
    with pytest.raises(TrainingFault) as caught:
        trainer._go_back("CUDA out of memory")
    assert caught.value.code == "out_of_memory"


def test_an_evaluation_that_does_not_fit_is_taken_in_smaller_batches(
    root: Root, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, tight = root("whole", **PLANNED), root("tight", **PLANNED)
    train(whole)
    losses = Evaluator._row_losses

    def fails(evaluator: Evaluator, model: Any, sequences: Any, lines: int) -> list[float]:
        if lines > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return losses(evaluator, model, sequences, lines)

    monkeypatch.setattr(Evaluator, "_row_losses", fails)
    assert train(tight) == ExitCode.PUBLISHED
    assert difference(whole, tight) == 0
    assert report_of(tight).tuned.eval_loss == pytest.approx(report_of(whole).tuned.eval_loss, rel=1e-6)


@pytest.mark.parametrize(
    "change", [{}, {"method": "full", "adapter": None, "optimization": {"optimizer": "paged_adamw_8bit"}}]
)
def test_the_probe_finds_the_micro_batch_that_fits_and_changes_nothing_else(
    root: Root, train: Train, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    settings = {**change, "optimization": {**change.get("optimization", {}), "global_batch_size": GLOBAL}}
    plain = root("plain", **{**settings, "hardware": {"micro_batch_size": 2}})
    probed = root("probed", **{**settings, "hardware": {"micro_batch_size": 4}})
    train(plain)
    monkeypatch.setattr("training_container.trainer.probed", lambda device: True)
    gradients = Accumulation.gradients

    def fails(of: Accumulation, step: int, sequences: list[Any], micro_batch: int) -> float:
        if micro_batch > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return gradients(of, step, sequences, micro_batch)

    monkeypatch.setattr(Accumulation, "gradients", fails)
    sizes = tried_sizes(monkeypatch)
    assert train(probed) == ExitCode.PUBLISHED
    assert sizes[:3] == [4, 2, 2]
    assert set(sizes[1:]) == {2}
    assert difference(plain, probed) == 0


class Pages:
    """Stands in for a GPU's paged memory: says what was allocated."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.allocated: list[torch.Tensor] = []
        monkeypatch.setattr(PagedAdamW8bit, "get_state_buffer", self.allocate)

    def allocate(self, parameter: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        page = torch.zeros_like(parameter, dtype=dtype)
        page.is_paged = True  # type: ignore[attr-defined]
        self.allocated.append(page)
        return page


def paged_optimizer() -> tuple[torch.nn.Parameter, PagedAdamW]:
    parameter = torch.nn.Parameter(torch.linspace(-1, 1, 64 * 128).reshape(64, 128))
    return parameter, PagedAdamW([parameter], lr=0.1)


def take_step(parameter: torch.nn.Parameter, optimizer: PagedAdamW) -> None:
    optimizer.param_groups[0]["lr"] = 0.1
    parameter.grad = parameter.detach() * 3
    optimizer.step()


def test_paged_memory_is_allocated_once_and_a_loaded_state_lies_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, first = paged_optimizer()
    for _ in range(3):
        take_step(whole, first)
    pages = Pages(monkeypatch)
    monkeypatch.setattr(PagedAdamW8bit, "prefetch_state", lambda *_: None)
    cut, second = paged_optimizer()
    cut.grad = torch.ones_like(cut)
    idle_step(second)
    second.forget()
    for _ in range(2):
        take_step(cut, second)
    second.load_state_dict(second.state_dict())
    take_step(cut, second)
    assert torch.equal(cut, whole)
    assert len(pages.allocated) == 2
    assert {id(second.state[cut][name]) for name in ("state1", "state2")} == {id(page) for page in pages.allocated}
