"""How a step is spread over processes: the plan's word for each sharding, and the engine that carries it out."""

from __future__ import annotations

from training_container.sharding.engine import Engine, Setting
from training_container.sharding.replicated import Replicated, Single, check_replicated
from training_container.sharding.world import World

__all__ = ["Engine", "Setting", "World", "make_engine"]


def make_engine(setting: Setting) -> Engine:
    """The engine that the plan asks for, verified: a wrapper that fell back to another would train something else.

    DDP over one process is that process alone.

    Raises:
        RuntimeError: the wrapper is not what was asked for.
    """
    sharding = setting.config.hardware.sharding
    if setting.world.size == 1 and sharding in ("none", "ddp"):
        return Single(setting)
    if sharding.startswith("zero"):
        from training_container.sharding.zero import Zero, check_zero

        zero = Zero(setting, stage=int(sharding[-1]))
        check_zero(zero)
        return zero
    if sharding == "fsdp":
        from training_container.sharding.fsdp import FullyShard, check_fsdp

        sharded = FullyShard(setting)
        check_fsdp(sharded)
        return sharded
    engine = Replicated(setting)
    check_replicated(engine)
    return engine
