"""What every screen is made of: names with values, tables, titles, warnings."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

Row = tuple[str, str]


def facts(title: str, rows: Sequence[Row]) -> RenderableType:
    """Names and values, one a line."""
    made = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    made.add_column(style="dim", no_wrap=True)
    made.add_column(overflow="fold")
    for name, value in rows:
        made.add_row(name, Text(value))
    return titled(title, made)


def table(*columns: str, gap: int = 0) -> Table:
    """An empty table in the CLI's one style; `gap` is lines between rows."""
    made = Table(box=None, pad_edge=False, padding=(0, 2, gap, 0))
    for column in columns:
        made.add_column(column, overflow="fold", header_style="dim")
    return made


def add_row(listed: Table, *cells: str | Text) -> None:
    """Add a row of plain text: rich would take brackets in a string for markup."""
    listed.add_row(*(cell if isinstance(cell, Text) else Text(cell) for cell in cells))


def titled(title: str, thing: RenderableType) -> RenderableType:
    """A thing under its title: rich's own table titles wrap to the table's width."""
    return Group(Text(title, style="bold", overflow="fold"), thing)


def notes(warnings: Sequence[str]) -> list[RenderableType]:
    """Warnings, one a line."""
    return [Text("\n".join(f"Note: {warning}" for warning in warnings), style="yellow")] if warnings else []


def paragraphs(parts: Sequence[RenderableType]) -> RenderableType:
    """Parts with a blank line between them."""
    return Group(*(piece for part in parts for piece in (part, Text()))) if parts else Text()
