"""Every `auto` of a request, resolved, with the reason that the job's record keeps."""

from __future__ import annotations

from dataclasses import dataclass, field

from spotune.contracts.dataset import DatasetReport
from spotune.contracts.errors import RequestRefused
from spotune.contracts.job import ResolvedSetting
from spotune.contracts.plan import Optimizer
from spotune.contracts.request import JobRequest, Method, Quantization
from spotune.planner.architecture import Architecture
from spotune.planner.combinations import LORA_FIELDS, METHOD_FIELDS, check_against_model, check_combinations
from spotune.planner.trackers import isolation_reason, tracker_configs
from spotune.planner.volume import Lengths, Volume, measure_volume, row_lengths
from spotune.planner.workload import CHECKPOINTING, COMPARED, UNCHECKPOINTED, UNPACKED, WHOLE, Workload

DEFAULT_SEED = 42
LARGEST_AUTO_LENGTH = 4096
LENGTH_STEP = 64
STEPS_PER_EPOCH = 20
"""Optimizer steps an epoch should have before the batch grows: small datasets need steps more than wide batches."""
LARGEST_AUTO_BATCH = 64
EPOCHS_BY_ROWS = ((100, 10), (500, 5), (20_000, 3), (100_000, 2))
"""Up to this many rows: epochs. One above."""


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
    packing: bool
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
    request: JobRequest,
    architecture: Architecture,
    training: DatasetReport,
    validation: DatasetReport | None,
) -> Settings:
    """Resolve what the dataset and the model decide.

    Raises:
        RequestRefused: a value that this model cannot take, or that contradicts another one.
        DatasetRefused: there is nothing to train on.
    """
    notes = _Notes()
    check_combinations(request)
    check_against_model(request, architecture)
    packing = _packing(request, notes)
    length = _sequence_length(request, architecture, row_lengths(training), notes)
    volume = measure_volume(
        training,
        validation,
        sequence_length=length,
        packing=packing,
        row_sequences=COMPARED[request.objective],
        eval_fraction=request.training.eval_fraction,
    )
    epochs = _epochs(request, volume, notes)
    batch = _batch_size(request, volume, notes)
    if reason := isolation_reason(tracker_configs(request)):
        notes.resolve("network_isolation", "off", reason)
    return Settings(
        sequence_length=length,
        epochs=epochs,
        global_batch=batch,
        seed=_seed(request, notes),
        target_modules=_target_modules(request, architecture, notes),
        methods=_methods(request),
        packing=packing,
        checkpointing=checkpointing_of(request),
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
        virtual_tokens=request.adapter.virtual_tokens,
        trained_layers=request.adapter.trained_layers,
        objective=request.objective,
        optimizer=choose_optimizer(request, architecture, method),
        optimizer_open=request.training.optimizer == "auto",
        sequence_length=settings.sequence_length,
        typical_length=settings.volume.typical_length,
        global_batch=settings.global_batch,
        quantization=choose_quantization(request, method),
        packing=settings.packing,
    )


def choose_quantization(request: JobRequest, method: Method) -> Quantization:
    """The request's, else nf4 for qlora and none for the others."""
    asked = request.adapter.quantization
    if asked != "auto":
        return asked
    return "nf4" if method == "qlora" else "none"


def checkpointing_of(request: JobRequest) -> tuple[bool, ...]:
    """What the search may choose between."""
    asked = request.training.gradient_checkpointing
    if asked != "auto":
        return (asked,)
    return CHECKPOINTING if request.adapter.type not in UNCHECKPOINTED else (False,)


def choose_optimizer(request: JobRequest, architecture: Architecture, method: Method) -> Optimizer:
    """The request's, else 8 bit where memory is what the method saves or lacks."""
    if request.training.optimizer != "auto":
        return request.training.optimizer
    large = method in WHOLE and architecture.parameters > 1e9
    return "paged_adamw_8bit" if method == "qlora" or large else "adamw"


def _methods(request: JobRequest) -> tuple[Method, ...]:
    """Left open: LoRA or QLoRA, whichever is cheaper; a quantization that was asked for decides."""
    match request.adapter.type, request.adapter.quantization:
        case "auto", "auto":
            return ("lora", "qlora")
        case "auto", "none":
            return ("lora",)
        case "auto", _:
            return ("qlora",)
        case method, _:
            return (method,)


def _packing(request: JobRequest, notes: _Notes) -> bool:
    if not request.training.packing:
        return False
    if request.objective != "supervised":
        notes.resolve("packing", "false", f"{request.objective} compares whole answers, one example at a time")
        return False
    if request.adapter.type in UNPACKED:
        notes.resolve("packing", "false", f"{request.adapter.type} puts its tokens before each example")
        return False
    return True


def sequence_limit(request: JobRequest, architecture: Architecture) -> int:
    """Tokens after which rows are cut at the latest: the request's, else the most that is chosen without being asked.

    What a check of the files says of truncation is then true of the run.
    """
    asked = request.training.max_sequence_length
    return min(LARGEST_AUTO_LENGTH, architecture.context) if asked == "auto" else asked


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
    limit = sequence_limit(request, architecture)
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
    what = "sequences" if request.objective == "supervised" else "examples"
    notes.resolve("batch_size", batch, f"an epoch has {volume.sequences} {what}: {steps} optimizer steps")
    return batch


def _seed(request: JobRequest, notes: _Notes) -> int:
    if request.seed is not None:
        return request.seed
    notes.resolve("seed", DEFAULT_SEED, "fixed, so that the run can be repeated")
    return DEFAULT_SEED


def _target_modules(request: JobRequest, architecture: Architecture, notes: _Notes) -> str | tuple[str, ...]:
    asked = request.adapter.target_modules
    if request.adapter.type != "auto" and METHOD_FIELDS[request.adapter.type] != LORA_FIELDS:
        return "all-linear"
    if asked == "auto":
        notes.resolve("target_modules", "all-linear", "adapters on all linear layers come closest to full training")
        return "all-linear"
    architecture.targets(asked)
    return asked
