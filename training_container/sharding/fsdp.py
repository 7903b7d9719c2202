"""FSDP2: weights, gradients and optimizer states of every block spread over the ranks as DTensors (`fully_shard`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import CPUOffloadPolicy, FSDPModule, MixedPrecisionPolicy, OffloadPolicy, fully_shard
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

from spotune.contracts.training import TrainingConfig
from training_container.faults import TrainingFault
from training_container.model import count_parameters
from training_container.sharding.engine import Setting, State
from training_container.sharding.replicated import Single


class FullyShard(Single):
    """Gradients are reduced after every micro-batch: kept whole until the last one, they would not fit.

    FSDP averages them over the ranks, so each share counts `size` times. Not with bitsandbytes' optimizers, which do
    not know DTensors, and not with weights outside of the base model (prefix and prompt tuning).
    """

    sharded = True
    kind = "fsdp"
    whole = False

    def __init__(self, setting: Setting) -> None:
        check_supported(setting.config)
        setting.world.meet()
        counts = count_parameters(setting.model)
        self.blocks = spread(setting)
        super().__init__(setting)
        self.counts = counts

    def backward(self, share: torch.Tensor) -> None:
        """Summed over the ranks."""
        super().backward(share * self.world.size)

    def weights(self) -> dict[str, torch.Tensor]:
        """Gathered one by one, so that no more than one is whole on the GPU."""
        found = {}
        for name, tensor in self.carried.items():
            whole = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
            if self.world.first:
                found[name] = whole.detach().cpu()
        return found

    def load_weights(self, saved: Callable[[str], torch.Tensor]) -> None:
        """Each rank takes its part."""
        with torch.no_grad():
            for name, tensor in self.carried.items():
                whole = saved(name).to(tensor.device, tensor.dtype)
                tensor.copy_(_spread_like(whole, tensor) if isinstance(tensor, DTensor) else whole)

    def optimizer_state(self) -> State:
        """This rank's parts, as plain tensors."""
        state = super().optimizer_state()
        parts = {number: {key: _local(value) for key, value in one.items()} for number, one in state["state"].items()}
        return {**state, "state": parts}

    def load_optimizer_state(self, state: State, loss_scale: dict[str, float]) -> None:
        """The parts become DTensors again, spread as the parameters that they belong to."""
        listed = [parameter for group in self._optimizer.param_groups for parameter in group["params"]]
        parts = {
            number: {key: _like(value, listed[number]) for key, value in one.items()}
            for number, one in state["state"].items()
        }
        super().load_optimizer_state({**state, "state": parts}, loss_scale)

    def _clip(self) -> torch.Tensor:
        norm = super()._clip()
        return norm.full_tensor() if isinstance(norm, DTensor) else norm


def spread(setting: Setting) -> tuple[torch.nn.Module, ...]:
    """Shard each block by itself, and what is left with the base model; returns the blocks."""
    machine, config = setting.machine, setting.config
    mesh = init_device_mesh(machine.device.type, (setting.world.size,))
    halved = config.method in ("full", "freeze") and machine.precision != "fp32"
    options: dict[str, Any] = {
        "mesh": mesh,
        "mp_policy": MixedPrecisionPolicy(machine.dtype, torch.float32) if halved else MixedPrecisionPolicy(),
        "offload_policy": CPUOffloadPolicy(pin_memory=torch.cuda.is_available())
        if config.hardware.offload
        else OffloadPolicy(),
    }
    base = getattr(setting.model, "get_base_model", lambda: setting.model)()
    _keep_quantization(base)
    blocks = tuple(module for module in base.modules() if type(module).__name__ in _block_names(base))
    for block in blocks:
        fully_shard(block, **options)
    fully_shard(base, **options)
    return blocks


def check_fsdp(engine: FullyShard) -> None:
    """Refuse to train where a block is not sharded, or a parameter is whole on a rank.

    Raises:
        RuntimeError: says what was found instead.
    """
    check_spread(engine.model, engine.blocks, engine.world.size)


def check_spread(model: torch.nn.Module, blocks: tuple[torch.nn.Module, ...], ranks: int) -> None:
    """The same of any model that `spread` has spread; `blocks` is what that returned.

    Raises:
        RuntimeError: says what was found instead.
    """
    if not blocks or not all(isinstance(block, FSDPModule) for block in blocks):
        raise RuntimeError("fsdp was asked for, but no block of the model is sharded by itself")
    for name, parameter in model.named_parameters():
        if not isinstance(parameter, DTensor) or not any(isinstance(place, Shard) for place in parameter.placements):
            raise RuntimeError(f"fsdp was asked for, but {name} is whole on every rank")
        if parameter.device_mesh.size() != ranks:
            raise RuntimeError(f"fsdp spans {parameter.device_mesh.size()} ranks instead of {ranks}")


def check_supported(config: TrainingConfig) -> None:
    """Refuse what is not spread so. The planner plans none of it.

    Raises:
        TrainingFault: says which of the config's words it is.
    """
    if config.optimization.optimizer != "adamw":
        raise TrainingFault(
            "optimizer_not_sharded",
            f"{config.optimization.optimizer} cannot be spread by fsdp.",
            remedy="Plan with adamw, or with zero2 or zero3.",
        )
    if config.quantization == "int8":
        raise TrainingFault(
            "quantization_not_sharded",
            "Weights in int8 cannot be spread by fsdp: bitsandbytes loses their scales.",
            remedy="Plan with nf4, or with ddp, zero2 or zero3.",
        )
    if config.method in ("prefix", "prompt"):
        raise TrainingFault(
            "method_not_sharded",
            f"{config.method} trains weights outside of the model's blocks, which fsdp does not spread.",
            remedy="Plan with ddp: a method that trains so little needs no more.",
        )


def _block_names(base: torch.nn.Module) -> set[str]:
    """Class names of the layers that transformers keeps on one device each."""
    return set(getattr(base, "_no_split_modules", None) or ())


def _keep_quantization(base: torch.nn.Module) -> None:
    """A sharded 4-bit weight loses what bitsandbytes hung on it; its layer keeps that, and hangs it on again."""
    for module in base.modules():
        quantized = getattr(getattr(module, "weight", None), "quant_state", None)
        if quantized is not None:
            module.quant_state = quantized


def _spread_like(whole: torch.Tensor, model: DTensor) -> DTensor:
    return distribute_tensor(whole, model.device_mesh, model.placements, src_data_rank=None)


def _local(value: Any) -> Any:
    return value.to_local() if isinstance(value, DTensor) else value


def _like(value: Any, parameter: DTensor) -> Any:
    """A part of a state that is as large as its parameter, spread as that; a count of steps stays as it is."""
    if not isinstance(value, torch.Tensor) or value.shape != parameter.to_local().shape:
        return value
    local = value.to(parameter.to_local().device)
    return DTensor.from_local(
        local, parameter.device_mesh, parameter.placements, shape=parameter.shape, stride=parameter.stride()
    )
