"""Writes docs/cost.md: worked examples, each as the planner prints it from the bundled prices.

python docs/cost.py            write it
python docs/cost.py --check    exit 1 where it is out of date
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

import yaml
from pages import keep
from rich.console import Console

from spotune.cli import render
from spotune.cli.planning import DEFAULT_BUDGET_USD
from spotune.contracts.base import MICRO, dollars
from spotune.contracts.dataset import DatasetReport, TokenStatistics
from spotune.contracts.job import ModelReference
from spotune.contracts.plan import Plan
from spotune.contracts.request import JobRequest
from spotune.planner import known_config, load_catalog, prepare, read_architecture

MARKET = load_catalog().market()
NOW = MARKET.as_of
DAY = "%-d %B %Y"
SHOWN = ("chosen", "done in", "on time", "billed", "cost", "worst case", "interruptions")

_PRICED, _SAVED = (datetime.fromtimestamp(one, UTC).strftime(DAY) for one in (NOW, MARKET.spot_as_of))
HEAD = f"""# What it costs

Made by `python docs/cost.py`, which asks the planner; `make check` refuses a page that is out of date. Prices are those
that come with the package: SageMaker's on demand in {MARKET.region}, of {_PRICED},
less the Spot Advisor's savings of {_SAVED}. An installation plans
with its own, fetched every six hours ([the market](market.md)), and with what its finished runs taught it
([planning](planning.md)). These are forecasts: nothing on this page was run on AWS.

`spotune plan job.yaml --offline` prints the same for your job and your data, before anything is paid for.

"""
TAIL = """
## What else is on the bill

- **A training job** bills from the download of its inputs to the upload of its results, in whole seconds. Waiting for
  capacity is free. Every start costs some eight minutes of image and model download, and so does each interruption: the
  figures above have them in.
- **S3**: base models, datasets, adapters, and the checkpoints of jobs. Checkpoints are the bulk: two and the best are
  kept while a job runs, each of the trained weights with their optimizer's state, and what newer ones
  superseded for up to two days more. A gigabyte for a month is $0.023; a plan saves the more seldom for it.
- **While nothing runs** there is no instance and nothing else by the hour: what stays are the Lambda calls of the
  reconciler (once a minute) and of the market (every six hours), alarms, the secret, stored logs and objects.
- **Carrying data** to a further region is part of its plan ([regions](regions.md)).

## What keeps it small

- A job has a cap (`constraints.budget_usd`) that the sum of its attempts never exceeds; a tenant, a key and a rule have
  a limit a month. The worst case is reserved before an attempt starts, and settled from what SageMaker billed.
- Spot, whenever the deadline allows: the plan waits for it as long as on-demand still makes it ([spot](spot.md)).
- The cheapest machine that makes it in time, not the fastest.
- `spotune plan --plot front.html` draws what another hour would save and what another dollar would buy.
- `spotune accuracy` holds forecasts against outcomes, once there are some.
"""


@dataclass(frozen=True)
class Example:
    """A job, its data, and why it is shown."""

    title: str
    why: str
    rows: int
    tokens: int
    """Of a row, on average."""
    job: dict[str, object] = field(default_factory=dict)


EXAMPLES = (
    Example(
        "A small model, hundreds of rows",
        "The job of the demo, on a GPU. The start is most of it.",
        480,
        85,
        {"model": "HuggingFaceTB/SmolLM2-135M-Instruct", "adapter": {"type": "lora"}},
    ),
    Example(
        "An 8B model, ten thousand rows",
        "The usual case. What is left open, the planner chooses: here LoRA or QLoRA.",
        10_000,
        400,
        {"model": "meta-llama/Llama-3.1-8B-Instruct"},
    ),
    Example(
        "The same, within two hours",
        "A deadline leaves less time for spot, and may ask for a faster card.",
        10_000,
        400,
        {"model": "meta-llama/Llama-3.1-8B-Instruct", "constraints": {"finish_within_hours": 2}},
    ),
    Example(
        "The same, without spot",
        "What the risk of interruptions is worth.",
        10_000,
        400,
        {"model": "meta-llama/Llama-3.1-8B-Instruct", "constraints": {"market": "on_demand"}},
    ),
    Example(
        "Preferences for a 7B model",
        "DPO reads two answers a row, and asks the base model once for each.",
        5_000,
        300,
        {"model": "Qwen/Qwen2.5-7B-Instruct", "method": {"type": "dpo"}},
    ),
    Example(
        "All weights of an 8B model",
        "Weights, gradients and both moments of eight billion parameters: several GPUs.",
        10_000,
        400,
        {"model": "meta-llama/Llama-3.1-8B-Instruct", "adapter": {"type": "full"}},
    ),
    Example(
        "A 70B model",
        "QLoRA on the cheapest machine that holds it. The default cap of $25 would not do.",
        5_000,
        400,
        {"model": "meta-llama/Llama-3.1-70B-Instruct", "adapter": {"type": "qlora"}, "constraints": {"budget_usd": 60}},
    ),
)


def page() -> str:
    """The page's text."""
    plans = [(one, _plan(one)) for one in EXAMPLES]
    lines = [
        "| job | rows x tokens | machine | hours | dollars, 5 % to 95 % | on demand |",
        "|---|---|---|---|---|---|",
    ]
    lines += [_row(one, plan) for one, plan in plans]
    lines += [line for one, plan in plans for line in _section(one, plan)]
    return HEAD + "\n".join(lines) + "\n" + TAIL


def _row(example: Example, plan: Plan) -> str:
    chosen = plan.chosen
    cost = (
        f"{dollars(round(chosen.cost.mid))} ({dollars(round(chosen.cost.low))} to {dollars(round(chosen.cost.high))})"
    )
    machine = f"{chosen.instance_count} x {chosen.instance_type}, {chosen.market.replace('_', '-')}"
    anchor = example.title.lower().replace(" ", "-").replace(",", "")
    return (
        f"| [{example.title}](#{anchor}) | {example.rows:,} x {example.tokens} | {machine} "
        f"| {chosen.wall_hours.mid:.1f} | {cost} | {dollars(plan.on_demand_cost)} |"
    )


def _section(example: Example, plan: Plan) -> Iterator[str]:
    yield from ("", f"## {example.title}", "", example.why, "", "```yaml")
    body = {"model": example.job["model"], "training_file": "train.jsonl", **example.job}
    yield yaml.safe_dump(body, sort_keys=False).rstrip()
    yield from (
        "```",
        "",
        f"{example.rows:,} rows of {example.tokens} tokens, the longest {3 * example.tokens}.",
        "",
        "```text",
    )
    yield from _printed(plan)
    yield "```"


def _printed(plan: Plan) -> list[str]:
    """The lines of the plan that are about money and time, as the CLI prints them."""
    screen = Console(file=io.StringIO(), width=118)
    rows = [row for row in render.choice_rows(plan, now=NOW) if row[0] in SHOWN]
    screen.print(render.facts("Plan", rows))
    return [line.rstrip() for line in screen.file.getvalue().splitlines()]  # type: ignore[attr-defined]


def _plan(example: Example) -> Plan:
    model = str(example.job["model"])
    config = known_config(model)
    if config is None:
        raise ValueError(f"{model} is not among the bundled models")
    request = JobRequest.model_validate({**example.job, "training_file": "train.jsonl"})
    return prepare(
        request,
        job_id="ftjob-plan",
        model=ModelReference(name=model, uri="", parameters=read_architecture(config).parameters),
        architecture_config=config,
        training=_report(example, preference=request.objective == "dpo"),
        validation=None,
        cap=request.constraints.budget or round(DEFAULT_BUDGET_USD * MICRO),
        now=NOW,
    ).plan


def _report(example: Example, *, preference: bool) -> DatasetReport:
    """Rows of that length, a third of it learned, the longest three times as long."""
    total = example.rows * example.tokens * (2 if preference else 1)
    tokens = TokenStatistics(
        rows=example.rows,
        total=total,
        trained=total // 3,
        mean=example.tokens * (2 if preference else 1),
        p50=example.tokens,
        p95=2 * example.tokens,
        longest=3 * example.tokens,
        truncated_rows=0,
        untrainable_rows=0,
    )
    kind = "preference" if preference else "chat"
    return DatasetReport(uri="train.jsonl", sha256="", bytes=4 * total, rows=example.rows, format=kind, tokens=tokens)


if __name__ == "__main__":
    sys.exit(keep(__file__, page()))
