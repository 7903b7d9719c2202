"""A fine-tuning request: OpenAI's fields, then our own groups in the same body."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, StringConstraints, model_validator

from spotune.contracts.base import MICRO, Contract, Fraction, MicroUSD

Auto = Literal["auto"]
Market = Literal["spot", "on_demand"]
Method = Literal["full", "lora", "qlora", "dora", "rslora", "ia3", "prefix", "bottleneck"]
"""How the weights change. The planner sizes all of them; `TRAINED_METHODS` are those that the container trains."""
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


class MethodChoice(Choice):
    """OpenAI's `method` object. Preference methods are refused by name until the trainer has them."""

    type: Literal["supervised"] = "supervised"
    supervised: Supervised = Supervised()


class Constraints(Choice):
    """What the run may cost, how long it may take, and where it may run."""

    budget_usd: Annotated[float, Field(gt=0, le=1_000_000)] | None = None
    finish_within_hours: Annotated[float, Field(gt=0, le=24 * 28)] | None = None
    deadline_confidence: Annotated[float, Field(ge=0.5, le=0.999)] = 0.95
    """The probability with which the plan must meet the deadline."""
    market: Auto | Market = "auto"
    instance_types: Annotated[tuple[InstanceType, ...], Field(min_length=1)] | None = None
    regions: Annotated[tuple[Region, ...], Field(min_length=1)] | None = None
    """Of those that the installation runs in; all of them where none is named."""

    @property
    def budget(self) -> MicroUSD | None:
        """The cap in micro-dollars."""
        return None if self.budget_usd is None else round(self.budget_usd * MICRO)


class AdapterChoice(Choice):
    """How the weights change. `alpha` defaults to twice the rank."""

    type: Auto | Method = "auto"
    rank: Annotated[int, Field(ge=1, le=512)] = 16
    alpha: Annotated[float, Field(gt=0)] | None = None
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    target_modules: Literal["auto", "attention", "all-linear"] | Annotated[tuple[str, ...], Field(min_length=1)] = (
        "auto"
    )


class TrainingChoice(Choice):
    """What OpenAI's hyperparameters lack. `auto` is resolved with a reason that the record keeps."""

    max_sequence_length: Auto | Annotated[int, Field(ge=16, le=1_048_576)] = "auto"
    learning_rate: Annotated[float, Field(gt=0, lt=1)] | None = None
    packing: bool = True
    gradient_checkpointing: Auto | bool = "auto"
    optimizer: Auto | Literal["adamw", "paged_adamw_8bit"] = "auto"
    warmup_ratio: Annotated[float, Field(ge=0, lt=1)] = 0.05
    weight_decay: Annotated[float, Field(ge=0, lt=1)] = 0.0
    eval_fraction: Annotated[float, Field(gt=0, le=0.5)] = 0.1
    """Share of the training rows held out when no validation file is given."""
    generation_examples: Annotated[int, Field(ge=0, le=1000)] = 0
    """Held-out rows answered by generation, before and after, and scored by exact match."""
    save_interval_seconds: Auto | Annotated[int, Field(ge=1, le=3600)] = "auto"


class Gate(Choice):
    """What the tuned model must show on the held-out rows before it is registered."""

    better_than_base: bool = True
    """Its held-out loss is below the base model's."""
    min_exact_match: Fraction | None = None


class JobRequest(Choice):
    """The body of `POST /v1/fine_tuning/jobs`."""

    model: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    training_file: Annotated[str, StringConstraints(min_length=1, max_length=1024)]
    """A file id (`file-...`) or an `s3://` URI in the data bucket."""
    validation_file: Annotated[str, StringConstraints(min_length=1, max_length=1024)] | None = None
    suffix: Suffix | None = None
    seed: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    metadata: dict[
        Annotated[str, StringConstraints(max_length=64)], Annotated[str, StringConstraints(max_length=512)]
    ] = {}
    method: MethodChoice | None = None
    hyperparameters: Hyperparameters | None = None
    """OpenAI's deprecated place for them; refused together with `method`."""
    integrations: Annotated[tuple[dict[str, object], ...], Field(max_length=0)] | None = None

    constraints: Constraints = Constraints()
    adapter: AdapterChoice = AdapterChoice()
    training: TrainingChoice = TrainingChoice()
    gate: Gate = Gate()
    dry_run: bool = False

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
            return self.method.supervised.hyperparameters
        return self.hyperparameters or Hyperparameters()


class PlanRequest(JobRequest):
    """The body of `POST /v1/fine_tuning/plans`: the same request; nothing is recorded or started."""
