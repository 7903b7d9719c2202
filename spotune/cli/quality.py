"""A quality report as tables, and as a page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import RenderableType
from rich.text import Text

from spotune.cli.blocks import Row, add_row, facts, notes, paragraphs, table, titled
from spotune.contracts.errors import RequestRefused
from spotune.contracts.quality import Issue, Lengths, QualityReport, Share
from spotune.data.quality.kinds import KINDS
from spotune.data.quality.page import page

BAR = 40
SHOWN_LINES = 3
SHOWN_SHARES = 8


def quality(report: QualityReport) -> RenderableType:
    """What was noticed, how long rows are, languages and classes."""
    parts: list[RenderableType] = [facts(f"Quality of {report.uri}", list(_rows(report)))]
    if report.lengths is not None:
        parts.append(_histogram(report.lengths))
    if report.issues:
        parts.append(_issues(report.issues))
    return paragraphs([*parts, *notes(report.notes)])


def write_page(file: Path, reports: Sequence[QualityReport]) -> None:
    """Write the HTML page.

    Raises:
        RequestRefused: it cannot be written there.
    """
    try:
        file.write_text(page(reports), encoding="utf-8")
    except OSError as error:
        raise RequestRefused(
            f"Cannot write {file}: {error.strerror}.", code="file_unwritable", remedy="Give a path that can be written."
        ) from None


def _rows(report: QualityReport) -> Iterator[Row]:
    lengths = report.lengths
    if lengths is not None:
        yield (
            f"{lengths.unit}",
            f"mean {lengths.mean:,.0f}, half {lengths.p50:,} at most, 95 % {lengths.p95:,}, to {lengths.longest:,}",
        )
    about = "about " if report.truncation_estimated else ""
    cut = [f"{each.rows:,} at {each.limit:,}" for each in report.truncation if each.rows]
    yield "rows cut", f"{about}{', '.join(cut)} tokens" if cut else "none at the usual limits"
    if report.languages:
        yield "languages", _shares(report.languages)
    for balance in report.balances:
        yield f"{balance.field}s", _shares(balance.classes)
    if report.mixed_encodings:
        yield "encodings", "mixed: some rows beyond ASCII are damaged and others are not"
    if not report.issues:
        yield "noticed", "nothing"


def _shares(shares: Sequence[Share]) -> str:
    total = sum(share.rows for share in shares) or 1
    words = [f"{share.name} {share.rows / total:.1%}" for share in shares[:SHOWN_SHARES]]
    more = len(shares) - SHOWN_SHARES
    return ", ".join([*words, f"{more} more"] if more > 0 else words)


def _histogram(lengths: Lengths) -> RenderableType:
    most = max(each.rows for each in lengths.bins)
    listed = table(lengths.unit, "rows", "")
    for each in lengths.bins:
        bar = "█" * -(-each.rows * BAR // most)
        add_row(listed, f"{each.low:,} to {each.high:,}", f"{each.rows:,}", bar)
    return titled("Lengths", listed)


def _issues(issues: Sequence[Issue]) -> RenderableType:
    listed = table("noticed", "rows", "of", "where", "what to do")
    for issue in issues:
        kind = KINDS[issue.kind]
        add_row(listed, kind.title, f"{issue.rows:,}", f"{issue.looked_at:,}", _places(issue), Text(kind.remedy))
    return titled("Noticed", listed)


def _places(issue: Issue) -> str:
    lines = [f"line {each.line}: {each.detail}" for each in issue.findings[:SHOWN_LINES]]
    more = issue.rows - len(lines)
    return "\n".join([*lines, f"and {more:,} more"] if more > 0 else lines)
