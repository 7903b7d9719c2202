"""What is known of a dataset's quality: a report for people to judge by. Nothing in it refuses a dataset."""

from __future__ import annotations

from typing import Literal

from spotune.contracts.base import Contract
from spotune.contracts.dataset import RowFormat

MAX_FINDINGS = 50
"""How many rows of a kind of issue a report lists one by one; the rest are counted."""

IssueKind = Literal[
    "exact_duplicate",
    "near_duplicate",
    "leaked",
    "nearly_leaked",
    "says_nothing",
    "too_short",
    "too_long",
    "mojibake",
    "replacement_character",
    "control_character",
    "minority_language",
    "email",
    "phone",
    "card_number",
    "iban",
    "national_id",
    "aws_key",
    "api_token",
    "jwt",
    "private_key",
    "password_in_url",
    "toxic",
]
"""What a row may be noticed for. `spotune/data/quality/kinds.py` says what each means and what to do."""


Unit = Literal["tokens", "characters"]


class Finding(Contract):
    """One row that was noticed. `detail` never quotes more of personal data or a secret than two characters."""

    line: int
    detail: str = ""


class Issue(Contract):
    """One kind of issue that the dataset has."""

    kind: IssueKind
    rows: int
    """Rows that have it, of those that were looked at."""
    looked_at: int
    """All rows, or those of a sample."""
    findings: tuple[Finding, ...] = ()
    """In the file's order; the first `MAX_FINDINGS`."""


class Bin(Contract):
    """Rows of `low` to `high` tokens or characters, both included."""

    low: int
    high: int
    rows: int


class Lengths(Contract):
    """How long rows are, before truncation."""

    unit: Unit
    rows: int
    """Rows that were measured."""
    mean: float
    shortest: int
    p50: int
    p95: int
    p99: int
    longest: int
    bins: tuple[Bin, ...] = ()


class Truncation(Contract):
    """What a limit of `limit` tokens would cut off."""

    limit: int
    rows: int
    """Measured rows that are longer."""
    lost: int
    """Tokens beyond the limit, over all measured rows."""


class Share(Contract):
    """Rows that have one value of something."""

    name: str
    rows: int


class Balance(Contract):
    """How rows spread over the values of one field: few values, each many times."""

    field: Literal["label", "answer", "choice", "slice"]
    classes: tuple[Share, ...]
    """Most frequent first."""


class QualityReport(Contract):
    """One file's quality."""

    uri: str
    bytes: int
    rows: int
    format: RowFormat | None = None
    sampled_rows: int
    """Rows that were looked at for near duplicates and languages."""
    compared_with: str = ""
    """URI of the training data that leaks were looked for in; empty where they were not looked for."""
    lengths: Lengths | None = None
    truncation: tuple[Truncation, ...] = ()
    truncation_estimated: bool = False
    """Taken from characters, four to a token."""
    issues: tuple[Issue, ...] = ()
    languages: tuple[Share, ...] = ()
    """Of the sampled rows; `unknown` where a row is too short to tell."""
    balances: tuple[Balance, ...] = ()
    mixed_encodings: bool = False
    """Some rows beyond ASCII are damaged and others are not, or the file has bytes that are no UTF-8."""
    notes: tuple[str, ...] = ()
    """How it was measured, where not every row was."""

    def issue(self, kind: IssueKind) -> Issue | None:
        """The issue of a kind, where the dataset has it."""
        return next((issue for issue in self.issues if issue.kind == kind), None)


class JobQuality(Contract):
    """The quality of a job's files."""

    training: QualityReport
    validation: QualityReport | None = None

    @property
    def leaked(self) -> int:
        """Rows of the validation file that the training file has, too."""
        issues = self.validation.issues if self.validation else ()
        return sum(issue.rows for issue in issues if issue.kind == "leaked")
