"""The container's contract: what it is told (`training.json`) and what it leaves behind.

The folders are SageMaker's own under `/opt/ml` (`SPOTUNE_ML_ROOT` elsewhere): see docs/architecture.md.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Annotated, Literal

from pydantic import Field

from spotune.contracts.base import Contract, Seconds
from spotune.contracts.plan import HardwareConfig as HardwareConfig
from spotune.contracts.plan import Precision, Sharding
from spotune.contracts.request import GGUFType, LossOn, Method, Objective, Quantization
from spotune.contracts.scores import Comparison, Forgotten, GoldenAnswer, Scores, SliceScores

CONFIG_NAME = "training.json"
MANIFEST_NAME = "manifest.json"
PROGRESS_NAME = "progress.json"
REPORT_NAME = "report.json"
CONFIG_VERSION: Literal[2] = 2

HOME_REGION_VARIABLE = "SPOTUNE_HOME_REGION"
"""Of the container's environment: where the installation keeps its secrets. Jobs may run in other regions."""

TRAINED_SHARDINGS: frozenset[Sharding] = frozenset({"none", "ddp", "zero1", "zero2", "zero3", "fsdp"})
"""How the container spreads a step over GPUs and hosts; `training_container/sharding` has an engine for each."""

_NUMBER = r"([-+0-9.eE]+)"

METRIC_DEFINITIONS: tuple[dict[str, str], ...] = tuple(
    {"Name": name, "Regex": f'"{name}": {_NUMBER}'}
    for name in ("train_loss", "eval_loss", "tokens_per_second", "learning_rate")
)
"""SageMaker's MetricDefinitions for the container's stdout, which is one JSON line a logged step."""


class ExitCode(IntEnum):
    """How the container's process ends."""

    PUBLISHED = 0
    INTERNAL = 1
    USER_ERROR = 2
    STOPPED = 3
    """Stopped; what was trained, if anything, is in a checkpoint."""


class ModelSource(Contract):
    """The base model. Its files lie in the `model` channel."""

    name: str
    revision: str = ""


class AdapterConfig(Contract):
    """What the method adds to the model, or leaves free of it; each method reads the fields that it has use for."""

    rank: int = 16
    """LoRA and its kin: the rank. Bottleneck adapters: the inner width."""
    alpha: float = 32.0
    """LoRA and its kin: the scale is alpha / rank, of rsLoRA alpha / sqrt(rank)."""
    dropout: float = 0.0
    target_modules: Literal["attention", "all-linear"] | tuple[str, ...] = "all-linear"
    """The linear layers that carry it, of LoRA and its kin."""
    virtual_tokens: int = 20
    """Prefix and prompt tuning: tokens that stand before every sequence."""
    trained_layers: int = 2
    """Layer freezing: the last blocks, which are trained; everything before them is frozen."""


class ChampionConfig(Contract):
    """The champion of the job's group. Its files lie in the `champion` channel."""

    name: str
    start: bool
    """Training goes on from its adapter, which is of the same shape."""
    replayed_rows: int | None = None
    """Of the training file, those that the champion was trained on, too; None where nobody has said."""


class ObjectiveConfig(Contract):
    """What is minimised, and over which tokens."""

    type: Objective = "supervised"
    beta: float = 0.1
    """Preference objectives: strength of the pull towards the reference model; of ORPO, weight of the odds ratio."""
    loss_on: LossOn = "assistant"


class DataConfig(Contract):
    """Files lie in the `training` and `validation` channels, one JSONL file each."""

    max_sequence_length: int
    packing: bool
    eval_fraction: Annotated[float, Field(gt=0, le=0.5)]
    """Used only where there is no `validation` channel: rows chosen by hash of their content, duplicates together."""


class OptimizationConfig(Contract):
    """AdamW with a linear warm-up and a cosine schedule down to zero."""

    epochs: int
    global_batch_size: int
    """Sequences (packed where packing is on) an optimizer step, over all GPUs."""
    learning_rate: float
    warmup_ratio: float
    weight_decay: float
    max_gradient_norm: float = 1.0
    optimizer: Literal["adamw", "paged_adamw_8bit"]


class CheckpointConfig(Contract):
    """Save by time; keep the newest `keep` folders and the best."""

    interval_seconds: Seconds
    keep: int = 2

    @property
    def restored(self) -> int:
        """Folders that S3 brings back at a start: the newest, one behind them, which is the best or is about to go, and
        one that was on its way when the machine was lost."""
        return self.keep + 2

    @property
    def at_most(self) -> int:
        """Folders on the disk at any moment: those, and the one that is being written."""
        return self.restored + 1


class LimitConfig(Contract):
    """Billed time is money: training ends early enough that the best weights are still published."""

    max_runtime_seconds: Seconds
    publication_reserve_seconds: Seconds
    unseen_seconds: Seconds = 0
    """Of the limit, what each launch of the training job takes before a process of it runs: image and downloads. Known
    where an attempt is started; a cluster's limit does not count them."""


class EvaluationConfig(Contract):
    """Held-out loss after each share of an epoch; generation before and after training."""

    evaluations_per_epoch: int = 1
    early_stopping_patience: int | None = None
    """Evaluations in a row without a lower held-out loss after which training ends; None: never."""
    generation_examples: int = 0
    max_new_tokens: int = 64
    golden: bool = False
    """The `golden` channel holds prompts with what is expected of their answers, one JSONL file, which
    `spotune.data.golden` reads."""
    golden_new_tokens: int = 256
    """That an answer to one of them may have: room for the longest expectation."""


class OutputConfig(Contract):
    """What is published beside the adapter, or the weights of a method without one."""

    merged: bool = False
    """The base model's 16-bit weights with the adapter added to them, under `merged/`."""
    gguf: GGUFType | None = None
    """The same as one GGUF file of this type."""


class TrackerConfig(Contract):
    """Where metrics, parameters and artefacts go besides S3. No secret: `secret` names one in Secrets Manager."""

    type: Literal["mlflow", "wandb", "tensorboard"]
    server: str | None = None
    """MLflow's tracking URI (a server's address, or the ARN of SageMaker's managed one); W&B's own server."""
    project: str | None = None
    """W&B's project; MLflow's experiment."""
    entity: str | None = None
    """W&B's team."""
    name: str | None = None
    """Of the run; the job's id where there is none."""
    tags: tuple[str, ...] = ()
    secret: str | None = None
    """Name or ARN in Secrets Manager of the key; W&B without one keeps its run offline, in the output."""

    @property
    def online(self) -> bool:
        """True where it needs the network, and the container therefore runs without isolation."""
        return self.type == "mlflow" or (self.type == "wandb" and self.secret is not None)


class TrainingConfig(Contract):
    """`training.json`: everything the container is told, resolved; there is no `auto` but precision."""

    version: Literal[1, 2] = CONFIG_VERSION
    """1 in records of earlier jobs, which have what later fields' defaults say; the container reads the last one."""
    job_id: str
    retry_of: str | None = None
    """The job that this one does again."""
    seed: int
    model: ModelSource
    model_sha256: str = ""
    """Of the base model's manifest, which the files in the `model` channel must agree with; empty: they are not hashed.
    Apart from `model`, which a resume must agree with: checkpoints of before there were hashes serve still."""
    method: Method
    adapter: AdapterConfig | None
    """None for full fine-tuning."""
    quantization: Quantization = "none"
    """Of the frozen base model."""
    objective: ObjectiveConfig = ObjectiveConfig()
    data: DataConfig
    optimization: OptimizationConfig
    hardware: HardwareConfig
    checkpoint: CheckpointConfig
    limits: LimitConfig
    evaluation: EvaluationConfig = EvaluationConfig()
    outputs: OutputConfig = OutputConfig()
    trackers: tuple[TrackerConfig, ...] = ()
    champion: ChampionConfig | None = None
    """What the tuned model is compared with beside the base; None where its group has none."""


Phase = Literal[
    "loading", "evaluating_champion", "evaluating_base", "training", "evaluating", "publishing", "done", "stopped"
]


class Progress(Contract):
    """`checkpoints/progress.json`, replaced atomically about every 20 s and at every change of phase."""

    phase: Phase
    step: int = 0
    total_steps: int = 0
    epoch: float = 0.0
    loss: float | None = None
    eval_loss: float | None = None
    tokens_per_second: float | None = None
    eta_seconds: float | None = None
    peak_memory_bytes: int | None = None
    resumed_from_step: int | None = None
    train_seconds: float = 0.0
    """Seconds of the optimizer steps that count so far."""
    elapsed_seconds: float = 0.0
    """Seconds of this training job so far, over all its processes."""
    updated_at: float = 0.0


class ManifestFile(Contract):
    """One file of a folder that a manifest vouches for, relative to it."""

    name: str
    bytes: int
    sha256: str


class Manifest(Contract):
    """`checkpoints/checkpoint-<step>/manifest.json`, written last. What does not verify does not exist."""

    job_id: str
    """The job that wrote it; one that retries it may go on from a copy."""
    config_sha256: str
    """Of the fields that a resume must agree with (hardware and limits may differ)."""
    step: int
    tokens_seen: int
    created_at: float
    train_loss: float | None = None
    eval_loss: float | None = None
    best: bool = False
    files: tuple[ManifestFile, ...]

    def lacks(self, size_of: Callable[[str], int | None]) -> str:
        """What keeps its folder from being whole, in words; empty where nothing does. The content is not looked at.

        Args:
            size_of: bytes of the folder's file of this name; None where there is none.
        """
        for file in self.files:
            size = size_of(file.name)
            if size is None:
                return f"{file.name} is missing"
            if size != file.bytes:
                return f"{file.name} has {size} bytes instead of {file.bytes}"
        return ""


class SampleAnswer(Contract):
    """One held-out prompt, answered before and after."""

    prompt: str
    reference: str
    base: str
    tuned: str


class PublishedOutput(Contract):
    """One thing in the model folder that was read back."""

    name: Literal["adapter", "model", "merged", "gguf"]
    path: str
    """Relative to the model folder."""
    bytes: int
    difference: float | None
    """Of its logits on held-out rows from the trained model's, as a share of those; of GGUF and merged weights from the
    adapter's over the 16-bit base model. None where there was no time to load it again: its files were compared."""


class Resume(Contract):
    """One continuation after an interruption."""

    step: int
    at: float
    skipped: tuple[str, ...] = ()
    """Checkpoint folders that did not verify, with the reason."""


class TrainingReport(Contract):
    """`model/report.json`."""

    job_id: str
    method: Method
    base: Scores
    tuned: Scores
    comparisons: tuple[Comparison, ...] = ()
    """Each metric that both have."""
    champion: Scores | None = None
    against_champion: tuple[Comparison, ...] = ()
    """Each metric that the tuned model and the champion both have."""
    began_from: Literal["base", "champion"] = "base"
    forgotten: tuple[Forgotten, ...] = ()
    """What got worse since then: metrics over all rows, then of each slice."""
    golden: tuple[GoldenAnswer, ...] = ()
    """Every prompt of the `golden` channel; none where there was no time to answer all of them."""
    slices: tuple[SliceScores, ...] = ()
    """The largest slices of the held-out rows."""
    slices_left_out: int = 0
    """Smaller ones, which are counted only."""
    best_step: int
    steps: int
    total_steps: int
    stopped_early: Literal["time", "no_improvement", "signal"] | None = None
    epochs: float
    train_rows: int
    eval_rows: int
    generated_rows: int
    tokens_seen: int
    trained_tokens_per_epoch: int
    trainable_parameters: int
    total_parameters: int
    train_seconds: float
    """Seconds spent in optimizer steps that count, over all attempts."""
    loading_seconds: float = 0.0
    """From the newest process's start to its first look at the base model."""
    elapsed_seconds: float = 0.0
    """Seconds of this training job when the report was written, over all its processes."""
    lost_seconds: float
    """Seconds of work done again, over all resumes."""
    lost_steps: int
    resumes: tuple[Resume, ...] = ()
    peak_memory_bytes: int
    precision: Precision
    device: str
    samples: tuple[SampleAnswer, ...] = ()
    data_sha256: str
    base_sha256: str = ""
    """Fingerprint of the base model's weights; empty in reports of before there was one."""
    quantization: Quantization = "none"
    """Of the base model, as it was trained over."""
    versions: dict[str, str]
    outputs: tuple[PublishedOutput, ...] = ()
    warnings: tuple[str, ...] = ()


class Failure(Contract):
    """`output/failure`: the typed cause, its evidence and its remedy. SageMaker shows the first 1,024 characters."""

    code: str
    message: str
    evidence: str = ""
    remedy: str = ""
