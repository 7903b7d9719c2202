"""Rows as a model would read them, with what it would learn marked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import RenderableType
from rich.text import Text

from spotune.cli import blocks
from spotune.data.preview import Piece, Shown

TRAINED_STYLE = "black on green"
CONTEXT_STYLE = "dim"
MARKS = ("⟦", "⟧")
"""Around what is learned, where there are no colours."""

_BIDIRECTIONAL = (*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F)
_HARMLESS = {code: chr(0x2400 + code) for code in range(0x20) if code not in (0x09, 0x0A)}
_HARMLESS |= {code: f"\\x{code:02x}" for code in range(0x7F, 0xA0)}
_HARMLESS |= {code: f"\\u{code:04x}" for code in _BIDIRECTIONAL}
"""Characters by which a row's text could move a terminal's cursor, change its colours, or turn its lines around."""
_MARKS_SPELT_OUT = {ord(mark): f"\\u{ord(mark):04x}" for mark in MARKS}


def shown(rows: Sequence[Shown], *, colours: bool) -> RenderableType:
    """The rows, each under its counts, and what they come to together."""
    parts: list[RenderableType] = [blocks.titled(_title(row), _text(row, colours=colours)) for row in rows]
    tokens, trained = sum(row.tokens for row in rows), sum(row.trained for row in rows)
    if tokens:
        legend = "in green" if colours else f"between {MARKS[0]} and {MARKS[1]}"
        parts.append(Text(f"{trained:,} of {tokens:,} tokens are learned ({trained / tokens:.1%}), shown {legend}."))
    return blocks.paragraphs(parts)


def _title(row: Shown) -> str:
    verdict = f", {row.verdict}" if row.verdict else ""
    cut = f", cut from {row.length:,}" if row.length > row.tokens else ""
    return f"Line {row.line}{verdict}: {row.tokens:,} tokens{cut}, {row.trained:,} learned ({row.coverage:.1%})"


def _text(row: Shown, *, colours: bool) -> Text:
    """No markup and no control character of the row's own is interpreted."""
    if colours:
        return Text.assemble(*((_harmless(piece), _style(piece)) for piece in row.pieces))
    return Text("".join(_marked(row.pieces)))


def _style(piece: Piece) -> str:
    return TRAINED_STYLE if piece.trained else CONTEXT_STYLE


def _marked(pieces: Sequence[Piece]) -> Iterator[str]:
    for piece in pieces:
        text = _harmless(piece).translate(_MARKS_SPELT_OUT)
        yield f"{MARKS[0]}{text}{MARKS[1]}" if piece.trained else text


def _harmless(piece: Piece) -> str:
    return piece.text.translate(_HARMLESS)
