"""Every rank holds the whole model: alone, or with gradients averaged by DistributedDataParallel."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from training_container.memory import idle_step
from training_container.schedule import make_optimizer
from training_container.sharding.engine import Engine, Setting, State


class Single(Engine):
    """One process: nothing is wrapped."""

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self._max_norm = setting.config.optimization.max_gradient_norm
        self._optimizer = make_optimizer(list(self.parameters.values()), setting.config.optimization)
        self._scaler = torch.amp.GradScaler(setting.machine.device.type, enabled=setting.machine.precision == "fp16")

    @property
    def loss_scale(self) -> dict[str, float]:
        """GradScaler's state."""
        return self._scaler.state_dict()

    @property
    def overflows_allowed(self) -> bool:
        """True with fp16."""
        return self._scaler.is_enabled()

    def begin(self) -> None:
        """Drop the gradients' memory, too."""
        self._optimizer.zero_grad(set_to_none=True)

    def backward(self, share: torch.Tensor) -> None:
        """Gradients pile up in the parameters."""
        torch.autograd.backward(self._scaler.scale(share))

    def step(self, rate: float) -> float:
        """Clip and step as torch does; fp16's scaler leaves a step out whose gradients overflowed."""
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._scaler.unscale_(self._optimizer)
        norm = self._clip()
        if self._scaler.is_enabled() or torch.isfinite(norm):
            self._scaler.step(self._optimizer)
        self._scaler.update()
        return float(norm)

    def rehearse(self) -> None:
        """A step without gradients and rate."""
        idle_step(self._optimizer)

    def forget(self) -> None:
        """torch frees the memory; what bitsandbytes cannot free is used again."""
        forget = getattr(self._optimizer, "forget", self._optimizer.state.clear)
        forget()

    def weights(self) -> dict[str, torch.Tensor]:
        """The parameters themselves."""
        return {name: tensor.detach() for name, tensor in self.carried.items()}

    def load_weights(self, saved: Callable[[str], torch.Tensor]) -> None:
        """Copy by name."""
        with torch.no_grad():
            for name, tensor in self.carried.items():
                tensor.copy_(saved(name))

    def optimizer_state(self) -> State:
        """torch's own."""
        return self._optimizer.state_dict()

    def load_optimizer_state(self, state: State, loss_scale: dict[str, float]) -> None:
        """The optimizer moves it to where it belongs."""
        self._optimizer.load_state_dict(state)
        if loss_scale:
            own = self._scaler.state_dict()  # of which some are whole numbers, and have to be
            self._scaler.load_state_dict({name: type(value)(loss_scale[name]) for name, value in own.items()})

    def _clip(self) -> torch.Tensor:
        return torch.nn.utils.clip_grad_norm_(self.parameters.values(), self._max_norm, foreach=True)


class Replicated(Single):
    """DDP. Its gradients are means over the ranks of shares that have to be summed, so each share counts `size` times.

    Experts that no token of a rank was routed to have no gradient there, which DDP has to look for.
    """

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        device = setting.machine.device
        self.wrapped = DistributedDataParallel(
            setting.model,
            device_ids=[device] if device.type == "cuda" else None,
            broadcast_buffers=False,
            find_unused_parameters=any("expert" in name for name in self.parameters),
            gradient_as_bucket_view=True,
        )

    def micro_batch(self, *, last: bool) -> AbstractContextManager[object]:
        """Gradients travel with the last micro-batch alone, while its backward pass still runs."""
        return nullcontext() if last else self.wrapped.no_sync()

    def backward(self, share: torch.Tensor) -> None:
        """Summed over the ranks."""
        super().backward(share * self.world.size)


def check_replicated(engine: Engine) -> None:
    """Refuse to train where gradients would not be shared, or ranks did not begin with the same weights.

    Raises:
        RuntimeError: says what was found instead.
    """
    if not isinstance(engine.wrapped, DistributedDataParallel):
        raise RuntimeError(f"ddp was asked for, but the model is wrapped as {type(engine.wrapped).__name__}")
    if distributed.get_world_size() != engine.world.size:
        raise RuntimeError(f"ddp spans {distributed.get_world_size()} ranks instead of {engine.world.size}")
    managed = {id(parameter) for parameter in engine.wrapped.parameters() if parameter.requires_grad}
    missing = [name for name, parameter in engine.parameters.items() if id(parameter) not in managed]
    if missing:
        raise RuntimeError(f"ddp does not hold {len(missing)} trained parameters, the first: {missing[0]}")
