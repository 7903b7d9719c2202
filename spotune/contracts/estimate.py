"""What the calculators take and answer: one configuration, and all methods side by side."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from spotune.contracts.base import Contract, Interval, MicroUSD
from spotune.contracts.plan import Attention, MemoryEstimate, Optimizer, Precision, Sharding
from spotune.contracts.request import Market, Method, Objective, Quantization


class Configuration(Contract):
    """One way to train on given GPUs, every choice made. None where the method, or the GPU, decides."""

    method: Method = "lora"
    gpu: str
    gpus: Annotated[int, Field(ge=1, le=512)] = 1
    sequence_length: Annotated[int, Field(ge=1)]
    micro_batch: Annotated[int, Field(ge=1, le=4096)] = 1
    checkpointing: bool = True
    sharding: Sharding | None = None
    """None: `none` on one GPU, `fsdp` on several."""
    offload: bool = False
    optimizer: Optimizer = "adamw"
    rank: Annotated[int, Field(ge=1, le=4096)] = 16
    virtual_tokens: Annotated[int, Field(ge=1, le=4096)] = 20
    trained_layers: Annotated[int, Field(ge=1, le=4096)] = 2
    objective: Objective = "supervised"
    """DPO and ORPO: a micro-batch has two sequences a row."""
    target_modules: Literal["attention", "all-linear"] | Annotated[tuple[str, ...], Field(min_length=1)] = "all-linear"
    quantization: Quantization | None = None
    """None: NF4 for qlora, else none."""
    precision: Precision | None = None
    """None: bf16 where the GPU has it, else fp16."""
    attention: Attention = "sdpa"
    fused_cross_entropy: bool = False


class ParameterCounts(Contract):
    """Parameters by group, and how many of them train. `active` are those that one token passes through."""

    embedding: int
    attention: int
    mlp: int
    norms: int
    head: int
    """Zero where it shares the embedding."""
    total: int
    active: int
    trainable: int


class Rent(Contract):
    """The cheapest machines that have the GPUs, and what a million tokens cost on them."""

    instance_type: str
    instance_count: int
    market: Market
    price: MicroUSD
    """An instance-hour."""
    million_tokens: Interval
    """Micro-dollars a million trained tokens, start-up and interruptions aside."""


class Estimate(Contract):
    """What one configuration needs, how fast it is, and what it costs."""

    model: str
    configuration: Configuration
    parameters: ParameterCounts
    memory: MemoryEstimate
    fits: bool
    """The 95 % value is within the card's usable memory."""
    host_memory: int
    """Bytes a machine that offloading puts into its memory."""
    tokens_per_second: Interval
    """Over all GPUs."""
    rents: tuple[Rent, ...]
    """Cheapest first; none where no price is known."""


class MethodEstimate(Contract):
    """One method at its best: what it trains, what it needs, and the cheapest way to run it."""

    method: Method
    trainable: int
    memory: MemoryEstimate
    """On one GPU of the smallest type that holds it, else of the largest there is, micro-batch 1, checkpointing on
    where the method allows it."""
    smallest_gpu: str | None
    """The card with the least memory that holds it alone; None where none does."""
    gpus: int
    """Of the cheapest way."""
    gpu: str
    sharding: Sharding
    micro_batch: int
    checkpointing: bool
    tokens_per_second: Interval
    rent: Rent


class Comparison(Contract):
    """All methods for one model, at one sequence length and global batch."""

    model: str
    parameters: int
    sequence_length: int
    global_batch: int
    methods: tuple[MethodEstimate, ...]
    impossible: dict[str, str]
    """Methods that no machine of the catalog can run, with the reason."""
