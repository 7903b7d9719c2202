"""`estimate` and `compare-methods`: the planner's calculators, worked out on this machine, with no account."""

from __future__ import annotations

from typing import Annotated, get_args

import typer
from pydantic import ValidationError

from spotune.cli import figures
from spotune.cli.models import model_config
from spotune.cli.screen import JsonOption, Screen
from spotune.contracts.errors import RequestRefused
from spotune.contracts.estimate import Configuration
from spotune.contracts.plan import Attention, Optimizer, Precision, Sharding
from spotune.contracts.request import Method, Objective, Quantization

DEFAULT_LENGTH = 2048

ModelOption = Annotated[
    str, typer.Option("--model", "-m", help="A model's name on the hub, or a folder with its config.json.")
]
LengthOption = Annotated[int, typer.Option("--seq-len", help="Tokens of a sequence.")]


def _one_of(words: object) -> str:
    return ", ".join(get_args(words))


def estimate(
    model: ModelOption,
    gpu: Annotated[str, typer.Option(help="A card of the catalog, such as A10G, L4, A100-80, H100.")],
    method: Annotated[str, typer.Option(help=_one_of(Method))] = "lora",
    gpus: Annotated[int, typer.Option(help="How many of them, over all machines.")] = 1,
    seq_len: LengthOption = DEFAULT_LENGTH,
    micro_batch: Annotated[int, typer.Option(help="Sequences a GPU in one forward pass.")] = 1,
    checkpointing: Annotated[bool, typer.Option(help="Recompute activations block by block.")] = True,
    sharding: Annotated[str | None, typer.Option(help=f"{_one_of(Sharding)}; fsdp on several GPUs.")] = None,
    offload: Annotated[bool, typer.Option("--offload", help="Keep optimizer states in host memory.")] = False,
    optimizer: Annotated[str, typer.Option(help=_one_of(Optimizer))] = "adamw",
    rank: Annotated[int, typer.Option(help="Of LoRA and its kin; inner size of bottleneck.")] = 16,
    virtual_tokens: Annotated[int, typer.Option(help="Of prefix and prompt tuning.")] = 20,
    trained_layers: Annotated[int, typer.Option(help="Of freeze: the last blocks.")] = 2,
    objective: Annotated[str, typer.Option(help=_one_of(Objective))] = "supervised",
    target: Annotated[str, typer.Option(help="attention, all-linear, or module names with commas.")] = "all-linear",
    quantization: Annotated[str | None, typer.Option(help=f"{_one_of(Quantization)}; nf4 for qlora.")] = None,
    precision: Annotated[str | None, typer.Option(help=f"{_one_of(Precision)}; bf16 where the GPU has it.")] = None,
    attention: Annotated[str, typer.Option(help=_one_of(Attention))] = "sdpa",
    fused_ce: Annotated[bool, typer.Option("--fused-ce", help="Compute the loss in chunks.")] = False,
    json: JsonOption = False,
) -> int:
    """Work out one configuration: memory, tokens a second, dollars a million tokens. Exits 2 where it does not fit."""
    from spotune import planner
    from spotune.planner.estimate import estimate as work_out

    screen = Screen(machine=json)
    asked = _configuration(
        method=method,
        gpu=gpu,
        gpus=gpus,
        sequence_length=seq_len,
        micro_batch=micro_batch,
        checkpointing=checkpointing,
        sharding=sharding,
        offload=offload,
        optimizer=optimizer,
        rank=rank,
        virtual_tokens=virtual_tokens,
        trained_layers=trained_layers,
        objective=objective,
        target_modules=target if target in ("attention", "all-linear") else tuple(target.split(",")),
        quantization=quantization,
        precision=precision,
        attention=attention,
        fused_cross_entropy=fused_ce,
    )
    catalog = planner.load_catalog()
    answer = work_out(model, planner.read_architecture(model_config(model)), asked, catalog, catalog.market())
    screen.emit(answer.model_dump(mode="json"))
    screen.show(figures.estimate(answer))
    return 0 if answer.fits else 2


def compare_methods(model: ModelOption, seq_len: LengthOption = DEFAULT_LENGTH, json: JsonOption = False) -> None:
    """Put every method side by side for one model: what trains, memory, the smallest GPU, and the cheapest way."""
    from spotune import planner
    from spotune.planner import comparison

    screen = Screen(machine=json)
    if seq_len < 1:
        raise RequestRefused("--seq-len must be 1 or more.", code="invalid_value", param="seq_len")
    catalog = planner.load_catalog()
    architecture = planner.read_architecture(model_config(model))
    answer = comparison.compare_methods(model, architecture, seq_len, catalog, catalog.market())
    screen.emit(answer.model_dump(mode="json"))
    screen.show(figures.comparison(answer))


def _configuration(**choices: object) -> Configuration:
    """The options as a configuration; the contract's own rules say what is wrong with them."""
    try:
        return Configuration.model_validate(choices)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        raise RequestRefused(
            f"{_OPTIONS.get(name, name.replace('_', '-'))}: {first['msg']}, not {first['input']!r}.",
            code="invalid_value",
            param=name,
            remedy="See `spotune estimate --help`.",
        ) from None


_OPTIONS = {"sequence_length": "seq-len", "target_modules": "target", "fused_cross_entropy": "fused-ce"}
"""Options whose names are shorter than the contract's."""
