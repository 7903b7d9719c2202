"""Tables of the calculators."""

from __future__ import annotations

from rich.console import RenderableType

from spotune.cli import words
from spotune.cli.blocks import Row, add_row, facts, notes, paragraphs, table, titled
from spotune.contracts.base import Interval, dollars
from spotune.contracts.estimate import Comparison, Configuration, Estimate, MethodEstimate, Rent

SHOWN_RENTS = 4


def estimate(answer: Estimate) -> RenderableType:
    """Parameters, memory by part, speed and price of one configuration."""
    memory = answer.memory
    verdict = "fits" if answer.fits else "does NOT fit"
    rows: list[Row] = [
        ("parameters", f"{answer.parameters.total:,}" + _active(answer)),
        ("trainable", f"{answer.parameters.trainable:,} ({_share(answer):.3g} %)"),
        *((f"  {part}", words.size(held)) for part, held in memory.parts.items() if held),
        ("memory a GPU", f"{words.size(memory.mid)}, up to {words.size(memory.p95)} (95 %)"),
        ("verdict", f"{verdict} in the {words.size(memory.usable)} that {answer.configuration.gpu} has for use"),
        ("speed", f"{_tokens(answer.tokens_per_second)} tokens/s over {answer.configuration.gpus} GPU(s)"),
    ]
    if answer.host_memory:
        rows.append(("host memory", f"{words.size(answer.host_memory)} a machine, for what is offloaded"))
    parts: list[RenderableType] = [facts(f"{answer.model}: {_title(answer.configuration)}", rows)]
    parts.append(_rents(answer.rents) if answer.rents else "No price is known for machines with these GPUs.")
    return paragraphs(parts)


def comparison(answer: Comparison) -> RenderableType:
    """All methods side by side."""
    listed = table(
        "method", "trains", "one GPU needs", "smallest GPU", "cheapest way", "tokens/s", "$ a million tokens"
    )
    for one in answer.methods:
        trains = f"{one.trainable:,} ({100 * one.trainable / answer.parameters:.3g} %)"
        price = f"{_price(one.rent.million_tokens)} {words.market(one.rent.market)}"
        cells = (one.method, trains, words.size(one.memory.p95), one.smallest_gpu or "none alone", _way(one))
        add_row(listed, *cells, _tokens(one.tokens_per_second), price)
    title = (
        f"{answer.model} ({answer.parameters / 1e9:.3g}B), sequences of {answer.sequence_length} tokens, "
        f"{answer.global_batch} a step"
    )
    left_out = [f"{method}: {reason}" for method, reason in answer.impossible.items()]
    return paragraphs([titled(title, listed), *notes(left_out)])


def _active(answer: Estimate) -> str:
    counts = answer.parameters
    return f", {counts.active:,} active a token" if counts.active != counts.total else ""


def _share(answer: Estimate) -> float:
    return 100 * answer.parameters.trainable / answer.parameters.total


def _title(asked: Configuration) -> str:
    spread = "" if asked.gpus == 1 else f", {asked.sharding}"
    recompute = ", checkpointing" if asked.checkpointing else ""
    return (
        f"{asked.method} on {asked.gpus} x {asked.gpu}{spread}, {asked.micro_batch} x {asked.sequence_length} tokens"
        f"{recompute}"
    )


def _rents(rents: tuple[Rent, ...]) -> RenderableType:
    listed = table("machines", "market", "an hour", "$ a million tokens")
    for rent in rents[:SHOWN_RENTS]:
        machines = f"{rent.instance_count} x {rent.instance_type}"
        hour = dollars(rent.price * rent.instance_count)
        add_row(listed, machines, words.market(rent.market), hour, _price(rent.million_tokens))
    return titled("Cheapest machines with these GPUs", listed)


def _way(one: MethodEstimate) -> str:
    spread = "" if one.gpus == 1 else f", {one.sharding}"
    recompute = ", checkpointing" if one.checkpointing else ""
    machines = f"{one.rent.instance_count} x {one.rent.instance_type} ({one.gpus} x {one.gpu}{spread})"
    return f"{machines}, micro-batch {one.micro_batch}{recompute}"


def _tokens(speed: Interval) -> str:
    return f"{speed.mid:,.0f} ({speed.low:,.0f} to {speed.high:,.0f})"


def _price(cost: Interval) -> str:
    return words.money(cost)
