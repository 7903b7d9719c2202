"""A few training steps with random weights on this machine: what they hold, and how fast they are.

Weights and data are random, all else is real: the container's own loader, methods, loss and optimizer.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch.nn.utils import clip_grad_norm_

from spotune.contracts.plan import Optimizer
from spotune.contracts.request import JobRequest, Method
from spotune.contracts.training import (
    AdapterConfig,
    CheckpointConfig,
    DataConfig,
    HardwareConfig,
    LimitConfig,
    ModelSource,
    OptimizationConfig,
    TrainingConfig,
)
from spotune.planner import known_config, read_architecture
from spotune.planner.settings import choose_optimizer
from spotune.planner.workload import UNPACKED
from training_container.corpus import Batch, Row, collate
from training_container.device import Machine, find_machine
from training_container.loading import load_base
from training_container.methods import adapt
from training_container.model import check_gradients, trainable, with_gradient
from training_container.objectives.supervised import loss_sum
from training_container.schedule import make_optimizer

WARM_UP, TIMED = 2, 3
"""Optimizer steps. The first makes the optimizer's states, so that only the second one's peak is that of a long run."""
ADAPTER = AdapterConfig(rank=16, alpha=32, dropout=0.0, target_modules="all-linear")
"""What a request has by default, on every linear layer."""


@dataclass(frozen=True, slots=True)
class Point:
    """One run of the grid."""

    model: str
    method: Method
    sequence_length: int
    micro_batch: int
    checkpointing: bool

    @property
    def rank(self) -> int:
        """Of the adapter; prefix tuning's virtual tokens."""
        return ADAPTER.virtual_tokens if self.method == "prefix" else ADAPTER.rank

    @property
    def optimizer(self) -> Optimizer:
        """The service's own choice."""
        request = JobRequest(model=self.model, training_file="file-1")
        return choose_optimizer(request, read_architecture(known_config(self.model) or {}), self.method)


@dataclass(frozen=True, slots=True)
class Measured:
    """Peaks in bytes over all steps, loading apart; speed over the timed ones."""

    allocated: int
    reserved: int
    paged: int
    """Bytes of paged optimizer states: bitsandbytes' own, which PyTorch does not count."""
    tokens_per_second: float
    precision: str
    attention: str


class Meter(Protocol):
    """The device's counters."""

    def begin(self) -> None:
        """Forget the peaks so far, and give back what no tensor holds."""

    def wait(self) -> None:
        """Until the device has done what it was given."""

    def peaks(self) -> tuple[int, int]:
        """Bytes allocated and reserved at the highest point since `begin`."""


class CudaMeter:
    """PyTorch's counters of the first GPU."""

    def begin(self) -> None:
        """Without `empty_cache` what loading reserved would count as training's."""
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()

    def wait(self) -> None:
        """For the GPU."""
        torch.cuda.synchronize()

    def peaks(self) -> tuple[int, int]:
        """Allocated and reserved."""
        return torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()


def save_random(config: Mapping[str, Any], folder: Path) -> None:
    """A model of this `config.json` with random 16-bit weights, as the container finds one in its `model` channel."""
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    shape = dict(config)
    family = CONFIG_MAPPING[shape.pop("model_type")]
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model = AutoModelForCausalLM.from_config(family(**shape), dtype=torch.bfloat16)
    model.save_pretrained(folder)


def attempt(point: Point, folder: Path) -> Measured | str:
    """The point measured on this process's GPU, or in one line why it could not be."""
    try:
        return measure(point, folder, find_machine(HardwareConfig(**_hardware(point))), CudaMeter())
    except torch.OutOfMemoryError:
        return "out of memory"
    except Exception as error:  # an error of any library is this point's alone: the others are still measured
        return f"failed: {type(error).__name__}: {error}"


def measure(point: Point, folder: Path, machine: Machine, meter: Meter) -> Measured:
    """Load, adapt and train for a few steps.

    Raises:
        torch.OutOfMemoryError: the GPU does not hold it.
        TrainingFault: the container refuses the model.
    """
    config = _config(point)
    base = load_base(folder, config, machine)
    attention = base.config._attn_implementation
    model = adapt(base, config)
    optimizer = make_optimizer(trainable(model).values(), config.optimization)
    batch = _batch(point, base.config.get_text_config().vocab_size).to(machine.device)
    meter.begin()
    _steps(WARM_UP, model, batch, machine, optimizer)
    check_gradients(model, with_gradient(model))
    meter.wait()
    began = time.perf_counter()
    _steps(TIMED, model, batch, machine, optimizer)
    meter.wait()
    seconds = time.perf_counter() - began
    allocated, reserved = meter.peaks()
    return Measured(
        allocated=allocated,
        reserved=reserved,
        paged=paged_bytes(optimizer),
        tokens_per_second=TIMED * batch.ids.numel() / seconds,
        precision=machine.precision,
        attention=attention,
    )


def paged_bytes(optimizer: torch.optim.Optimizer) -> int:
    """Of optimizer states in memory that the GPU may page out."""
    states = (state for of_one in optimizer.state.values() for state in of_one.values())
    return sum(state.nbytes for state in states if getattr(state, "is_paged", False))


def _config(point: Point) -> TrainingConfig:
    return TrainingConfig(
        job_id="ftjob-measured",
        seed=0,
        model=ModelSource(name=point.model),
        method=point.method,
        adapter=None if point.method == "full" else ADAPTER,
        data=DataConfig(
            max_sequence_length=point.sequence_length, packing=point.method not in UNPACKED, eval_fraction=0.1
        ),
        optimization=OptimizationConfig(
            epochs=1,
            global_batch_size=point.micro_batch,
            learning_rate=1e-5,
            warmup_ratio=0.0,
            weight_decay=0.0,
            optimizer=point.optimizer,
        ),
        hardware=HardwareConfig(**_hardware(point)),
        checkpoint=CheckpointConfig(interval_seconds=3600),
        limits=LimitConfig(max_runtime_seconds=3600, publication_reserve_seconds=0),
    )


def _hardware(point: Point) -> dict[str, Any]:
    return {"micro_batch_size": point.micro_batch, "gradient_checkpointing": point.checkpointing}


def _batch(point: Point, vocabulary: int) -> Batch:
    """Full lines of one row each, with loss at every token: the most that a packed dataset can ask for."""
    torch.manual_seed(0)
    trained = torch.ones(point.sequence_length, dtype=torch.bool)
    trained[0] = False
    lines = torch.randint(vocabulary, (point.micro_batch, point.sequence_length), dtype=torch.int32)
    return collate([(Row(ids, trained),) for ids in lines], pad=0)


def _steps(count: int, model: Any, batch: Batch, machine: Machine, optimizer: torch.optim.Optimizer) -> None:
    """Optimizer steps of one micro-batch each, as the container's trainer takes them."""
    enabled = machine.precision == "fp16"
    # From PyTorch's usual 65,536 the first steps may overflow, and would be skipped.
    scaler = torch.amp.GradScaler(machine.device.type, init_scale=128.0, enabled=enabled)
    for _ in range(count):
        optimizer.zero_grad(set_to_none=True)
        with machine.autocast():
            loss = loss_sum(model, batch) / len(batch.targets)
        torch.autograd.backward(scaler.scale(loss))
        scaler.unscale_(optimizer)
        clip_grad_norm_(trainable(model).values(), 1.0, foreach=True)
        scaler.step(optimizer)
        scaler.update()
