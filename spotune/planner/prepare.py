"""From a request and its dataset to what is run and what it will cost."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from spotune.contracts.base import MicroUSD, Timestamp
from spotune.contracts.bounds import UNBOUNDED, Bounds
from spotune.contracts.dataset import DatasetReport
from spotune.contracts.events import Prepared
from spotune.contracts.history import Corrections
from spotune.contracts.job import ModelReference, ResolvedSetting
from spotune.contracts.market import MarketSnapshot
from spotune.contracts.request import JobRequest, OutputChoice
from spotune.planner.architecture import Architecture, read_architecture
from spotune.planner.catalog import load_catalog
from spotune.planner.combinations import check_convertible
from spotune.planner.configuration import configure, publication_seconds
from spotune.planner.corrections import Corrector
from spotune.planner.disk import resting_bytes
from spotune.planner.evaluation import NOTHING_JUDGED, Evaluations, Judged, evaluations, resolved_by_gate
from spotune.planner.layouts import PRESENT_TRAINER, Trainer
from spotune.planner.learning_rates import choose_learning_rate
from spotune.planner.limits import read_limits
from spotune.planner.options import WEIGHT_BYTES, Job, Option
from spotune.planner.refusal import refuse
from spotune.planner.search import Search, search
from spotune.planner.settings import Settings, checkpointing_of, settle, workload
from spotune.planner.statement import max_runtime, price_of_choices, state_plan, warn
from spotune.planner.workload import REFERENCE_PASSES, REPLICATED, UNSHARED

NO_CORRECTIONS = Corrections()
NOTHING_THERE: Mapping[str, int] = {}


@dataclass(frozen=True, slots=True)
class Done:
    """What a checkpoint spares a run that goes on from it."""

    share: float = 0.0
    """Of the optimizer steps."""
    base_scored: bool = False
    """The base model's scores and answers are kept."""


NOTHING_DONE = Done()


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
    markets: Sequence[MarketSnapshot] = (),
    trainer: Trainer = PRESENT_TRAINER,
    corrections: Corrections = NO_CORRECTIONS,
    done: Done = NOTHING_DONE,
    judged: Judged = NOTHING_JUDGED,
    to_copy: Mapping[str, int] = NOTHING_THERE,
    bounds: Bounds = UNBOUNDED,
) -> Prepared:
    """Resolve the settings, choose the cheapest plan within every constraint, and write the container's config.

    Args:
        cap: micro-dollars that the job may cost in all.
        now: for the age of the prices; deadlines count from it.
        markets: prices to plan on, one snapshot a region, the first that of the data; the bundled one of us-east-1
            where there are none.
        trainer: how the container can spread a step.
        corrections: what finished runs teach.
        done: what need not be done; time and money are those of the rest.
        judged: what the gate compares the tuned model with beside its base.
        to_copy: bytes of the model and the files that a further region lacks; estimated where it is not named.
        bounds: what the installation allows.

    Raises:
        RequestRefused: a value that the model or the catalog does not know.
        DatasetRefused: there is no row to train on.
        PlanRefused: nothing meets the constraints; says the cheapest or the fastest that would do.
    """
    catalog, trainer = load_catalog().within(bounds.instance_types), _beside(judged, trainer)
    snapshots = markets or (catalog.market(),)
    architecture = read_architecture(architecture_config)
    check_convertible(request, architecture_config)
    limits = read_limits(request.constraints, cap, catalog, snapshots, bounds)
    settings = settle(request, architecture, training, validation)
    files = training.bytes + (validation.bytes if validation is not None else 0)
    resting = resting_bytes(settings.methods[0], request.outputs, architecture.parameters, files, judged.bytes)
    input_bytes = architecture.parameters * WEIGHT_BYTES + files + judged.bytes
    job = replace(
        _job(request, architecture, settings, done, judged),
        input_bytes=input_bytes,
        to_copy=to_copy,
        resting_bytes=resting,
    )
    found = search(job, catalog, snapshots, limits, trainer, Corrector(corrections))
    if not found.feasible:
        raise refuse(found)
    chosen = found.feasible[0]
    plan = state_plan(found, chosen, snapshots, now)
    warnings = (
        *training.warnings,
        *settings.warnings,
        *warn(found, plan, chosen, snapshots, now),
        *_price_of_choices(request, architecture, settings, found, snapshots, trainer, done, judged, job),
    )
    return Prepared(
        training=training,
        validation=validation,
        golden=judged.golden,
        settings=(*settings.resolved, *_resolved_by_search(request, architecture, settings, judged, chosen)),
        config=configure(request, job_id, model, architecture, settings, chosen, max_runtime(chosen, limits), judged),
        plan=plan.with_(warnings=warnings),
    )


def _beside(judged: Judged, trainer: Trainer) -> Trainer:
    """A champion whose weights lie outside of the model's blocks is not measured where these are spread."""
    if judged.champion_method not in UNSHARED:
        return trainer
    return replace(trainer, shardings=trainer.shardings - {"zero3", "fsdp"})


def _job(request: JobRequest, architecture: Architecture, settings: Settings, done: Done, judged: Judged) -> Job:
    volume, epochs = settings.volume, settings.epochs * (1 - done.share)
    asked = 0 if done.share else volume.tokens * REFERENCE_PASSES[request.objective]
    found = evaluations(request, volume, epochs=epochs, base_scored=done.base_scored, judged=judged)
    save_interval = request.training.save_interval_seconds
    return Job(
        workloads=tuple(workload(request, architecture, settings, method) for method in settings.methods),
        checkpointing=settings.checkpointing,
        training_tokens=math.ceil(volume.tokens * epochs),
        evaluations=found.plus(Evaluations(tokens=asked)),
        judged_bytes=judged.bytes,
        publication_seconds=publication_seconds(architecture, request.outputs),
        save_interval=None if save_interval == "auto" else save_interval,
        whole_bytes=architecture.parameters * WEIGHT_BYTES if request.outputs != OutputChoice() else 0,
    )


def _price_of_choices(
    request: JobRequest,
    architecture: Architecture,
    settings: Settings,
    found: Search,
    snapshots: Sequence[MarketSnapshot],
    trainer: Trainer,
    done: Done,
    judged: Judged,
    planned: Job,
) -> Iterator[str]:
    choices = _choices(request, found.feasible[0])
    if not choices:
        return
    training = request.training.with_(gradient_checkpointing="auto", save_interval_seconds="auto")
    limits = found.limits.without_choices()
    if training == request.training:
        free = replace(found, limits=limits)
    else:
        open_request = request.with_(training=training)
        settings = replace(settings, checkpointing=checkpointing_of(open_request))
        job = _job(open_request, architecture, settings, done, judged)
        job = replace(
            job, input_bytes=planned.input_bytes, to_copy=planned.to_copy, resting_bytes=planned.resting_bytes
        )
        free = search(job, found.catalog, snapshots, limits, trainer, found.corrector)
    yield from price_of_choices(choices, found.feasible[0], free.feasible[0])


def _choices(request: JobRequest, chosen: Option) -> list[str]:
    """What the user chose that the search would have, in words."""
    constraints, training = request.constraints, request.training
    words = {
        chosen.spec.instance_type: constraints.instance_types is not None,
        chosen.market.replace("_", "-"): constraints.market != "auto",
        chosen.region: constraints.regions is not None,
        "gradient_checkpointing": training.gradient_checkpointing != "auto",
        "save_interval_seconds": training.save_interval_seconds != "auto",
    }
    return [word for word, chosen_by_user in words.items() if chosen_by_user]


def _resolved_by_search(
    request: JobRequest, architecture: Architecture, settings: Settings, judged: Judged, chosen: Option
) -> Iterator[ResolvedSetting]:
    work, training = chosen.fit.work, request.training
    where = f"{chosen.spec.instance_type} ({chosen.spec.gpu.name})"
    if request.adapter.type == "auto":
        reason = f"cheapest that fits: on {where}"
        yield ResolvedSetting(name="adapter.type", value=work.method, reason=reason)
    if training.optimizer == "auto":
        yield ResolvedSetting(name="optimizer", value=work.optimizer, reason=_optimizer_reason(chosen))
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
        reason = f"{chosen.course.interruptions:.2f} interruptions expected (Young-Daly, 30 s to half an hour apart)"
        yield ResolvedSetting(name="save_interval_seconds", value=str(chosen.save_interval), reason=reason)
    forward = chosen.speed.forward
    yield from resolved_by_gate(request, settings.volume, judged, forward=forward, architecture=architecture)


def _optimizer_reason(chosen: Option) -> str:
    if chosen.fit.work.optimizer != "adamw":
        return "8-bit moments that may leave the GPU"
    return "its state is small here" if chosen.fit.layout.sharding in REPLICATED else "the GPUs share out its state"
