"""A fine-tuning request: OpenAI's fields, then our own groups in the same body."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, StringConstraints, model_validator

from spotune.contracts.base import MICRO, Contract, Fraction, MicroUSD
from spotune.contracts.scores import Metric

Auto = Literal["auto"]
Market = Literal["spot", "on_demand"]
Method = Literal["full", "freeze", "lora", "qlora", "dora", "rslora", "pissa", "ia3", "prefix", "prompt", "bottleneck"]
"""How the weights change."""
Objective = Literal["supervised", "dpo", "orpo", "kto"]
"""What is minimised."""
Quantization = Literal["none", "nf4", "fp4", "int8"]
"""Of the frozen base model; both 4-bit types with double quantization."""
LossOn = Literal["assistant", "last_turn", "all"]
"""Which tokens of a chat are trained: the assistant's turns, only the last of them, or every token. Prompts of
completions are trained under `all` only; plain text is always trained whole."""
Address = Annotated[str, StringConstraints(pattern=r"^https?://\S{1,500}$")]
SecretName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9/_+=.@:-]{1,512}$")]
"""Name or ARN in Secrets Manager."""
GGUFType = Literal["f32", "f16", "bf16", "q8_0"]
Suffix = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Region = Annotated[str, StringConstraints(pattern=r"^[a-z]{2}(-[a-z]+)+-\d$")]
InstanceType = Annotated[str, StringConstraints(pattern=r"^ml\.[a-z0-9-]+\.[a-z0-9]+$")]


class Choice(Contract):
    """What a person asks for: every number is finite, though JSON's `1e400` reads as infinity."""

    model_config = ConfigDict(allow_inf_nan=False)


class Hyperparameters(Choice):
    """OpenAI's three. `batch_size` counts examples (packed sequences) an optimizer step, over all GPUs."""

    batch_size: Auto | Annotated[int, Field(ge=1, le=4096)] = "auto"
    learning_rate_multiplier: Auto | Annotated[float, Field(gt=0, le=100)] = "auto"
    n_epochs: Auto | Annotated[int, Field(ge=1, le=100)] = "auto"


class Supervised(Choice):
    """OpenAI's container for the supervised method's hyperparameters."""

    hyperparameters: Hyperparameters = Hyperparameters()


class PreferenceHyperparameters(Hyperparameters):
    """OpenAI's for DPO, and what ORPO and KTO take, too."""

    beta: Auto | Annotated[float, Field(gt=0, le=10)] = "auto"
    """Strength of the pull towards the reference model; of ORPO, weight of the odds ratio. `auto`: 0.1."""


class Preference(Choice):
    """The container for a preference method's hyperparameters."""

    hyperparameters: PreferenceHyperparameters = PreferenceHyperparameters()


class MethodChoice(Choice):
    """OpenAI's `method` object, with ORPO and KTO in the shape that it has for DPO."""

    type: Objective = "supervised"
    supervised: Supervised | None = None
    dpo: Preference | None = None
    orpo: Preference | None = None
    kto: Preference | None = None

    @model_validator(mode="after")
    def _only_its_own_hyperparameters(self) -> Self:
        others = {"supervised", "dpo", "orpo", "kto"} - {self.type}
        if given := sorted(name for name in others if getattr(self, name) is not None):
            raise ValueError(f"method.type is {self.type}, but hyperparameters are given for {', '.join(given)}")
        return self

    @property
    def hyperparameters(self) -> Hyperparameters:
        """Those of the chosen type."""
        chosen: Supervised | Preference | None = getattr(self, self.type)
        return (
            (Supervised() if self.type == "supervised" else Preference()).hyperparameters
            if chosen is None
            else (chosen.hyperparameters)
        )


class Constraints(Choice):
    """What the run may cost, how long it may take, and where it may run."""

    budget_usd: Annotated[float, Field(gt=0, le=1_000_000)] | None = None
    """A cap in dollars: the sum of all attempts never exceeds it. None: the installation's default."""
    finish_within_hours: Annotated[float, Field(gt=0, le=24 * 28)] | None = None
    """A deadline, from the submission on."""
    deadline_confidence: Annotated[float, Field(ge=0.5, le=0.999)] = 0.95
    """The probability with which the plan must meet the deadline."""
    market: Auto | Market = "auto"
    """`auto`: spot with on-demand behind it, whichever is cheaper and on time."""
    instance_types: Annotated[tuple[InstanceType, ...], Field(min_length=1)] | None = None
    """The only ones to choose from; all that the installation allows where none is named."""
    regions: Annotated[tuple[Region, ...], Field(min_length=1)] | None = None
    """Of those that the installation runs in; all of them where none is named."""

    @property
    def budget(self) -> MicroUSD | None:
        """The cap in micro-dollars."""
        return None if self.budget_usd is None else round(self.budget_usd * MICRO)


class AdapterChoice(Choice):
    """How the weights change. A field that the type has no use for is refused."""

    type: Auto | Method = "auto"
    quantization: Auto | Quantization = "auto"
    """`auto`: nf4 under qlora, none otherwise."""
    rank: Annotated[int, Field(ge=1, le=512)] = 16
    """Of bottleneck adapters, the inner width."""
    alpha: Annotated[float, Field(gt=0)] | None = None
    """None: twice the rank, as which LoRA's scale is 2; of rsLoRA 8 at any rank, of which its scale is 2 at rank 16."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    target_modules: Literal["auto", "attention", "all-linear"] | Annotated[tuple[str, ...], Field(min_length=1)] = (
        "auto"
    )
    virtual_tokens: Annotated[int, Field(ge=1, le=1024)] = 20
    """Prefix and prompt tuning: tokens that stand before every sequence."""
    trained_layers: Annotated[int, Field(ge=1, le=1024)] = 2
    """Layer freezing: the last blocks, which are trained."""


class TrainingChoice(Choice):
    """What OpenAI's hyperparameters lack. `auto` is resolved with a reason that the record keeps."""

    max_sequence_length: Auto | Annotated[int, Field(ge=16, le=1_048_576)] = "auto"
    """In tokens; longer rows keep their front."""
    learning_rate: Annotated[float, Field(gt=0, lt=1)] | None = None
    """None: by method and size of the model, times `learning_rate_multiplier`."""
    packing: bool = True
    """Short rows share a sequence, without seeing each other."""
    gradient_checkpointing: Auto | bool = "auto"
    """Activations are computed again in the backward pass: less memory, more time."""
    optimizer: Auto | Literal["adamw", "paged_adamw_8bit"] = "auto"
    warmup_ratio: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Share of the steps over which the learning rate rises."""
    weight_decay: Annotated[float, Field(ge=0, lt=1)] = 0.0
    eval_fraction: Annotated[float, Field(gt=0, le=0.5)] = 0.1
    """Share of the training rows held out when no validation file is given."""
    loss_on: LossOn = "assistant"
    evaluations_per_epoch: Annotated[int, Field(ge=1, le=100)] = 1
    """How often an epoch the held-out loss is taken."""
    early_stopping_patience: Annotated[int, Field(ge=1, le=100)] | None = None
    """Evaluations in a row without a lower held-out loss after which training ends."""
    generation_examples: Annotated[int, Field(ge=0, le=1000)] = 0
    """Held-out rows answered by generation, before and after, and scored by exact match."""
    save_interval_seconds: Auto | Annotated[int, Field(ge=1, le=3600)] = "auto"
    """Between two checkpoints; `auto`: by the risk of an interruption."""


class WandbIntegration(Choice):
    """OpenAI's fields, and the name of the secret that holds the API key; without one the run is kept offline."""

    project: Annotated[str, StringConstraints(min_length=1, max_length=128)]
    name: Annotated[str, StringConstraints(max_length=128)] | None = None
    entity: Annotated[str, StringConstraints(max_length=128)] | None = None
    tags: Annotated[tuple[str, ...], Field(max_length=32)] = ()
    server: Address | None = None
    secret: SecretName | None = None


class MLflowIntegration(Choice):
    """A tracking server, or SageMaker's managed one by its ARN."""

    tracking_uri: Annotated[str, StringConstraints(pattern=r"^(https?://|arn:aws[a-z-]*:sagemaker:)\S{1,500}$")]
    experiment: Annotated[str, StringConstraints(min_length=1, max_length=128)] = "spotune"
    name: Annotated[str, StringConstraints(max_length=128)] | None = None
    tags: Annotated[tuple[str, ...], Field(max_length=32)] = ()
    secret: SecretName | None = None
    """Holds the server's token."""


class Integration(Choice):
    """OpenAI's integration object: a type, and an object of that name. TensorBoard's files lie beside the report."""

    type: Literal["wandb", "mlflow", "tensorboard"]
    wandb: WandbIntegration | None = None
    mlflow: MLflowIntegration | None = None

    @model_validator(mode="after")
    def _settings_of_its_type(self) -> Self:
        for name in ("wandb", "mlflow"):
            if (getattr(self, name) is not None) != (self.type == name):
                raise ValueError(f"an integration of type {self.type} has {'no' if self.type != name else 'a'} {name}")
        return self


class OutputChoice(Choice):
    """What is published beside the adapter."""

    merged: bool = False
    """Whole 16-bit weights, the adapter added to them."""
    gguf: GGUFType | None = None
    """The same as one GGUF file of this type."""


class Improvement(Choice):
    """By how much one metric has to be better than the champion's, with 95 % confidence."""

    metric: Metric = "eval_loss"
    by: Annotated[float, Field(ge=0)] = 0.0
    """In the metric's own unit; the interval's near end has to lie beyond it."""


class SliceFloor(Choice):
    """How much worse than the champion any slice of the held-out rows may be."""

    metric: Metric = "eval_loss"
    by: Annotated[float, Field(ge=0)] = 0.0
    """In the metric's own unit; a slice fails whose interval lies wholly beyond it."""


class Gate(Choice):
    """What the tuned model must show before it is registered, and before it replaces its group's champion."""

    better_than_base: bool = True
    """Its held-out loss is below the base model's."""
    min_exact_match: Fraction | None = None
    better_than_champion: Improvement | None = None
    """None: it need not be better. Has no meaning while the group has no champion."""
    no_slice_worse: SliceFloor | None = None
    golden_file: Annotated[str, StringConstraints(min_length=1, max_length=1024)] | None = None
    """Prompts with what is expected of their answers, JSONL: a file id or an `s3://` URI. See docs/gate.md."""
    min_golden: Fraction = 1.0
    """Share of the golden prompts that must be answered as expected."""
    max_cost_usd: Annotated[float, Field(gt=0, le=1_000_000)] | None = None
    """Of the job; a dearer one is held for a person."""
    approval: bool = False
    """A person approves what passed before it is promoted."""


class RegistryChoice(Choice):
    """Which models the tuned one competes with, and what it goes on from."""

    group: Suffix | None = None
    """The model group whose champion it may replace; None: it stands alone."""
    start_from: Literal["base", "champion"] = "base"
    """`champion`: training goes on from the adapter of the group's champion, from the base where it has none."""


class JobTemplate(Choice):
    """A job in the API's words, but for its files."""

    model: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    """A base model of the installation, by its name."""
    suffix: Suffix | None = None
    """A part of the tuned model's name."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    """Of everything that is drawn; None: 42."""
    metadata: dict[
        Annotated[str, StringConstraints(max_length=64)], Annotated[str, StringConstraints(max_length=512)]
    ] = {}
    """Up to 16 pairs of your own; job and notifications carry them."""
    method: MethodChoice | None = None
    hyperparameters: Hyperparameters | None = None
    """OpenAI's deprecated place for them; refused together with `method`."""
    integrations: Annotated[tuple[Integration, ...], Field(max_length=3)] | None = None
    """Trackers, in OpenAI's shape."""

    constraints: Constraints = Constraints()
    adapter: AdapterChoice = AdapterChoice()
    training: TrainingChoice = TrainingChoice()
    outputs: OutputChoice = OutputChoice()
    gate: Gate = Gate()
    registry: RegistryChoice = RegistryChoice()

    @model_validator(mode="after")
    def _one_place_for_hyperparameters(self) -> Self:
        if self.method is not None and self.hyperparameters is not None:
            raise ValueError("give hyperparameters inside `method` or at the top, not both")
        return self

    @model_validator(mode="after")
    def _metadata_is_small(self) -> Self:
        if len(self.metadata) > 16:
            raise ValueError(f"metadata takes 16 pairs at most, not {len(self.metadata)}")
        return self

    @property
    def chosen_hyperparameters(self) -> Hyperparameters:
        """The hyperparameters from whichever place they were given in."""
        if self.method is not None:
            return self.method.hyperparameters
        return self.hyperparameters or Hyperparameters()

    @property
    def objective(self) -> Objective:
        """What is minimised."""
        return "supervised" if self.method is None else self.method.type


class JobRequest(JobTemplate):
    """The body of `POST /v1/fine_tuning/jobs`."""

    training_file: Annotated[str, StringConstraints(min_length=1, max_length=1024)]
    """A file id (`file-...`) or an `s3://` URI in the data bucket."""
    validation_file: Annotated[str, StringConstraints(min_length=1, max_length=1024)] | None = None
    """Held-out rows; None: `training.eval_fraction` of the training file."""
    dry_run: bool = False
    """Plan and answer; start nothing."""


class PlanRequest(JobRequest):
    """The body of `POST /v1/fine_tuning/plans`: the same request; nothing is recorded or started."""
