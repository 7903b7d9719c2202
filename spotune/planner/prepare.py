"""From a request and its dataset to what is run and what it will cost."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from spotune.contracts.base import MicroUSD, Timestamp, dollars
from spotune.contracts.dataset import DatasetReport
from spotune.contracts.events import Prepared
from spotune.contracts.job import ModelReference, ResolvedSetting
from spotune.contracts.money import longest_runtime, worst_case
from spotune.contracts.plan import Candidate, Plan
from spotune.contracts.request import JobRequest
from spotune.contracts.training import (
    AdapterConfig,
    CheckpointConfig,
    DataConfig,
    EvaluationConfig,
    HardwareConfig,
    LimitConfig,
    ModelSource,
    OptimizationConfig,
    TrainingConfig,
)
from spotune.planner.architecture import Architecture, read_architecture
from spotune.planner.catalog import Catalog, MarketSnapshot, load_catalog
from spotune.planner.ladder import build_ladder
from spotune.planner.options import Job, Option
from spotune.planner.refusal import refuse
from spotune.planner.search import Limits, Search, read_limits, reject_others, search
from spotune.planner.settings import Settings, choose_learning_rate, settle, workload

CONFIDENCE = 0.95
ALTERNATIVES = 5
WEEK_SECONDS = 7 * 24 * 3600
DAY_SECONDS = 24 * 3600
CHOICE_COSTS_MORE = 1.05
"""From this multiple of the cheapest on, the price of the user's own choice is said."""


def prepare(
    request: JobRequest,
    *,
    job_id: str,
    model: ModelReference,
    architecture_config: Mapping[str, object],
    training: DatasetReport,
    validation: DatasetReport | None,
    cap: MicroUSD,
    now: Timestamp,
    market: MarketSnapshot | None = None,
) -> Prepared:
    """Resolve the settings, choose the cheapest plan within every constraint, and write the container's config.

    Args:
        cap: micro-dollars that the job may cost in all.
        now: for the age of the prices; deadlines count from it.
        market: prices to plan on; the bundled snapshot of us-east-1 where there are none.

    Raises:
        RequestRefused: a value that the model or the catalog does not know.
        DatasetRefused: there is no row to train on.
        PlanRefused: nothing meets the constraints; says the cheapest or the fastest that would do.
    """
    catalog = load_catalog()
    snapshot = market or catalog.market()
    architecture = read_architecture(architecture_config)
    limits = read_limits(request.constraints, cap, catalog)
    settings = settle(request, architecture, training, validation)
    found = search(_job(request, architecture, settings), catalog, snapshot, limits)
    feasible = found.feasible
    if not feasible:
        raise refuse(found)
    chosen = feasible[0]
    plan = _plan(found, chosen, catalog, snapshot)
    warnings = (*training.warnings, *settings.warnings, *_warnings(found, plan, chosen, snapshot, now))
    return Prepared(
        training=training,
        validation=validation,
        settings=(*settings.resolved, *_resolved_by_search(request, architecture, chosen)),
        config=_config(request, job_id, model, architecture, settings, chosen, limits),
        plan=plan.with_(warnings=warnings),
    )


def _job(request: JobRequest, architecture: Architecture, settings: Settings) -> Job:
    volume = settings.volume
    save_interval = request.training.save_interval_seconds
    return Job(
        workloads=tuple(workload(request, architecture, settings, method) for method in settings.methods),
        checkpointing=settings.checkpointing,
        training_tokens=volume.tokens * settings.epochs,
        evaluation_tokens=volume.evaluation_tokens * (1 + settings.epochs),
        generated_examples=2 * request.training.generation_examples,
        publication_seconds=_publication_seconds(architecture),
        save_interval=None if save_interval == "auto" else save_interval,
    )


def _plan(found: Search, chosen: Option, catalog: Catalog, snapshot: MarketSnapshot) -> Plan:
    limits, feasible = found.limits, found.feasible
    on_demand = chosen.ceiling_price
    return Plan(
        chosen=_candidate(chosen, limits),
        rungs=build_ladder(chosen, feasible, limits.hours),
        on_demand_price=on_demand,
        on_demand_cost=math.ceil(on_demand * chosen.calm_hours),
        alternatives=tuple(_candidate(option, limits) for option in _further_types(feasible, chosen)),
        rejections=tuple(reject_others(found, chosen, catalog)),
        confidence=CONFIDENCE,
        market_as_of=snapshot.spot_as_of if chosen.market == "spot" else snapshot.as_of,
    )


def _further_types(feasible: tuple[Option, ...], chosen: Option) -> list[Option]:
    """The cheapest option of each other type."""
    best: dict[str, Option] = {}
    for option in feasible:
        best.setdefault(option.spec.instance_type, option)
    best.pop(chosen.spec.instance_type)
    return list(best.values())[:ALTERNATIVES]


def _candidate(option: Option, limits: Limits) -> Candidate:
    fit = option.fit
    return Candidate(
        instance_type=option.spec.instance_type,
        gpu=option.spec.gpu.name,
        gpus=option.spec.gpus,
        market=option.market,
        price=option.price,
        method=fit.work.method,
        precision="bf16" if option.spec.gpu.bf16 else "fp16",
        sharding="none",
        micro_batch_size=fit.layout.micro_batch,
        gradient_accumulation=fit.work.global_batch // fit.layout.micro_batch,
        gradient_checkpointing=fit.layout.checkpointing,
        memory=fit.memory,
        tokens_per_second=option.speed.training,
        billed_hours=option.course.billed,
        wall_hours=option.course.wall,
        cost=option.cost,
        worst_case_cost=worst_case(option.ceiling_price, 1, _max_runtime(option, limits)),
        interruptions=option.course.interruptions,
        save_interval=option.save_interval,
    )


def _max_runtime(option: Option, limits: Limits) -> int:
    """The longest that cap and deadline allow, not the forecast: a slower machine than forecast may still finish."""
    runtime = longest_runtime(option.ceiling_price, 1, limits.cap)
    return runtime if limits.hours is None else min(runtime, int(limits.hours * 3600))


def _warnings(found: Search, plan: Plan, chosen: Option, snapshot: MarketSnapshot, now: Timestamp) -> Iterator[str]:
    yield from snapshot.warnings
    yield from _age_warnings(chosen, snapshot, now)
    quote = snapshot.quotes[chosen.spec.instance_type]
    if quote.certainty != "confirmed":
        yield f"The on-demand price of {chosen.spec.instance_type} is not confirmed ({chosen.spec.price_note})."
    if not chosen.spec.gpu.bf16:
        yield f"{chosen.spec.gpu.name} has no bf16: training runs in fp16 with loss scaling."
    if "on_demand" in found.limits.markets and plan.rungs[-1].market == "spot":
        yield "No on-demand rung: budget and deadline leave no room for one, so the job depends on spot capacity."
    yield from _price_of_choice(found, chosen)


def _age_warnings(chosen: Option, snapshot: MarketSnapshot, now: Timestamp) -> Iterator[str]:
    dates = [("On-demand prices", snapshot.as_of)]
    if chosen.market == "spot":
        dates.append(("Spot savings and interruption rates", snapshot.spot_as_of))
    for what, as_of in dates:
        if now - as_of > WEEK_SECONDS:
            yield f"{what} are {int((now - as_of) // DAY_SECONDS)} days old; they may have moved."


def _price_of_choice(found: Search, chosen: Option) -> Iterator[str]:
    """What it costs that the user named types or a market, against the cheapest plan without that."""
    limits = found.limits
    if limits.instance_types is None and len(limits.markets) > 1:
        return
    free = (option for option in found.options if option.startable(limits.cap) and option.on_time(limits.hours))
    cheapest = next(free)
    ratio = chosen.cost.mid / cheapest.cost.mid
    if ratio >= CHOICE_COSTS_MORE:
        what = chosen.spec.instance_type if chosen.spec is not cheapest.spec else "on-demand"
        market = "spot" if cheapest.market == "spot" else "on-demand"
        yield (
            f"Your choice of {what} costs {ratio:.1f}x the cheapest: {cheapest.spec.instance_type} on {market}, "
            f"{dollars(round(cheapest.cost.mid))}."
        )


def _resolved_by_search(request: JobRequest, architecture: Architecture, chosen: Option) -> Iterator[ResolvedSetting]:
    work, training = chosen.fit.work, request.training
    where = f"{chosen.spec.instance_type} ({chosen.spec.gpu.name})"
    if request.adapter.type == "auto":
        reason = f"cheapest that fits: on {where}"
        yield ResolvedSetting(name="adapter.type", value=work.method, reason=reason)
    if training.optimizer == "auto":
        reason = "8-bit moments that may leave the GPU" if work.optimizer != "adamw" else "its state is small here"
        yield ResolvedSetting(name="optimizer", value=work.optimizer, reason=reason)
    if training.learning_rate is None:
        rate = choose_learning_rate(request, architecture, work.method)
        billions = architecture.parameters / 1e9
        reason = f"usual for {work.method} at {billions:.2g}B parameters, times learning_rate_multiplier"
        yield ResolvedSetting(name="learning_rate", value=f"{rate:g}", reason=reason)
    if training.gradient_checkpointing == "auto":
        checkpointed = chosen.fit.layout.checkpointing
        reason = f"cheaper on {where}: larger micro-batches fit" if checkpointed else f"not needed on {where}"
        yield ResolvedSetting(name="gradient_checkpointing", value=str(checkpointed).lower(), reason=reason)
    if training.save_interval_seconds == "auto":
        reason = f"{chosen.course.interruptions:.2f} interruptions expected (Young-Daly, within 2 to 30 minutes)"
        yield ResolvedSetting(name="save_interval_seconds", value=str(chosen.save_interval), reason=reason)


def _config(
    request: JobRequest,
    job_id: str,
    model: ModelReference,
    architecture: Architecture,
    settings: Settings,
    chosen: Option,
    limits: Limits,
) -> TrainingConfig:
    work, training = chosen.fit.work, request.training
    return TrainingConfig(
        job_id=job_id,
        seed=settings.seed,
        model=ModelSource(name=model.name, revision=model.revision),
        method=work.method,
        adapter=_adapter(request, settings, work.method),
        data=DataConfig(
            max_sequence_length=settings.sequence_length,
            packing=training.packing,
            eval_fraction=training.eval_fraction,
        ),
        optimization=OptimizationConfig(
            epochs=settings.epochs,
            global_batch_size=settings.global_batch,
            learning_rate=choose_learning_rate(request, architecture, work.method),
            warmup_ratio=training.warmup_ratio,
            weight_decay=training.weight_decay,
            optimizer=work.optimizer,
        ),
        hardware=HardwareConfig(
            micro_batch_size=chosen.fit.layout.micro_batch, gradient_checkpointing=chosen.fit.layout.checkpointing
        ),
        checkpoint=CheckpointConfig(interval_seconds=chosen.save_interval),
        limits=LimitConfig(
            max_runtime_seconds=_max_runtime(chosen, limits),
            publication_reserve_seconds=_publication_seconds(architecture),
        ),
        evaluation=EvaluationConfig(generation_examples=training.generation_examples),
    )


def _adapter(request: JobRequest, settings: Settings, method: str) -> AdapterConfig | None:
    if method == "full":
        return None
    choice = request.adapter
    return AdapterConfig(
        rank=choice.rank,
        alpha=choice.alpha if choice.alpha is not None else 2.0 * choice.rank,
        dropout=choice.dropout,
        target_modules=settings.target_modules,
    )


def _publication_seconds(architecture: Architecture) -> int:
    """A last checkpoint, the last evaluation and publication: a minute, and 20 s a billion parameters, ten at most."""
    return min(60 + round(20 * architecture.parameters / 1e9), 600)
