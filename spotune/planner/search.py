"""Every way to run the job, priced; and the cheapest within every constraint."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from spotune.contracts.market import MarketSnapshot
from spotune.contracts.plan import Rejection
from spotune.planner.catalog import Catalog, InstanceSpec
from spotune.planner.corrections import Corrector
from spotune.planner.disk import room_gb
from spotune.planner.layouts import (
    Fit,
    Layouts,
    Machines,
    Trainer,
    host_counts,
    host_room,
    in_precision_of,
    micro_batches,
)
from spotune.planner.limits import Limits
from spotune.planner.options import Job, Option, disk_needed, list_options
from spotune.planner.workload import Workload

NEEDS_BF16 = frozenset({"gemma", "gemma2", "gemma3", "gemma3_text"})
"""Families whose activations exceed what fp16 holds."""

_GIB = 1024**3

WHOLE_MARGIN = 1.05
"""Merging takes one layer's sum in fp32 beside the weights: a working guess."""


@dataclass(frozen=True)
class Search:
    """All options, cheapest first, and the verdict on each type that has none."""

    catalog: Catalog
    regions: str
    """Those that have prices, in words."""
    limits: Limits
    corrector: Corrector
    options: tuple[Option, ...]
    verdicts: dict[str, Rejection]
    misses: tuple[tuple[Machines, Fit], ...]
    """Machines that memory rejected, with the layout that needs the least."""

    @cached_property
    def permitted(self) -> tuple[Option, ...]:
        """Options where the user and the account allow them, whatever they cost and take."""
        return tuple(option for option in self.options if self.limits.permits(option))

    @cached_property
    def feasible(self) -> tuple[Option, ...]:
        """Options within every constraint, cheapest first."""
        return tuple(option for option in self.permitted if self.limits.meets(option))


def search(
    job: Job,
    catalog: Catalog,
    snapshots: Sequence[MarketSnapshot],
    limits: Limits,
    trainer: Trainer,
    corrector: Corrector,
) -> Search:
    """Every option of every type, whether the user allows it or not: a choice of the user's is priced against all.

    Args:
        snapshots: one a region; the data lies in the first one's.
    """
    options: list[Option] = []
    refused: dict[str, Rejection] = {}
    misses: list[tuple[Machines, Fit]] = []
    known: dict[object, Layouts] = {}
    for spec in catalog:
        if (rejection := _incapable(spec, job, trainer)) is not None:
            refused[spec.instance_type] = rejection
            continue
        found = list(_layouts(spec, job, trainer, corrector, known))
        for machines, layouts in found:
            options += _priced(job, machines, layouts, snapshots, limits)
        if not any(layouts.best for _, layouts in found):
            nearest = [(machines, layouts.nearest) for machines, layouts in found]
            misses += nearest
            refused[spec.instance_type] = _too_small(*min(nearest, key=lambda miss: miss[1].memory.p95))
        elif full := _without_disk(spec, job, [timed.fit.work for _, layouts in found for timed in layouts.best]):
            refused[spec.instance_type] = full
    options.sort(key=lambda option: (option.cost.mid, option.spec.instance_type, option.market))
    regions = ", ".join(snapshot.region for snapshot in snapshots)
    return Search(
        catalog=catalog,
        regions=regions,
        limits=limits,
        corrector=corrector,
        options=tuple(options),
        verdicts=refused,
        misses=tuple(misses),
    )


def _layouts(
    spec: InstanceSpec, job: Job, trainer: Trainer, corrector: Corrector, known: dict[object, Layouts]
) -> Iterator[tuple[Machines, Layouts]]:
    """Layouts for each number of machines that can share the batch; found once for types of the same shape."""
    for count in host_counts(spec, trainer):
        machines = Machines(spec, count)
        if micro_batches(job.workloads[0].global_batch, machines.gpus):
            fresh = Layouts(
                works=tuple(in_precision_of(work, spec) for work in job.workloads),
                checkpointing=job.checkpointing,
                machines=machines,
                trainer=trainer,
                corrector=corrector,
            )
            yield machines, known.setdefault(machines.shape, fresh)


def _priced(
    job: Job, machines: Machines, layouts: Layouts, snapshots: Sequence[MarketSnapshot], limits: Limits
) -> Iterator[Option]:
    home = snapshots[0].region
    for snapshot in snapshots:
        if snapshot.region == home or _is_priced(machines.spec, snapshot, limits):
            yield from list_options(job, machines, layouts, snapshot, home=home)


def _is_priced(spec: InstanceSpec, snapshot: MarketSnapshot, limits: Limits) -> bool:
    """A further region competes by its own prices alone, never by another one's, unless the user names it."""
    quote = snapshot.quotes.get(spec.instance_type)
    named = limits.regions is not None and snapshot.region in limits.regions
    return quote is not None and (named or quote.certainty == "confirmed")


def _incapable(spec: InstanceSpec, job: Job, trainer: Trainer) -> Rejection | None:
    work = job.workloads[0]
    if work.architecture.family in NEEDS_BF16 and not spec.gpu.bf16:
        return _rejected(spec, f"{spec.gpu.name} has no bf16, which {work.architecture.family} needs")
    if spec.gpus > 1 and trainer.shardings == {"none"}:
        return _rejected(spec, f"has {spec.gpus} GPUs; the trainer uses one GPU at present")
    if WHOLE_MARGIN * job.whole_bytes > max(spec.gpu.usable_memory, host_room(spec)):
        return _rejected(spec, f"has no room for the {job.whole_bytes / _GIB:.0f} GiB that are published whole")
    if (full := _without_disk(spec, job, job.workloads)) is not None:
        return full
    if not micro_batches(work.global_batch, spec.gpus):
        return _rejected(
            spec, f"has {spec.gpus} GPUs, over which a global batch of {work.global_batch} cannot be shared out evenly"
        )
    return None


def _without_disk(spec: InstanceSpec, job: Job, works: Sequence[Workload]) -> Rejection | None:
    """Where none of these has room; they differ in their optimizers, and so in their checkpoints."""
    needed, room = min(disk_needed(job, work) for work in works), room_gb(spec)
    if needed <= room:
        return None
    if spec.nvme_gb:
        held = f"its NVMe of {spec.nvme_gb:,} GB, which no volume adds to, holds {room:,}"
    else:
        held = f"an account gets volumes of {room:,} GB for training instances"
    reason = f"needs {needed:,} GB of disk for the image, the model, checkpoints and files; {held}"
    return Rejection(instance_type=spec.instance_type, rule="disk", reason=reason)


def _rejected(spec: InstanceSpec, reason: str) -> Rejection:
    return Rejection(instance_type=spec.instance_type, rule="capability", reason=reason)


def _too_small(machines: Machines, nearest: Fit) -> Rejection:
    return Rejection(instance_type=machines.spec.instance_type, rule="memory", reason=describe_miss(machines, nearest))


def describe_miss(machines: Machines, nearest: Fit) -> str:
    """How far the layout that needs the least is from fitting, in words."""
    layout, gpu = nearest.layout, machines.spec.gpu
    spread = "" if layout.sharding == "none" else f" with {layout.sharding} over {layout.gpus} GPUs"
    spread += " and offloading" if layout.offload else ""
    return (
        f"{nearest.work.method}{spread} needs up to {nearest.memory.p95 / _GIB:.1f} GiB at micro-batch "
        f"{layout.micro_batch}; {gpu.name} has {gpu.usable_memory / _GIB:.1f}"
    )
