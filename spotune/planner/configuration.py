"""The container's config: what was asked for and what was settled, fitted to the chosen machines."""

from __future__ import annotations

from typing import Any

from spotune.contracts.job import ModelReference
from spotune.contracts.request import JobRequest, Method, OutputChoice
from spotune.contracts.training import (
    AdapterConfig,
    CheckpointConfig,
    DataConfig,
    EvaluationConfig,
    LimitConfig,
    ModelSource,
    ObjectiveConfig,
    OptimizationConfig,
    OutputConfig,
    TrainingConfig,
)
from spotune.planner.architecture import Architecture
from spotune.planner.evaluation import Judged, golden_seconds
from spotune.planner.ladder import hardware_of
from spotune.planner.learning_rates import choose_learning_rate
from spotune.planner.options import Option
from spotune.planner.settings import Settings
from spotune.planner.trackers import tracker_configs

DEFAULT_BETA = 0.1
"""As in the papers of DPO and KTO; of ORPO its weight of the odds ratio."""
RSLORA_ALPHA = 8.0


def configure(
    request: JobRequest,
    job_id: str,
    model: ModelReference,
    architecture: Architecture,
    settings: Settings,
    chosen: Option,
    max_runtime: int,
    judged: Judged,
) -> TrainingConfig:
    """`training.json` of a job that runs as chosen; each attempt cuts its time."""
    work, training = chosen.fit.work, request.training
    return TrainingConfig(
        job_id=job_id,
        seed=settings.seed,
        model=ModelSource(name=model.name, revision=model.revision),
        model_sha256=model.sha256,
        method=work.method,
        adapter=_adapter(request, settings, work.method),
        quantization=work.quantization,
        objective=_objective(request),
        data=DataConfig(
            max_sequence_length=settings.sequence_length,
            packing=settings.packing,
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
        hardware=hardware_of([chosen]),
        checkpoint=CheckpointConfig(interval_seconds=chosen.save_interval),
        limits=LimitConfig(
            max_runtime_seconds=max_runtime,
            publication_reserve_seconds=publication_seconds(architecture, request.outputs)
            + golden_seconds(judged, architecture),
        ),
        evaluation=EvaluationConfig(
            evaluations_per_epoch=training.evaluations_per_epoch,
            early_stopping_patience=training.early_stopping_patience,
            generation_examples=training.generation_examples,
            **_golden(judged),
        ),
        outputs=OutputConfig(merged=request.outputs.merged, gguf=request.outputs.gguf),
        trackers=tracker_configs(request),
        champion=judged.champion,
    )


def _golden(judged: Judged) -> dict[str, Any]:
    return {} if judged.golden is None else {"golden": True, "golden_new_tokens": judged.golden.answer_tokens}


def _adapter(request: JobRequest, settings: Settings, method: Method) -> AdapterConfig | None:
    if method == "full":
        return None
    choice = request.adapter
    return AdapterConfig(
        rank=choice.rank,
        alpha=choice.alpha if choice.alpha is not None else _usual_alpha(method, choice.rank),
        dropout=choice.dropout,
        target_modules=settings.target_modules,
        virtual_tokens=choice.virtual_tokens,
        trained_layers=choice.trained_layers,
    )


def _usual_alpha(method: Method, rank: int) -> float:
    """For a scale of 2, of rsLoRA at its default rank: its point is that one alpha serves every rank."""
    return RSLORA_ALPHA if method == "rslora" else 2.0 * rank


def _objective(request: JobRequest) -> ObjectiveConfig:
    beta = getattr(request.chosen_hyperparameters, "beta", "auto")
    return ObjectiveConfig(
        type=request.objective,
        beta=DEFAULT_BETA if beta == "auto" else beta,
        loss_on=request.training.loss_on,
    )


def publication_seconds(architecture: Architecture, outputs: OutputChoice) -> int:
    """A last checkpoint, the last evaluation and publication: a minute, and 20 s a billion parameters, ten at most.

    Whole weights, merged or as GGUF, are written, read again and compared: as much again each, without a limit.
    """
    billions = architecture.parameters / 1e9
    whole = outputs.merged + (outputs.gguf is not None)
    return min(60 + round(20 * billions), 600) + round(whole * (60 + 20 * billions))
