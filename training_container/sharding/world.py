"""The processes that train together, and what they tell each other on the host's side of things."""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import safe_open
from torch import distributed
from torch._C._distributed_c10d import HashStore, PrefixStore, TCPStore

K = TypeVar("K")
T = TypeVar("T")

PATIENCE = timedelta(minutes=30)
"""How long a rank waits for the others in one collective. A rank that died ends the job long before (launch.py)."""


@dataclass(frozen=True, slots=True)
class World:
    """This process among all that train together. Alone, every agreement is its own and nothing is sent.

    What is agreed travels over gloo between the hosts' memories, so it never waits for a GPU.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    """Among this host's processes; also the number of its GPU."""

    @classmethod
    def join(cls) -> World:
        """Meet the others at the launcher's store, as torchrun's variables say; the log then says who has come."""
        world = cls.from_environment()
        if world.size > 1:
            world.meet()
            rank, size = distributed.get_rank(), distributed.get_world_size()
            print(f"Rank {rank} of {size} has met the others.", file=sys.stderr, flush=True)
        return world

    def meet(self) -> None:
        """Make the group of processes that torch's and DeepSpeed's collectives run in; alone it has one member."""
        if distributed.is_initialized():
            return
        gpu = torch.cuda.is_available()
        if gpu:
            torch.cuda.set_device(self.local_rank)
        distributed.init_process_group(
            "cpu:gloo,cuda:nccl" if gpu else "gloo",
            store=_meeting_point() if self.size > 1 else HashStore(),
            rank=self.rank,
            world_size=self.size,
            timeout=PATIENCE,
        )

    @classmethod
    def from_environment(cls) -> World:
        """The place that the launcher gave this process; alone where there was no launcher."""
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
        rank, size, local = (int(os.environ.get(name, default)) for name, default in zip(names, (0, 1, 0), strict=True))
        return cls(rank, size, local)

    @property
    def halvings(self) -> int:
        """How often all were started again with half the micro-batch."""
        return int(os.environ.get("SPOTUNE_HALVINGS", 0))

    @property
    def first(self) -> bool:
        """True in the process that reports, writes the manifest and publishes."""
        return self.rank == 0

    @property
    def first_on_host(self) -> bool:
        """True in the process that makes and clears this host's folders."""
        return self.local_rank == 0

    def share(self, count: int) -> range:
        """Numbers of this rank's items of `count`: every `size`th, so that shares of sorted items are alike."""
        return range(self.rank, count, self.size)

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """Each flag, true on all ranks where it is true on any."""
        if self.size == 1:
            return flags
        raised = torch.tensor(flags, dtype=torch.int32)
        distributed.all_reduce(raised, distributed.ReduceOp.MAX)
        return tuple(map(bool, raised.tolist()))

    def add(self, values: torch.Tensor) -> torch.Tensor:
        """A tensor on the CPU, summed over the ranks."""
        if self.size > 1:
            distributed.all_reduce(values)
        return values

    def from_first(self, find: Callable[[], T]) -> T:
        """What the first rank finds, on all ranks."""
        if self.size == 1:
            return find()
        box: list[Any] = [find() if self.first else None]
        distributed.broadcast_object_list(box, device=torch.device("cpu"))
        found: T = box[0]
        return found

    def tensors_of_first(self, path: Path) -> Callable[[str], torch.Tensor]:
        """Reads a safetensors file that lies with the first rank, tensor by tensor.

        All ranks ask for the same names in the same order, and none holds more than it asked for.
        """
        file: Any = safe_open(path, framework="pt") if self.first else None
        names = file.keys() if self.first else ()
        empty = self.from_first(lambda: {name: file.get_tensor(name).to("meta") for name in names})

        def read(name: str) -> torch.Tensor:
            found = file.get_tensor(name) if self.first else torch.empty_like(empty[name], device="cpu")
            return self._sent(found)

        return read

    def _sent(self, tensor: torch.Tensor) -> torch.Tensor:
        """What the first rank has in its place. As bytes, since gloo does not know every type."""
        if self.size > 1 and tensor.numel():
            distributed.broadcast(tensor.reshape(-1).view(torch.uint8), 0)
        return tensor

    def gather(self, value: T) -> list[T]:
        """Every rank's value, by rank, on all ranks."""
        if self.size == 1:
            return [value]
        found: list[Any] = [None] * self.size
        distributed.all_gather_object(found, value)
        return found

    def merge(self, found: dict[K, T]) -> dict[K, T]:
        """What all ranks found together."""
        return {key: value for part in self.gather(found) for key, value in part.items()}


class Exchange:
    """What the ranks tell each other from a thread beside training: through the launcher's store, in no collective.

    All ranks make the same calls in the same order. `topic` keeps the words of two of them apart, and `patience` is how
    long one waits for the others.
    """

    def __init__(self, world: World, topic: str, patience: timedelta = PATIENCE) -> None:
        self._world = world
        self._topic = topic
        self._calls = 0
        self._store = _meeting_point(patience) if world.size > 1 else None

    def gather(self, value: T) -> list[T]:
        """Every rank's value, by rank; returns when all have come this far."""
        if self._store is None:
            return [value]
        return self._say(value, range(self._world.size))

    def from_first(self, value: T) -> T:
        """The first rank's value, when it has come this far."""
        if self._store is None:
            return value
        return self._say(value, range(1))[0]

    def _say(self, value: T, ranks: range) -> list[T]:
        assert self._store is not None
        self._calls += 1
        key = f"{self._topic}/{self._calls}"
        if self._world.rank in ranks:
            self._store.set(f"{key}/{self._world.rank}", pickle.dumps(value))  # type: ignore[arg-type] # it takes bytes
        return [pickle.loads(self._store.get(f"{key}/{rank}")) for rank in ranks]  # noqa: S301 # of our own ranks


def _meeting_point(patience: timedelta = PATIENCE) -> PrefixStore:
    """The launcher's store, with other keys after each restart."""
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = TCPStore(address, port, is_master=False, timeout=patience)
    return PrefixStore(f"attempt/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)


ALONE = World()
"""One process that trains by itself."""
