"""How a step can be laid out on machines, and for each method the fastest layout that fits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

from spotune.contracts.plan import Optimizer, Sharding
from spotune.contracts.training import TRAINED_SHARDINGS
from spotune.planner.catalog import InstanceSpec
from spotune.planner.corrections import UNCORRECTED, Corrector
from spotune.planner.memory import Memory, estimate_memory, host_bytes
from spotune.planner.throughput import Speed, estimate_speed
from spotune.planner.workload import REPLICATED, UNSHARED, Layout, Workload

HOST_COUNTS = (1, 2, 4, 8)
SLOWEST_NETWORK = 12.5e9
"""Bytes a second between machines (100 Gb/s) below which several of them are not planned: steps would wait for it."""
LARGEST_MICRO_BATCH = 64
SPEED_TOLERANCE = 0.02
"""Of layouts within this share of the fastest, the simplest spread is taken, and of those the one with least memory."""
HOST_MEMORY_SHARE = 0.85
"""Of a machine's memory, what offloading may take."""

SHARED_OPTIMIZER: Optimizer = "adamw"
"""What is taken where GPUs share out its states."""
SPREADS: tuple[tuple[Sharding, bool], ...] = (
    ("none", False),
    ("ddp", False),
    ("zero1", False),
    ("zero2", False),
    ("fsdp", False),
    ("zero2", True),
    ("zero3", True),
)
"""Sharding and offload, each slower than those before it and smaller on the GPU. FSDP stands for ZeRO-3, its equal."""


@dataclass(frozen=True, slots=True)
class Trainer:
    """How the container can spread a step."""

    shardings: frozenset[Sharding]
    offload: bool
    hosts: int


PRESENT_TRAINER = Trainer(shardings=TRAINED_SHARDINGS, offload=True, hosts=max(HOST_COUNTS))


@dataclass(frozen=True, slots=True)
class Machines:
    """`count` instances of one type."""

    spec: InstanceSpec
    count: int

    @property
    def gpus(self) -> int:
        """In all."""
        return self.spec.gpus * self.count

    @property
    def shape(self) -> tuple[object, ...]:
        """What memory and speed follow from: sizes that differ in price alone share their layouts."""
        spec = self.spec
        return spec.gpu.name, spec.gpus, self.count, spec.link, spec.network if self.count > 1 else 0, spec.ram_gib


@dataclass(frozen=True, slots=True)
class Fit:
    """One layout on one kind of machine, whether it fits or not."""

    work: Workload
    layout: Layout
    memory: Memory
    host_room: float
    """Bytes of a machine's memory that offloading may take."""

    @property
    def fits(self) -> bool:
        """By the 95 % value; what is offloaded fits into the machine's memory."""
        return self.memory.fits and self.host_fits

    @property
    def host_fits(self) -> bool:
        """What is offloaded fits into the machine's memory."""
        return not self.layout.offload or host_bytes(self.work, self.layout) <= self.host_room


@dataclass(frozen=True, slots=True)
class Timed:
    """A layout that fits, with its speed."""

    fit: Fit
    speed: Speed


@dataclass(frozen=True)
class Layouts:
    """The layouts of one job on one kind of machine."""

    works: tuple[Workload, ...]
    """One a method."""
    checkpointing: tuple[bool, ...]
    machines: Machines
    trainer: Trainer
    corrector: Corrector = UNCORRECTED

    @cached_property
    def best(self) -> tuple[Timed, ...]:
        """For each method the fastest that fits, or one nearly as fast that needs less memory."""
        return tuple(best for work in self.works if (best := self._fastest(work)) is not None)

    @cached_property
    def nearest(self) -> Fit:
        """The layout that needs the least memory, fitting or not."""
        fits = (
            self._fit(work, 1, True in self.checkpointing, spread)
            for work in self.works
            for spread in self._spreads(work)
        )
        return min(fits, key=lambda fit: (not fit.host_fits, fit.memory.p95))

    def _fastest(self, work: Workload) -> Timed | None:
        """More sharding, and offloading, are looked at only while room is what holds the step back."""
        found: list[Timed] = []
        for spread in self._spreads(work):
            largest = [self._largest(work, checkpointing, spread) for checkpointing in self.checkpointing]
            found += [timed for timed in largest if timed is not None]
            if self._unbounded(work, largest):
                break
        if not found:
            return None
        return self._least_memory(found)

    def _spreads(self, work: Workload) -> Iterator[tuple[Sharding, bool]]:
        shares_states = work.optimizer_open or work.optimizer == SHARED_OPTIMIZER
        shares_states = shares_states and work.method not in UNSHARED
        for sharding, offload in SPREADS:
            if sharding not in REPLICATED and not shares_states:
                continue
            if (sharding, offload) == ("zero3", True) and work.quantization != "none":
                continue  # bitsandbytes' weights do not travel between host and GPU
            if sharding == "fsdp" and work.quantization == "int8":
                continue  # nor are its 8-bit ones cut into parts
            single = self.machines.gpus == 1
            pointless = single and sharding != "none" and not offload
            impossible = (not single and sharding == "none") or sharding not in self.trainer.shardings
            if not pointless and not impossible and (self.trainer.offload or not offload):
                yield sharding, offload

    def _largest(self, work: Workload, checkpointing: bool, spread: tuple[Sharding, bool]) -> Timed | None:
        """The largest micro-batch that fits, found by bisection: memory grows with it.

        The largest of all is looked at first: without accumulation, gradients do not pile up on activations.
        """
        sizes = micro_batches(work.global_batch, self.machines.gpus)
        whole = self._fit(work, sizes[-1], checkpointing, spread)
        if whole.fits:
            return self._timed(whole)
        low, high, best = 0, len(sizes) - 2, None
        while low <= high:
            middle = (low + high) // 2
            fit = self._fit(work, sizes[middle], checkpointing, spread)
            if fit.fits:
                low, best = middle + 1, fit
            else:
                high = middle - 1
        return self._timed(best) if best is not None else None

    def _unbounded(self, work: Workload, largest: list[Timed | None]) -> bool:
        """True where memory holds nothing back: the largest micro-batch fits, without recomputing where it may."""
        first = largest[0]
        return (
            first is not None
            and first.fit.layout.micro_batch == micro_batches(work.global_batch, self.machines.gpus)[-1]
        )

    def _least_memory(self, found: list[Timed]) -> Timed:
        enough = max(timed.speed.training.mid for timed in found) * (1 - SPEED_TOLERANCE)
        near = [self._smallest(timed, enough) for timed in found if timed.speed.training.mid >= enough]
        return min(near, key=lambda timed: (SPREADS.index(timed.fit.layout.spread), timed.fit.memory.p95))

    def _smallest(self, timed: Timed, enough: float) -> Timed:
        """The smallest micro-batch of this layout that is still fast enough."""
        layout = timed.fit.layout
        sizes = micro_batches(timed.fit.work.global_batch, self.machines.gpus)
        for size in reversed([size for size in sizes if size < layout.micro_batch]):
            smaller = self._timed(self._fit(timed.fit.work, size, layout.checkpointing, layout.spread))
            if smaller.speed.training.mid < enough:
                break
            timed = smaller
        return timed

    def _fit(self, work: Workload, micro_batch: int, checkpointing: bool, spread: tuple[Sharding, bool]) -> Fit:
        machines = self.machines
        layout = Layout(micro_batch, checkpointing, machines.gpus, machines.count, *spread)
        spec = machines.spec
        if layout.sharding not in REPLICATED:
            work = with_shared_states(work)
        memory = estimate_memory(work, layout, usable=spec.gpu.usable_memory)
        memory = memory.scaled(self.corrector.factor("memory", spec.gpu.name, work.method))
        return Fit(work, layout, memory, host_room(spec))

    def _timed(self, fit: Fit) -> Timed:
        spec = self.machines.spec
        speed = estimate_speed(fit.work, fit.layout, spec.gpu, link=spec.link, network=spec.network)
        return Timed(fit, self.corrector.speed(spec.gpu.name, fit.work.method, speed))


def host_room(spec: InstanceSpec) -> float:
    """Bytes of a machine's memory that weights and states may take."""
    return HOST_MEMORY_SHARE * spec.ram_gib * 1024**3


@lru_cache(maxsize=512)
def with_shared_states(work: Workload) -> Workload:
    """The same work with the optimizer whose states can be shared out."""
    return work if work.optimizer == SHARED_OPTIMIZER else replace(work, optimizer=SHARED_OPTIMIZER)


def host_counts(spec: InstanceSpec, trainer: Trainer) -> tuple[int, ...]:
    """How many machines of this type may work on one job."""
    most = trainer.hosts if spec.network >= SLOWEST_NETWORK else 1
    return tuple(count for count in HOST_COUNTS if count <= most)


def micro_batches(global_batch: int, gpus: int) -> list[int]:
    """Sizes that make the global batch of equal steps on every GPU; none where it cannot be shared out evenly."""
    share, rest = divmod(global_batch, gpus)
    if rest:
        return []
    return [size for size in range(1, min(share, LARGEST_MICRO_BATCH) + 1) if share % size == 0]


def in_precision_of(work: Workload, spec: InstanceSpec) -> Workload:
    """The same work in fp16 where the card has no bf16."""
    return work if spec.gpu.bf16 else replace(work, precision="fp16")
