"""What an engine is: model and optimizer of one rank, and how all ranks' gradients and weights come together."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from spotune.contracts.checkpoint import SHARD_MARK
from spotune.contracts.training import TrainingConfig
from training_container.device import Machine
from training_container.model import carried, count_parameters, trainable, with_gradient
from training_container.sharding.world import World

OPTIMIZER_NAME = "optimizer.pt"
"""Where the whole optimizer's state is on every rank."""

State = dict[str, Any]
"""What `torch.save` keeps of an optimizer and `torch.load(weights_only=True)` reads again."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What an engine is made from."""

    model: Any
    config: TrainingConfig
    machine: Machine
    world: World


class Engine(ABC):
    """Forward, backward and step of one rank.

    `wrapped` is what is called for a forward pass, in training and in evaluation; `model` is the same model without
    its wrapper: for names, for generation, for switching an adapter off. Every rank calls the same methods in the same
    order: gradients, weights and norms are collective.
    """

    sharded = False
    """True where each rank has its own part of the optimizer's state."""
    kind = ""
    """Of a sharded optimizer's state: equal kinds over as many ranks can be resumed."""
    whole = True
    """True where each rank holds all of the weights, so that the model can be used and saved by one rank alone."""

    def __init__(self, setting: Setting) -> None:
        self.model = setting.model
        self.wrapped: Any = setting.model
        self.world = setting.world
        self.parameters = trainable(setting.model)
        self.carried = carried(setting.model)
        self.counts = count_parameters(setting.model)  # spread out, a weight does not know its size any more

    @property
    def optimizer_name(self) -> str:
        """The file of this rank's part of the optimizer's state. It can be resumed where the names are the same."""
        if not self.sharded:
            return OPTIMIZER_NAME
        return f"optimizer.{self.kind}{SHARD_MARK}{self.world.rank}-of-{self.world.size}.pt"

    @property
    def loss_scale(self) -> dict[str, float]:
        """State of fp16's loss scaling; empty in other precisions."""
        return {}

    @property
    def overflows_allowed(self) -> bool:
        """True where a step whose gradients are not finite is skipped, not a fault: while fp16 finds its scale."""
        return False

    @abstractmethod
    def begin(self) -> None:
        """Forget the gradients of the step before, also of one that was cut short."""

    def micro_batch(self, *, last: bool) -> AbstractContextManager[object]:
        """Around forward and backward of a micro-batch: `last` is the one after which the step is taken."""
        return nullcontext()

    @abstractmethod
    def backward(self, share: torch.Tensor) -> None:
        """Add the gradients of this rank's share of the global batch's mean loss."""

    def with_gradient(self) -> set[str]:
        """Names of the trained parameters that a backward pass of the first step has reached."""
        return with_gradient(self.model)

    @abstractmethod
    def step(self, rate: float) -> float:
        """Clip by the norm over all ranks, and take a step unless it is not finite; returns that norm."""

    def rehearse(self) -> None:  # noqa: B027 # an engine may have allocated everything when it was made
        """Let the optimizer allocate whatever it allocates, and change no parameter."""

    def forget(self) -> None:  # noqa: B027
        """Take back what `rehearse` left in the optimizer's state."""

    @abstractmethod
    def weights(self) -> dict[str, torch.Tensor]:
        """What a checkpoint keeps of the model, by name, whole on the first rank; the others' does not count."""

    @abstractmethod
    def load_weights(self, saved: Callable[[str], torch.Tensor]) -> None:
        """Put whole weights into the model; every rank asks for each by its name, in the same order."""

    @abstractmethod
    def optimizer_state(self) -> State:
        """What this rank holds of the optimizer's state."""

    @abstractmethod
    def load_optimizer_state(self, state: State, loss_scale: dict[str, float]) -> None:
        """Go on with what `optimizer_state` and `loss_scale` gave in a run of the same layout."""
