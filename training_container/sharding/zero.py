"""ZeRO by DeepSpeed: optimizer states, gradients and (stage 3) weights spread over the ranks."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial, wraps
from typing import Any

import torch

from spotune.contracts.training import HardwareConfig
from training_container.device import Machine
from training_container.model import carried
from training_container.schedule import make_optimizer
from training_container.sharding.engine import Engine, Setting, State

FP16 = {"enabled": True, "initial_scale_power": 16, "loss_scale_window": 2000, "hysteresis": 1}
"""As torch's GradScaler begins and grows."""
SCALER = ("cur_scale", "cur_iter", "last_overflow_iter", "cur_hysteresis")
"""What DeepSpeed's scaler counts."""
PADDING = 64
"""Elements by which DeepSpeed may round a parameter's part up."""


class Zero(Engine):
    """One of the three stages. DeepSpeed averages gradients over the ranks, so each share counts `size` times."""

    sharded = True

    def __init__(self, setting: Setting, stage: int) -> None:
        super().__init__(setting)
        self.stage = stage
        self.kind = f"zero{stage}"
        self.whole = stage < 3
        self.world.meet()
        deepspeed = _deepspeed()
        config = zero_config(setting, stage)
        optimizer = make_optimizer(list(self.parameters.values()), setting.config.optimization)
        if stage == 3:
            _move_buffers(setting.model, setting.machine.device)
            deepspeed.zero.Init(module=setting.model, config_dict_or_path=config)
        self._engine, self._optimizer, _, _ = deepspeed.initialize(
            model=setting.model,
            optimizer=optimizer,
            config=config,
            dist_init_required=False,
        )
        self.wrapped = self._engine
        self.carried = carried(setting.model)  # DeepSpeed puts other tensors in the place of buffers
        # Around its own forward pass DeepSpeed switches a GPU's autocast off.
        setting.model.forward = _under_autocast(setting.model.forward, setting.machine)
        self._reached: set[str] = set()
        self._hooks = [
            parameter.register_hook(partial(self._reach, name))  # type: ignore[no-untyped-call]
            for name, parameter in self.parameters.items()
        ]

    @property
    def loss_scale(self) -> dict[str, float]:
        """Of DeepSpeed's own scaler."""
        scaler = self._optimizer.loss_scaler
        return {name: float(getattr(scaler, name)) for name in SCALER} if self.overflows_allowed else {}

    @property
    def overflows_allowed(self) -> bool:
        """True with fp16."""
        return bool(self._engine.fp16_enabled())

    def begin(self) -> None:
        """DeepSpeed forgets the gradients when it has taken its step; those of one that was cut short here."""
        self._optimizer.zero_grad()
        if self.stage < 3:
            self._optimizer.micro_step_id = -1  # of which `zero_grad` knows only under stage 3
            self._optimizer.all_grad_tensors.clear()
            self._optimizer.averaged_gradients.clear()

    def micro_batch(self, *, last: bool) -> AbstractContextManager[object]:
        """Says to DeepSpeed where the step ends."""
        self._engine.set_gradient_accumulation_boundary(last)
        return nullcontext()

    def backward(self, share: torch.Tensor) -> None:
        """Summed over the ranks."""
        self._engine.backward(share * self.world.size, scale_wrt_gas=False)

    def with_gradient(self) -> set[str]:
        """DeepSpeed takes gradients away as they come; so they are seen on their way."""
        for hook in self._hooks:
            hook.remove()
        return self._reached

    def step(self, rate: float) -> float:
        """DeepSpeed clips, steps and shares the new weights out; it leaves out a step that is not finite."""
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._engine.step()
        return float(self._engine.get_global_grad_norm())

    def weights(self) -> dict[str, torch.Tensor]:
        """Under stage 3 gathered one by one, so that no more than one is whole on the GPU."""
        if self.whole:
            return {name: tensor.detach() for name, tensor in self.carried.items()}
        found = {}
        for name, tensor in self.carried.items():
            with _gathered(tensor):
                if self.world.first:
                    found[name] = tensor.detach().cpu().clone()
        return found

    def load_weights(self, saved: Callable[[str], torch.Tensor]) -> None:
        """Into the model, of which DeepSpeed's fp32 copy comes with the optimizer's state."""
        for name, tensor in self.carried.items():
            with nullcontext() if self.whole else _gathered(tensor, writer=0), torch.no_grad():
                tensor.data.copy_(saved(name))

    def optimizer_state(self) -> State:
        """This rank's part: AdamW's moments and the fp32 weights that belong to them."""
        if self.stage == 3:
            self._optimizer._set_fp32_optimizer_param_groups()
        state = self._optimizer.optimizer.state_dict()
        if self.stage == 3:
            self._optimizer._clear_fp32_optimizer_param_groups()
        return {"optimizer": state, "weights": [part.detach() for part in self._masters()]}

    def load_optimizer_state(self, state: State, loss_scale: dict[str, float]) -> None:
        """The same, with the scale."""
        if self.stage == 3:
            self._optimizer._set_fp32_optimizer_param_groups()
        self._optimizer.optimizer.load_state_dict(state["optimizer"])
        if self.stage == 3:
            self._optimizer._clear_fp32_optimizer_param_groups()
        for part, saved in zip(self._masters(), state["weights"], strict=True):
            part.data.copy_(saved)
        scaler = self._optimizer.loss_scaler
        for name, value in loss_scale.items():
            setattr(scaler, name, value if name == "cur_scale" else int(value))

    def _reach(self, name: str, _gradient: torch.Tensor) -> None:
        self._reached.add(name)

    def _masters(self) -> list[torch.Tensor]:
        name = "fp32_partitioned_groups_flat" if self.stage == 3 else "single_partition_of_fp32_groups"
        found: list[torch.Tensor] = getattr(self._optimizer, name)
        return found


def zero_config(setting: Setting, stage: int) -> dict[str, Any]:
    """DeepSpeed's configuration, from the plan alone.

    The trainer counts micro-batches itself and says where a step ends, so sizes here are of no account. Full
    fine-tuning computes with 16-bit copies of fp32 weights, which DeepSpeed keeps; adapters stay in fp32, under
    autocast, as without sharding.
    """
    config = setting.config
    precision = setting.machine.precision
    halves = {
        "bf16": {"enabled": precision == "bf16" and config.adapter is None},
        "fp16": FP16 if precision == "fp16" else {"enabled": False},
    }
    return {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": config.optimization.max_gradient_norm,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "zero_optimization": {"stage": stage, "contiguous_gradients": True, **_offload(config.hardware, stage)},
        **halves,
    }


def check_zero(engine: Zero) -> None:
    """Refuse to train where DeepSpeed does not run the stage that was asked for, or did not spread what it spreads.

    Raises:
        RuntimeError: says what was found instead.
    """
    from deepspeed import DeepSpeedEngine

    wrapped = engine.wrapped
    if not isinstance(wrapped, DeepSpeedEngine) or wrapped.zero_optimization_stage() != engine.stage:
        found = getattr(wrapped, "zero_optimization_stage", lambda: None)()
        raise RuntimeError(f"zero{engine.stage} was asked for, but {type(wrapped).__name__} runs stage {found}")
    if wrapped.dp_world_size != engine.world.size:
        raise RuntimeError(f"zero{engine.stage} spans {wrapped.dp_world_size} ranks instead of {engine.world.size}")
    own, most = sum(part.numel() for part in engine._masters()), engine.counts[0] // engine.world.size
    if engine.world.size > 1 and own > most + PADDING * len(engine.parameters):
        raise RuntimeError(f"zero{engine.stage} holds {own} optimizer states on one rank, where {most} are its part")
    if engine.stage == 3:
        loose = [name for name, parameter in engine.model.named_parameters() if not hasattr(parameter, "ds_id")]
        if loose:
            raise RuntimeError(f"zero3 does not hold {len(loose)} parameters, the first: {loose[0]}")


def _deepspeed() -> Any:
    """DeepSpeed without its talk, and on a CPU without the C++ it would compile for a minute to do what gloo does.

    It asks for a launcher's variable, which a process that trains alone has none of.
    """
    os.environ.setdefault("LOCAL_RANK", "0")
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    import deepspeed
    from deepspeed.utils import logger

    logger.setLevel(logging.WARNING)
    if not torch.cuda.is_available():
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    return deepspeed


def _offload(hardware: HardwareConfig, stage: int) -> dict[str, Any]:
    if not hardware.offload:
        return {}
    place = {"device": "cpu", "pin_memory": torch.cuda.is_available()}
    return {"offload_optimizer": place} | ({"offload_param": place} if stage == 3 else {})


def _move_buffers(model: torch.nn.Module, device: torch.device) -> None:
    """DeepSpeed moves the parameters one by one as it spreads them, and leaves the buffers where they are."""
    for module in model.modules():
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = buffer.to(device)


def _under_autocast(forward: Callable[..., Any], machine: Machine) -> Callable[..., Any]:
    @wraps(forward)
    def under(*arguments: Any, **named: Any) -> Any:
        with machine.autocast():
            return forward(*arguments, **named)

    return under


def _gathered(tensor: torch.Tensor, writer: int | None = None) -> AbstractContextManager[object]:
    """Whole inside; what is no parameter is whole everywhere."""
    import deepspeed

    found: AbstractContextManager[object] = deepspeed.zero.GatheredParameters([tensor], modifier_rank=writer)
    return found
