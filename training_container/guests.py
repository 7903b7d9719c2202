"""Models that are asked before the one that is trained is loaded: there is memory for one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from training_container.attention import check_separation, choose_attention
from training_container.device import Machine
from training_container.kernels import speed_up
from training_container.loading import loading_machine, spreads
from training_container.memory import forget
from training_container.run import Run
from training_container.sharding.engine import Setting

T = TypeVar("T")


def ask_guest(this: Run, load: Callable[[Machine], Any], question: Callable[[Any], T], *, packed: bool) -> T:
    """What a model answers that is loaded and computed as the trained one will be, and gone when it has answered.

    Weights that no rank could hold alone are spread by FSDP, also where training spreads them by ZeRO: nothing of a
    guest is trained, so that there is nothing for DeepSpeed to keep.

    Args:
        load: makes the model, with all of its weights frozen or never changed.
        packed: it is asked about rows that lie side by side.
    """
    config, machine = this.config, this.machine
    model = load(loading_machine(config, machine))
    try:
        choose_attention(model, machine)
        if spreads(config):
            _spread(this, model)
        else:
            speed_up(model, machine)
            if packed:
                check_separation(model, machine)
        return question(model)
    finally:
        del model
        forget()


def _spread(this: Run, model: Any) -> None:
    from training_container.sharding.fsdp import check_spread, spread

    this.world.meet()
    blocks = spread(Setting(model, this.config, this.machine, this.world))
    check_spread(model, blocks, this.world.size)
