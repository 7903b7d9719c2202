"""What the planner says before anything starts."""

from __future__ import annotations

from typing import Literal

from spotune.contracts.base import Contract, Fraction, Interval, MicroUSD, Seconds, Timestamp
from spotune.contracts.money import LONGEST_RUNTIME
from spotune.contracts.request import Market, Method

Precision = Literal["bf16", "fp16", "fp32"]
Sharding = Literal["none", "ddp", "zero1", "zero2", "zero3", "fsdp"]
Optimizer = Literal["adamw", "adamw_8bit", "paged_adamw", "paged_adamw_8bit"]
Attention = Literal["sdpa", "eager"]


class HardwareConfig(Contract):
    """The plan's fit to the GPU, a part of the container's config. It keeps the global batch whatever it finds."""

    precision: Precision | Literal["auto"] = "auto"
    sharding: Sharding = "none"
    offload: bool = False
    """Under ZeRO: optimizer states, and under ZeRO-3 and FSDP parameters too, live in host memory."""
    micro_batch_size: int
    gradient_checkpointing: bool


class MemoryEstimate(Contract):
    """Bytes on one GPU. `parts` sums to `mid`; `p95` is what must fit into `usable`."""

    parts: dict[str, int]
    mid: int
    p95: int
    usable: int


class Applied(Contract):
    """Factors from the installation's own finished runs that a candidate's figures already hold; 1: none."""

    speed: float = 1.0
    memory: float = 1.0
    start: float = 1.0
    spot_price: float = 1.0


class Candidate(Contract):
    """One way to run the job. Money and time are for the whole run, interruptions included."""

    instance_type: str
    instance_count: int = 1
    gpu: str
    gpus: int
    """GPUs in all."""
    market: Market
    region: str = ""
    price: MicroUSD
    """Micro-dollars an instance-hour in this market."""
    method: Method | None = None
    """How the weights change; candidates differ in it only where the request leaves it open."""
    precision: Precision
    sharding: Sharding
    offload: bool = False
    """Optimizer states, and under ZeRO-3 parameters, live in host memory."""
    micro_batch_size: int
    """Sequences a GPU in one forward pass."""
    gradient_accumulation: int
    gradient_checkpointing: bool
    memory: MemoryEstimate
    tokens_per_second: Interval
    """Over all GPUs."""
    billed_hours: Interval
    wall_hours: Interval
    """From submission to published, queue included."""
    cost: Interval
    """Micro-dollars, the transfer included."""
    transfer: MicroUSD = 0
    """Of the cost: carrying model and data to the region, and the results back. Zero where they lie in it."""
    transfer_bytes: int = 0
    """To be copied to the region before it trains there; launching copies no more than that."""
    worst_case_cost: MicroUSD
    """What must be reserved for it to start."""
    interruptions: float
    """Expected number."""
    work_lost_hours: float = 0.0
    """Training that is expected to be done again after them."""
    save_interval: Seconds
    start_seconds: float = 0.0
    """Billed from an instance's first second to the first step, and again after each interruption."""
    corrections: Applied = Applied()
    on_time_probability: Fraction | None = None
    """Of ending before the deadline on these machines alone; None without one. The ladder's on-demand rung adds to it.
    """


class FrontPoint(Contract):
    """One point of the front of cost against time: nothing else is both cheaper and faster."""

    instance_type: str
    instance_count: int
    market: Market
    region: str
    method: Method
    cost: Interval
    """Micro-dollars."""
    wall_hours: Interval
    meets: bool
    """True where it is within every constraint; the others show what another budget or deadline would buy."""


class Rung(Contract):
    """One step of the ladder: these instance types in this market, for as long as the patience lasts."""

    market: Market
    instance_types: tuple[str, ...]
    """One for spot; one to five, in order of preference, for on-demand."""
    instance_count: int
    prices: tuple[MicroUSD, ...]
    """Of each type in this market, micro-dollars an instance-hour."""
    on_demand_prices: tuple[MicroUSD, ...]
    """Of each type on demand: what SageMaker's billable seconds are multiplied by, on spot too."""
    patience: Seconds
    """How long to wait for capacity before the next rung."""
    hardware: HardwareConfig | None = None
    """Of each of its types; None in plans of earlier versions, whose config has it."""

    @property
    def price(self) -> MicroUSD:
        """The dearest type's in this market."""
        return max(self.prices)

    @property
    def ceiling_price(self) -> MicroUSD:
        """The dearest type's on demand: the most that can be billed, and so what is reserved."""
        return max(self.on_demand_prices)

    def prices_of(self, instance_type: str) -> tuple[MicroUSD, MicroUSD]:
        """One type's price in this market and on demand; the dearest for a type that is not on the rung."""
        pairs = zip(self.prices, self.on_demand_prices, strict=True)
        known = dict(zip(self.instance_types, pairs, strict=True))
        return known.get(instance_type, (self.price, self.ceiling_price))


class Fallback(Contract):
    """What it takes to go on-demand while the deadline still holds with the confidence that was asked for."""

    by: Timestamp
    """The last safe moment to order it, as if nothing were done by then; whatever is done moves it."""
    work: Seconds
    """The whole job on the slowest of the on-demand rung's types."""
    beyond: Seconds
    """What that may take beyond: its queue, and a slower run."""


class Rejection(Contract):
    """Why an instance type was not chosen: the one reason that decided."""

    instance_type: str
    rule: Literal[
        "memory",
        "budget",
        "deadline",
        "capability",
        "not_allowed",
        "market",
        "cost",
        "quota",
        "interruptions",
        "runtime",
        "disk",
    ]
    reason: str


class Plan(Contract):
    """The chosen candidate, the ladder that carries it out, and what was rejected."""

    chosen: Candidate
    rungs: tuple[Rung, ...]
    on_demand_price: MicroUSD
    """The chosen type's, an instance-hour."""
    on_demand_cost: MicroUSD
    """What the same run costs at the chosen type's on-demand price, without interruptions."""
    alternatives: tuple[Candidate, ...] = ()
    """The best candidate of each further type that meets every constraint, cheapest first, five at most."""
    front: tuple[FrontPoint, ...] = ()
    """Cost against time over everything that the user and the account's quotas allow, cheapest first."""
    rejections: tuple[Rejection, ...] = ()
    confidence: Fraction = 0.95
    """With which the deadline is met."""
    fallback: Fallback | None = None
    """None without a deadline or an on-demand rung."""
    market_as_of: Timestamp
    """When the prices were true."""
    longest: Seconds = LONGEST_RUNTIME
    """That the installation lets one training job run."""
    warnings: tuple[str, ...] = ()
