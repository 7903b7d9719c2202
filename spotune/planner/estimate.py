"""One configuration worked out: memory by part, speed, and the price of a million tokens, by a plan's formulas."""

from __future__ import annotations

from spotune.contracts.errors import RequestRefused
from spotune.contracts.estimate import Configuration, Estimate, ParameterCounts
from spotune.contracts.market import MarketSnapshot
from spotune.contracts.plan import Sharding
from spotune.planner.architecture import Architecture
from spotune.planner.catalog import Catalog, Gpu
from spotune.planner.cost import list_rents
from spotune.planner.layouts import HOST_COUNTS, SPREADS, Machines, Trainer, host_counts
from spotune.planner.memory import estimate_memory, host_bytes
from spotune.planner.search import NEEDS_BF16
from spotune.planner.throughput import estimate_speed
from spotune.planner.workload import Layout, Workload

EVERY_SPREAD = Trainer(shardings=frozenset(sharding for sharding, _ in SPREADS), offload=True, hosts=max(HOST_COUNTS))
"""Calculators count what a trainer could do, whether ours does it yet or not."""


def estimate(
    model: str, architecture: Architecture, asked: Configuration, catalog: Catalog, market: MarketSnapshot
) -> Estimate:
    """Memory by part, speed, and the price of a million tokens of one configuration.

    Args:
        model: its name, passed through.

    Raises:
        RequestRefused: a GPU that the catalog does not have, or a choice that the model or the GPU cannot take.
    """
    gpu = _gpu(asked, catalog)
    work, machines = _workload(architecture, asked, gpu), _machines(asked, catalog)
    spec, layout = machines[0].spec, _layout(asked, hosts=machines[0].count)
    memory = estimate_memory(work, layout, usable=gpu.usable_memory)
    speed = estimate_speed(work, layout, gpu, link=spec.link, network=spec.network).training
    return Estimate(
        model=model,
        configuration=asked.with_(sharding=layout.sharding, quantization=work.quantization, precision=work.precision),
        parameters=_counts(work),
        memory=memory.stated(),
        fits=memory.fits,
        host_memory=host_bytes(work, layout),
        tokens_per_second=speed.interval(),
        rents=tuple(list_rents(machines, speed, market)),
    )


def _gpu(asked: Configuration, catalog: Catalog) -> Gpu:
    gpus = {spec.gpu.name.lower(): spec.gpu for spec in catalog}
    gpu = gpus.get(asked.gpu.lower())
    if gpu is None:
        known = ", ".join(sorted({spec.gpu.name for spec in catalog}))
        raise RequestRefused(
            f"There is no GPU {asked.gpu} in the catalog.", code="unknown_gpu", param="gpu", remedy=f"Known: {known}."
        )
    if asked.precision == "bf16" and not gpu.bf16:
        raise RequestRefused(
            f"{gpu.name} has no bf16.", code="precision_not_supported", param="precision", remedy="Take fp16 or fp32."
        )
    return gpu


def _workload(architecture: Architecture, asked: Configuration, gpu: Gpu) -> Workload:
    check_length(architecture, asked.sequence_length)
    if architecture.family in NEEDS_BF16 and not gpu.bf16 and asked.precision != "fp32":
        raise RequestRefused(
            f"{gpu.name} has no bf16, which {architecture.family} needs: its activations exceed what fp16 holds.",
            code="precision_not_supported",
            param="gpu",
            remedy="Take a GPU of the Ampere generation or later.",
        )
    return Workload(
        architecture=architecture,
        method=asked.method,
        targets=architecture.targets(asked.target_modules),
        rank=asked.rank,
        virtual_tokens=asked.virtual_tokens,
        trained_layers=asked.trained_layers,
        objective=asked.objective,
        optimizer=asked.optimizer,
        sequence_length=asked.sequence_length,
        typical_length=asked.sequence_length,
        global_batch=asked.micro_batch * asked.gpus,
        quantization=asked.quantization or ("nf4" if asked.method == "qlora" else "none"),
        precision=asked.precision or ("bf16" if gpu.bf16 else "fp16"),
        attention=asked.attention,
        fused_cross_entropy=asked.fused_cross_entropy,
    )


def _layout(asked: Configuration, *, hosts: int) -> Layout:
    sharding: Sharding = asked.sharding or ("none" if asked.gpus == 1 else "fsdp")
    if asked.gpus > 1 and sharding == "none":
        raise _sharding_refused("none leaves all GPUs but one idle", "Take ddp, zero1, zero2, zero3 or fsdp.")
    if asked.gpus == 1 and sharding != "none" and not asked.offload:
        raise _sharding_refused(f"{sharding} has nothing to share on one GPU", "Take none, or more GPUs, or offload.")
    if asked.offload and sharding not in ("zero2", "zero3", "fsdp"):
        raise _sharding_refused(f"{sharding} cannot offload", "Take zero2, zero3 or fsdp.")
    return Layout(asked.micro_batch, asked.checkpointing, asked.gpus, hosts, sharding, asked.offload)


def _sharding_refused(why: str, remedy: str) -> RequestRefused:
    return RequestRefused(f"Sharding {why}.", code="sharding_not_possible", param="sharding", remedy=remedy)


def check_length(architecture: Architecture, length: int) -> None:
    """Refuse a sequence that is longer than the model's context."""
    if length > architecture.context:
        raise RequestRefused(
            f"The sequence length is {length}; the model's context is {architecture.context}.",
            code="sequence_too_long",
            param="sequence_length",
            remedy=f"Set it to {architecture.context} or less.",
        )


def _machines(asked: Configuration, catalog: Catalog) -> list[Machines]:
    """Every number of machines of one type that has just these GPUs."""
    specs = [spec for spec in catalog if spec.gpu.name.lower() == asked.gpu.lower()]
    found = [
        Machines(spec, count)
        for spec in specs
        for count in host_counts(spec, EVERY_SPREAD)
        if spec.gpus * count == asked.gpus
    ]
    if not found:
        possible = sorted({spec.gpus * count for spec in specs for count in host_counts(spec, EVERY_SPREAD)})
        raise RequestRefused(
            f"No machines of the catalog have {asked.gpus} x {specs[0].gpu.name} together.",
            code="gpu_count_not_possible",
            param="gpus",
            remedy=f"Possible: {', '.join(map(str, possible))}.",
        )
    return found


def _counts(work: Workload) -> ParameterCounts:
    architecture = work.architecture
    return ParameterCounts(
        embedding=architecture.embedding,
        attention=architecture.attention,
        mlp=architecture.mlp,
        norms=architecture.norms,
        head=architecture.head,
        total=architecture.parameters,
        active=architecture.active_parameters,
        trainable=work.trainable_parameters,
    )
