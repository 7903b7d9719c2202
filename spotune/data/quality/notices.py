"""What was noticed, by kind: all counted, the first ones listed."""

from __future__ import annotations

from spotune.contracts.quality import MAX_FINDINGS, Finding, Issue, IssueKind
from spotune.data.quality.kinds import KINDS


class Notices:
    """Collects findings: each row counts once for a kind."""

    def __init__(self) -> None:
        self._rows: dict[IssueKind, int] = {}
        self._findings: dict[IssueKind, list[Finding]] = {}
        self._last: dict[IssueKind, int] = {}

    def add(self, kind: IssueKind, line: int, detail: str = "") -> None:
        """Notice a row; those of one kind come in the file's order."""
        if self._last.get(kind) == line:
            return
        self._last[kind] = line
        self._rows[kind] = self._rows.get(kind, 0) + 1
        listed = self._findings.setdefault(kind, [])
        if len(listed) < MAX_FINDINGS:
            listed.append(Finding(line=line, detail=detail))

    def has(self, kind: IssueKind, line: int) -> bool:
        """True where this row was the last that was noticed for the kind."""
        return self._last.get(kind) == line

    def issues(self, rows: int, sampled: dict[IssueKind, int]) -> tuple[Issue, ...]:
        """What there is, in the order of `KINDS`.

        Args:
            rows: of the file.
            sampled: rows that were looked at, for the kinds that were looked for in a sample.
        """
        return tuple(
            Issue(
                kind=kind,
                rows=self._rows[kind],
                looked_at=sampled.get(kind, rows),
                findings=tuple(self._findings[kind]),
            )
            for kind in KINDS
            if kind in self._rows
        )
