"""Every method for one model, side by side: what it trains, what it needs, and the cheapest way to run it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import get_args

from spotune.contracts.estimate import Comparison, MethodEstimate, Rent
from spotune.contracts.market import MarketSnapshot
from spotune.contracts.request import Method
from spotune.planner.architecture import Architecture
from spotune.planner.catalog import Catalog, Gpu
from spotune.planner.cost import list_rents
from spotune.planner.estimate import EVERY_SPREAD, check_length
from spotune.planner.layouts import Layouts, Machines, Timed, host_counts, in_precision_of, micro_batches
from spotune.planner.memory import Memory, estimate_memory
from spotune.planner.search import NEEDS_BF16
from spotune.planner.workload import CHECKPOINTING, UNCHECKPOINTED, Layout, Workload

RANK, INNER_SIZE = 16, 64
"""Of LoRA's kin, and of bottleneck adapters."""
GLOBAL_BATCH = 16
"""Sequences an optimizer step."""


@dataclass(frozen=True, slots=True)
class _Way:
    """A method on machines, at its fastest, with the cheaper market's price."""

    machines: Machines
    timed: Timed
    rent: Rent


def compare_methods(
    model: str, architecture: Architecture, sequence_length: int, catalog: Catalog, market: MarketSnapshot
) -> Comparison:
    """Every method for one model: trainable parameters, memory, the smallest GPU, and the cheapest way to run it.

    Args:
        model: its name, passed through.

    Raises:
        RequestRefused: the sequence is longer than the model's context.
    """
    check_length(architecture, sequence_length)
    works = {method: _workload(architecture, method, sequence_length) for method in get_args(Method)}
    ways = {method: list(_ways(work, catalog, market)) for method, work in works.items()}
    return Comparison(
        model=model,
        parameters=architecture.parameters,
        sequence_length=sequence_length,
        global_batch=GLOBAL_BATCH,
        methods=tuple(_method_estimate(works[method], found, catalog) for method, found in ways.items() if found),
        impossible={
            method: "no machines of the catalog that have a price hold it"
            for method, found in ways.items()
            if not found
        },
    )


def _workload(architecture: Architecture, method: Method, sequence_length: int) -> Workload:
    return Workload(
        architecture=architecture,
        method=method,
        targets=architecture.targets("all-linear"),
        rank=INNER_SIZE if method == "bottleneck" else RANK,
        optimizer="adamw",
        sequence_length=sequence_length,
        typical_length=sequence_length,
        global_batch=GLOBAL_BATCH,
        quantization="nf4" if method == "qlora" else "none",
    )


def _ways(work: Workload, catalog: Catalog, market: MarketSnapshot) -> Iterator[_Way]:
    for spec in catalog:
        if work.architecture.family in NEEDS_BF16 and not spec.gpu.bf16:
            continue
        for count in host_counts(spec, EVERY_SPREAD):
            machines = Machines(spec, count)
            if not micro_batches(GLOBAL_BATCH, machines.gpus):
                continue
            layouts = Layouts((in_precision_of(work, spec),), _checkpointing(work), machines, EVERY_SPREAD)
            for timed in layouts.best:
                for rent in list_rents([machines], timed.speed.training, market)[:1]:
                    yield _Way(machines, timed, rent)


def _method_estimate(work: Workload, ways: list[_Way], catalog: Catalog) -> MethodEstimate:
    cheapest = min(ways, key=lambda way: way.rent.million_tokens.mid)
    alone = [gpu for gpu in _gpus(work, catalog) if _alone(work, gpu).fits]
    layout = cheapest.timed.fit.layout
    return MethodEstimate(
        method=work.method,
        trainable=work.trainable_parameters,
        memory=_alone(work, alone[0] if alone else cheapest.machines.spec.gpu).stated(),
        smallest_gpu=alone[0].name if alone else None,
        gpus=layout.gpus,
        gpu=cheapest.machines.spec.gpu.name,
        sharding=layout.sharding,
        micro_batch=layout.micro_batch,
        checkpointing=layout.checkpointing,
        tokens_per_second=cheapest.timed.speed.training.interval(),
        rent=cheapest.rent,
    )


def _gpus(work: Workload, catalog: Catalog) -> list[Gpu]:
    """Cards that can run the family, the one with the least memory first."""
    cards = {spec.gpu.name: spec.gpu for spec in catalog}.values()
    capable = [gpu for gpu in cards if gpu.bf16 or work.architecture.family not in NEEDS_BF16]
    return sorted(capable, key=lambda gpu: gpu.usable_memory)


def _alone(work: Workload, gpu: Gpu) -> Memory:
    """On one GPU, as small as it gets."""
    layout = Layout(micro_batch=1, checkpointing=True in _checkpointing(work))
    return estimate_memory(work, layout, usable=gpu.usable_memory)


def _checkpointing(work: Workload) -> tuple[bool, ...]:
    return (False,) if work.method in UNCHECKPOINTED else CHECKPOINTING
