"""Every `auto` of a request, resolved, with the reason that the job's record keeps."""

from __future__ import annotations

from dataclasses import dataclass, field

from spotune.contracts.dataset import DatasetReport
from spotune.contracts.errors import RequestRefused
from spotune.contracts.job import ResolvedSetting
from spotune.contracts.plan import Optimizer
from spotune.contracts.request import JobRequest, Method
from spotune.contracts.training import TRAINED_METHODS
from spotune.planner.architecture import Architecture
from spotune.planner.volume import Lengths, Volume, measure_volume, row_lengths
from spotune.planner.workload import Workload

DEFAULT_SEED = 42
CHECKPOINTING = (False, True)
"""What the search tries where the request leaves it open."""
LARGEST_AUTO_LENGTH = 4096
LENGTH_STEP = 64
STEPS_PER_EPOCH = 20
"""Optimizer steps an epoch should have before the batch grows: small datasets need steps more than wide batches."""
LARGEST_AUTO_BATCH = 64
EPOCHS_BY_ROWS = ((100, 10), (500, 5), (20_000, 3), (100_000, 2))
"""Up to this many rows: epochs. One above."""
LEARNING_RATES: dict[Method, tuple[tuple[float, float], ...]] = {
    "lora": ((1e9, 5e-4), (10e9, 2e-4), (float("inf"), 1e-4)),
    "qlora": ((1e9, 5e-4), (10e9, 2e-4), (float("inf"), 1e-4)),
    "full": ((1e9, 5e-5), (10e9, 2e-5), (float("inf"), 1e-5)),
}
"""Up to this many parameters: the rate. The QLoRA paper's 2e-4 at 7B and 1e-4 from 33B; a tenth for whole models."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What does not depend on the machine. `resolved` explains each value that was `auto`."""

    sequence_length: int
    epochs: int
    global_batch: int
    seed: int
    target_modules: str | tuple[str, ...]
    methods: tuple[Method, ...]
    """Those that the search may choose among."""
    checkpointing: tuple[bool, ...]
    volume: Volume
    resolved: tuple[ResolvedSetting, ...]
    warnings: tuple[str, ...]


@dataclass(slots=True)
class _Notes:
    resolved: list[ResolvedSetting] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def resolve(self, name: str, value: object, reason: str) -> None:
        self.resolved.append(ResolvedSetting(name=name, value=str(value), reason=reason))


def settle(
    request: JobRequest, architecture: Architecture, training: DatasetReport, validation: DatasetReport | None
) -> Settings:
    """Resolve what the dataset and the model decide.

    Raises:
        RequestRefused: a value that this model cannot take.
        DatasetRefused: there is nothing to train on.
    """
    notes = _Notes()
    _check_method(request)
    _check_trained(request)
    _check_learning_rate(request)
    length = _sequence_length(request, architecture, row_lengths(training), notes)
    volume = measure_volume(
        training,
        validation,
        sequence_length=length,
        packing=request.training.packing,
        eval_fraction=request.training.eval_fraction,
    )
    epochs = _epochs(request, volume, notes)
    batch = _batch_size(request, volume, notes)
    checkpointing = request.training.gradient_checkpointing
    method = request.adapter.type
    return Settings(
        sequence_length=length,
        epochs=epochs,
        global_batch=batch,
        seed=_seed(request, notes),
        target_modules=_target_modules(request, architecture, notes),
        methods=("lora", "qlora") if method == "auto" else (method,),
        checkpointing=CHECKPOINTING if checkpointing == "auto" else (checkpointing,),
        volume=volume,
        resolved=tuple(notes.resolved),
        warnings=tuple(notes.warnings),
    )


def workload(request: JobRequest, architecture: Architecture, settings: Settings, method: Method) -> Workload:
    """The size of one step with this method."""
    return Workload(
        architecture=architecture,
        method=method,
        targets=architecture.targets(settings.target_modules),
        rank=request.adapter.rank,
        optimizer=choose_optimizer(request, architecture, method),
        sequence_length=settings.sequence_length,
        typical_length=max(settings.volume.tokens // settings.volume.sequences, 1),
        global_batch=settings.global_batch,
        quantization="nf4" if method == "qlora" else "none",
        packing=request.training.packing,
    )


def choose_optimizer(request: JobRequest, architecture: Architecture, method: Method) -> Optimizer:
    """The request's, else 8 bit where memory is what the method saves or lacks."""
    if request.training.optimizer != "auto":
        return request.training.optimizer
    large = method == "full" and architecture.parameters > 1e9
    return "paged_adamw_8bit" if method == "qlora" or large else "adamw"


def choose_learning_rate(request: JobRequest, architecture: Architecture, method: Method) -> float:
    """The request's, else the table's times the request's multiplier."""
    if request.training.learning_rate is not None:
        return request.training.learning_rate
    multiplier = request.chosen_hyperparameters.learning_rate_multiplier
    base = next(rate for limit, rate in LEARNING_RATES[method] if architecture.parameters <= limit)
    return base * (1.0 if multiplier == "auto" else multiplier)


def _check_method(request: JobRequest) -> None:
    asked = request.adapter.type
    if asked != "auto" and asked not in TRAINED_METHODS:
        raise RequestRefused(
            f"adapter.type {asked} can be estimated but not trained yet.",
            code="method_not_trained",
            param="adapter.type",
            remedy=f"Choose among {', '.join(sorted(TRAINED_METHODS))}, or leave it at auto.",
        )


def _check_trained(request: JobRequest) -> None:
    """Refuse what the container does not carry out yet, rather than leave it out silently."""
    asked = {
        "method.type": request.method is not None and request.method.type != "supervised",
        "adapter.quantization": request.adapter.quantization != "auto",
        "training.loss_on": request.training.loss_on != "assistant",
        "training.evaluations_per_epoch": request.training.evaluations_per_epoch != 1,
        "training.early_stopping_patience": request.training.early_stopping_patience is not None,
        "outputs": request.outputs.merged or request.outputs.gguf is not None,
        "integrations": bool(request.integrations),
    }
    for name in (name for name, given in asked.items() if given):
        raise RequestRefused(
            f"{name} is known but not carried out yet.", code="not_carried_out", param=name, remedy="Leave it out."
        )


def _check_learning_rate(request: JobRequest) -> None:
    multiplier = request.chosen_hyperparameters.learning_rate_multiplier
    if request.training.learning_rate is not None and multiplier != "auto":
        raise RequestRefused(
            "training.learning_rate and learning_rate_multiplier are both given.",
            code="conflicting_settings",
            param="training.learning_rate",
            remedy="Give one of them.",
        )


def _sequence_length(request: JobRequest, architecture: Architecture, lengths: Lengths, notes: _Notes) -> int:
    asked = request.training.max_sequence_length
    if not lengths.counted:
        notes.warnings.append(
            "Lengths are guessed from bytes, as no tokenizer was at hand: time and cost may be far off."
        )
    if asked != "auto":
        if asked > architecture.context:
            raise RequestRefused(
                f"training.max_sequence_length is {asked}; the model's context is {architecture.context}.",
                code="sequence_too_long",
                param="training.max_sequence_length",
                remedy=f"Set it to {architecture.context} or less.",
            )
        return asked
    wanted = -(-lengths.longest // LENGTH_STEP) * LENGTH_STEP
    limit = min(LARGEST_AUTO_LENGTH, architecture.context)
    length = min(wanted, limit)
    if wanted <= limit:
        notes.resolve("max_sequence_length", length, f"the longest row has {lengths.longest} tokens")
    else:
        why = "the model's context" if limit == architecture.context else "what is chosen without being asked"
        notes.resolve("max_sequence_length", length, f"{limit} is {why}; the longest row has {lengths.longest} tokens")
        notes.warnings.append(f"Rows longer than {length} tokens are cut (95 % have at most {lengths.p95}).")
    return length


def _epochs(request: JobRequest, volume: Volume, notes: _Notes) -> int:
    asked = request.chosen_hyperparameters.n_epochs
    if asked != "auto":
        return asked
    epochs = next((count for rows, count in EPOCHS_BY_ROWS if volume.rows <= rows), 1)
    notes.resolve("n_epochs", epochs, f"{volume.rows} training rows: smaller datasets are read more often")
    return epochs


def _batch_size(request: JobRequest, volume: Volume, notes: _Notes) -> int:
    asked = request.chosen_hyperparameters.batch_size
    if asked != "auto":
        return asked
    batch = 1
    while batch < LARGEST_AUTO_BATCH and volume.sequences >= 2 * batch * STEPS_PER_EPOCH:
        batch *= 2
    steps = -(-volume.sequences // batch)
    notes.resolve("batch_size", batch, f"an epoch has {volume.sequences} sequences: {steps} optimizer steps")
    return batch


def _seed(request: JobRequest, notes: _Notes) -> int:
    if request.seed is not None:
        return request.seed
    notes.resolve("seed", DEFAULT_SEED, "fixed, so that the run can be repeated")
    return DEFAULT_SEED


def _target_modules(request: JobRequest, architecture: Architecture, notes: _Notes) -> str | tuple[str, ...]:
    asked = request.adapter.target_modules
    if request.adapter.type == "full":
        return "all-linear"
    if asked == "auto":
        notes.resolve("target_modules", "all-linear", "adapters on all linear layers come closest to full training")
        return "all-linear"
    architecture.targets(asked)
    return asked
