"""The report as one HTML page that needs nothing else: no script, no font, no picture from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from spotune.contracts.quality import Balance, Issue, Lengths, QualityReport, Share
from spotune.data.quality.kinds import KINDS, PERSONAL, SECRET

SHOWN_FINDINGS = 10
SHOWN_CLASSES = 20
_WIDTH, _HEIGHT, _FOOT = 720, 220, 40

_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
"""Even if a row's text got into the page as markup, the browser would load and run nothing."""
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1c2430; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.4rem; overflow-wrap: anywhere } h2 { font-size: 1.1rem; margin-top: 2rem }
table { border-collapse: collapse; width: 100% } td, th { text-align: left; padding: .3rem .8rem .3rem 0;
vertical-align: top; border-bottom: 1px solid #e3e7ec; overflow-wrap: anywhere } th { color: #667; font-weight: 500 }
td.n { text-align: right; white-space: nowrap } .note { color: #667 } .grave { color: #b3261e } svg { max-width: 100% }
rect { fill: #3f7cac } text { font: 11px system-ui, sans-serif; fill: #667 } details { margin: .2rem 0 }
@media (prefers-color-scheme: dark) { body { background: #14181d; color: #dde3ea } td, th { border-color: #2c333b } }
"""
_GRAVE = SECRET | PERSONAL | {"leaked", "nearly_leaked"}


def page(reports: Sequence[QualityReport]) -> str:
    """The page of one file, or of training and validation file."""
    title = escape(" and ".join(report.uri for report in reports))
    body = "".join(part for report in reports for part in _sections(report))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>Quality of {title}</title><style>{_STYLE}</style></head><body>{body}</body></html>\n"
    )


def _sections(report: QualityReport) -> Iterator[str]:
    yield f"<h1>Quality of {escape(report.uri)}</h1>"
    yield f"<p>{report.rows:,} rows, {report.bytes:,} bytes, format {report.format or 'unknown'}.</p>"
    yield from (f'<p class="note">{escape(note)}</p>' for note in report.notes)
    yield "<h2>What was noticed</h2>"
    yield _issues(report.issues) if report.issues else "<p>Nothing.</p>"
    if report.mixed_encodings:
        yield "<p>The file mixes encodings: some rows beyond ASCII are damaged and others are not.</p>"
    if report.lengths is not None:
        yield f"<h2>Lengths in {report.lengths.unit}</h2>{_length_words(report.lengths)}{plot(report.lengths)}"
        yield _truncation(report)
    if report.languages:
        yield f"<h2>Languages</h2>{_shares('language', report.languages)}"
    for balance in report.balances:
        yield f"<h2>Classes: {balance.field}</h2>{_classes(balance)}"


def _issues(issues: Sequence[Issue]) -> str:
    return _table(("", "rows", "of", "what to do", "where"), "".join(map(_issue, issues)))


def _issue(issue: Issue) -> str:
    kind = KINDS[issue.kind]
    grave = ' class="grave"' if issue.kind in _GRAVE else ""
    places = "".join(
        f"<div>line {finding.line:,}: {escape(finding.detail)}</div>" for finding in issue.findings[:SHOWN_FINDINGS]
    )
    more = issue.rows - min(len(issue.findings), SHOWN_FINDINGS)
    rest = f"<div>and {more:,} more</div>" if more else ""
    return (
        f'<tr><td{grave}>{kind.title}</td><td class="n">{issue.rows:,}</td><td class="n">{issue.looked_at:,}</td>'
        f"<td>{kind.remedy}</td><td><details><summary>lines</summary>{places}{rest}</details></td></tr>"
    )


def _length_words(lengths: Lengths) -> str:
    return (
        f"<p>Mean {lengths.mean:,.0f}; half have {lengths.p50:,} at most, 95 % {lengths.p95:,}, 99 % {lengths.p99:,}; "
        f"from {lengths.shortest:,} to {lengths.longest:,}.</p>"
    )


def plot(lengths: Lengths) -> str:
    """The histogram as SVG: a bar for each bin, of equal width, since bins are of equal ratio."""
    most = max((each.rows for each in lengths.bins), default=0) or 1
    width = _WIDTH / max(1, len(lengths.bins))
    parts = []
    for place, each in enumerate(lengths.bins):
        height = each.rows / most * (_HEIGHT - 20)
        left = place * width
        parts.append(
            f'<rect x="{left + 1:.1f}" y="{_HEIGHT - height:.1f}" width="{width - 2:.1f}" height="{height:.1f}">'
            f"<title>{each.low:,} to {each.high:,}: {each.rows:,} rows</title></rect>"
        )
        if place % 2 == 0:
            parts.append(f'<text x="{left:.1f}" y="{_HEIGHT + 16}">{each.low:,}</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT + _FOOT}" role="img">'
        f"<title>Rows by length in {lengths.unit}</title>{''.join(parts)}</svg>"
    )


def _truncation(report: QualityReport) -> str:
    how = "Estimated from characters, four to a token." if report.truncation_estimated else "In the model's own tokens."
    rows = "".join(
        f'<tr><td class="n">{each.limit:,}</td><td class="n">{each.rows:,}</td><td class="n">{each.lost:,}</td></tr>'
        for each in report.truncation
    )
    return f'<p class="note">{how}</p>{_table(("limit in tokens", "rows cut", "tokens lost"), rows)}'


def _classes(balance: Balance) -> str:
    shown, rest = balance.classes[:SHOWN_CLASSES], balance.classes[SHOWN_CLASSES:]
    others = (Share(name=f"{len(rest)} others", rows=sum(each.rows for each in rest)),) if rest else ()
    return _shares(balance.field, (*shown, *others))


def _shares(name: str, shares: Sequence[Share]) -> str:
    total = sum(share.rows for share in shares) or 1
    rows = "".join(
        f'<tr><td>{escape(share.name)}</td><td class="n">{share.rows:,}</td><td class="n">{share.rows / total:.1%}</td>'
        "</tr>"
        for share in shares
    )
    return _table((name, "rows", "share"), rows)


def _table(heads: Sequence[str], rows: str) -> str:
    return f"<table><tr>{''.join(f'<th>{head}</th>' for head in heads)}</tr>{rows}</table>"
