"""How labelled data spreads over its classes: verdicts, answers of few kinds, multiple choice, slices."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal

from spotune.contracts.quality import Balance, Share
from spotune.data.parsing import clip
from spotune.data.plain import Checked
from spotune.data.quality.private import redacted
from spotune.data.quality.sampling import answer_of

MAX_CLASSES = 100
LONGEST_CLASS = 64
FEW_ROWS = 20
ROWS_PER_CLASS = 4
"""Fewer than this for each, and answers are answers, not classes."""


class ClassCount:
    """Counts the values of one field, until they are too many to be classes."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self.counting = True

    def add(self, values: Sequence[str]) -> None:
        """Count these; a value that is too long to be a class, or one too many, ends the counting."""
        if max(map(len, values), default=0) > LONGEST_CLASS:
            self.counting = False
        else:
            self._counts.update(values)
            self.counting = len(self._counts) <= MAX_CLASSES
        if not self.counting:
            self._counts.clear()

    def balance(self, field: Literal["label", "answer", "choice", "slice"]) -> tuple[Balance, ...]:
        """The classes, where these are any. Their names are the data's own, without what is private in them."""
        rows = self._counts.total()
        if rows < FEW_ROWS or rows < ROWS_PER_CLASS * len(self._counts):
            return ()
        classes = tuple(
            Share(name=clip(redacted(name), quote=False), rows=count) for name, count in self._counts.most_common()
        )
        return (Balance(field=field, classes=classes),)


class BalanceCount:
    """All fields that may hold classes."""

    def __init__(self) -> None:
        self._labels, self._answers, self._choices, self._slices = (ClassCount() for _ in range(4))

    def add(self, rows: Sequence[Checked]) -> None:
        """Count a batch."""
        if self._answers.counting:
            self._answers.add([answer_of(row).strip() for row in rows])
        self._labels.add(["good" if row.label else "bad" for row in rows if row.label is not None])
        if self._slices.counting:
            self._slices.add([row.slice for row in rows if row.slice])
        if self._choices.counting:
            self._choices.add([_place(row) for row in rows if row.choices])

    def balances(self) -> tuple[Balance, ...]:
        """Those fields that hold classes."""
        return (
            *self._labels.balance("label"),
            *self._answers.balance("answer"),
            *self._choices.balance("choice"),
            *self._slices.balance("slice"),
        )


def _place(row: Checked) -> str:
    """Which of the choices is the row's own: a model soon learns that it is always the first."""
    return f"{row.choices.index(answer_of(row)) + 1} of {len(row.choices)}"
