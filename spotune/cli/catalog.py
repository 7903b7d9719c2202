"""`catalog`: instance types, prices, quotas, and how old each of it is."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Annotated

import typer
from rich.console import RenderableType

from spotune.cli import words
from spotune.cli.blocks import Row, add_row, facts, notes, paragraphs, table, titled
from spotune.cli.client import Api
from spotune.cli.connection import find_connection
from spotune.cli.screen import JsonOption, Screen
from spotune.contracts.base import dollars
from spotune.contracts.errors import RequestRefused, Unavailable
from spotune.contracts.market import MarketSnapshot, Quote, Source
from spotune.planner.catalog import HOME_REGION, InstanceSpec, load_catalog


def catalog(
    gpu: Annotated[str | None, typer.Option(help="Types with this card alone.")] = None,
    region: Annotated[str | None, typer.Option(help="Another one than the installation's own.")] = None,
    offline: Annotated[bool, typer.Option("--offline", help="The bundled prices; do not ask the API.")] = False,
    json: JsonOption = False,
) -> None:
    """List instance types with prices, interruption rates and quotas, and how old each source is."""
    screen = Screen(machine=json)
    specs = _of_gpu(gpu)
    market = _bundled(region) if offline else _market(screen, region)
    quotes = {spec.instance_type: market.quotes[spec.instance_type] for spec in specs}
    screen.emit(market.with_(quotes=quotes).model_dump(mode="json"))
    screen.show(_shown(specs, market, now=time.time()))


def _of_gpu(gpu: str | None) -> list[InstanceSpec]:
    found = [spec for spec in load_catalog() if gpu is None or spec.gpu.name.lower() == gpu.lower()]
    if not found:
        known = ", ".join(sorted({spec.gpu.name for spec in load_catalog()}))
        raise RequestRefused(
            f"There is no GPU {gpu} in the catalog.", code="unknown_gpu", param="gpu", remedy=f"Known: {known}."
        )
    return found


def _bundled(region: str | None) -> MarketSnapshot:
    return load_catalog().market(region or HOME_REGION)


def _market(screen: Screen, region: str | None) -> MarketSnapshot:
    try:
        with Api(find_connection()) as api:
            return api.market(region)
    except Unavailable as error:
        if error.code not in ("api_not_configured", "api_unreachable"):
            raise
        screen.note(f"{error}\nThese are the bundled prices.")
        return _bundled(region)


def _shown(specs: Iterable[InstanceSpec], market: MarketSnapshot, *, now: float) -> RenderableType:
    listed = table(
        "type", "GPUs", "memory each", "on-demand", "spot", "saving", "bucket", "score", "quotas", "price is"
    )
    for spec in specs:
        quote = market.quotes[spec.instance_type]
        add_row(
            listed,
            spec.instance_type,
            f"{spec.gpus} x {spec.gpu.name}",
            words.size(spec.gpu.usable_memory),
            _price(quote.on_demand),
            _price(quote.spot),
            _saving(quote),
            _or_unknown(quote.interruption_bucket),
            _or_unknown(quote.placement_score),
            f"{_or_unknown(quote.quotas.spot)} / {_or_unknown(quote.quotas.on_demand)}",
            quote.certainty.replace("_", " "),
        )
    title = f"{market.region}: dollars an hour; interruption bucket 0 the calmest; quotas spot / on-demand"
    sources = facts("Sources", [_source(source, now) for source in market.sources])
    return paragraphs([titled(title, listed), sources, *notes(market.warnings)])


def _source(source: Source, now: float) -> Row:
    age = "never fetched" if source.as_of is None else f"{words.age(now - source.as_of)} old"
    return source.name, f"{age}; {source.error}" if source.error else age


def _saving(quote: Quote) -> str:
    if quote.spot is None or quote.on_demand is None:
        return ""
    return f"{100 - 100 * quote.spot / quote.on_demand:.0f} %"


def _price(price: int | None) -> str:
    return "-" if price is None else dollars(price)


def _or_unknown(value: int | None) -> str:
    return "?" if value is None else str(value)
