"""The worked example of docs/regions.md is what `spotune plan` prints."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

from spotune.cli import render
from spotune.contracts.api import DatasetPair, PlanObject
from spotune.contracts.market import MarketSnapshot
from spotune.planner import load_catalog
from tests.planner.cases import LARGE, NOW, dataset, plan_for

PAGE = Path(__file__).parents[2] / "docs" / "regions.md"
CORPUS = dataset(rows=60_000, mean=400, longest=900)


def region(name: str) -> MarketSnapshot:
    """The bundled market of a region, its on-demand prices taken for its own."""
    bundled = load_catalog().market(name)
    return bundled.with_(quotes={key: one.with_(certainty="confirmed") for key, one in bundled.quotes.items()})


def printed(*regions: str) -> list[str]:
    """The first lines of the plan, as the CLI prints it, among these regions; the files lie in us-east-1."""
    here = load_catalog().market()
    constraints = {"budget_usd": 40, "regions": list(regions)}
    prepared = plan_for(LARGE, training=CORPUS, markets=(here, region("us-east-2")), constraints=constraints)
    answer = PlanObject(
        plan=prepared.plan,
        settings=prepared.settings,
        dataset=DatasetPair(training=prepared.training, validation=None),
        config=prepared.config,
    )
    screen = Console(file=io.StringIO(), width=110)
    screen.print(render.plan(answer, now=NOW))
    lines = screen.file.getvalue().splitlines()  # type: ignore[attr-defined]
    end = next(number for number, line in enumerate(lines) if line.startswith("interruptions"))
    return [line.rstrip() for line in lines[:end]]


def examples() -> list[list[str]]:
    blocks = PAGE.read_text().split("```text\n")[1:]
    return [block.partition("```")[0].splitlines() for block in blocks]


def test_the_page_shows_what_is_printed() -> None:
    assert examples() == [printed("us-east-1", "us-east-2"), printed("us-east-1")]


if __name__ == "__main__":
    for regions in (("us-east-1", "us-east-2"), ("us-east-1",)):
        print("\n".join(printed(*regions)))
