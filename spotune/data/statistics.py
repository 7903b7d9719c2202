"""How long a dataset's rows are in tokens, and which of them can be learned from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from spotune.contracts.dataset import TokenStatistics
from spotune.contracts.errors import DatasetRefused, RequestRefused
from spotune.contracts.request import LossOn
from spotune.data.faults import FaultList
from spotune.data.rows import Example
from spotune.data.template import Rendered
from spotune.data.tokens import EncodedRow, RowTokenizer

BATCH_ROWS = 256
BATCH_BYTES = 500_000
"""A tokenizer holds some hundred bytes for each byte of a batch."""


def batches(examples: Iterator[Example]) -> Iterator[list[Example]]:
    """Rows in groups that keep every core busy and memory small."""
    batch: list[Example] = []
    size = 0
    for example in examples:
        batch.append(example)
        size += example.size
        if len(batch) == BATCH_ROWS or size > BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


class TokenCount:
    """Sums up batches of rows. A row, or a model, that cannot be encoded becomes a fault."""

    def __init__(self, tokenizer: RowTokenizer, max_length: int, loss_on: LossOn, faults: FaultList) -> None:
        self._tokenizer = tokenizer
        self._loss_on = loss_on
        self._max_length = max_length
        self._faults = faults
        self._lengths: Counter[int] = Counter()
        """Rows by length: exact quantiles. Its size grows with the square root of the file's at most."""
        self._uncut = 0
        self._total = 0
        self._trained = 0
        self._untrainable = 0
        self._spelt_out = 0

    def add(self, examples: Sequence[Example]) -> None:
        """Measure these rows."""
        rendered = [sides for example in examples if (sides := self._render(example)) is not None]
        try:
            flat = self._tokenizer.encode_rendered([side for sides in rendered for side in sides], self._max_length)
        except RequestRefused as refused:
            self._faults.note(0, refused)
            return
        encoded = iter(flat)
        for sides in rendered:
            self._count([next(encoded) for _ in sides])

    def _count(self, sides: list[EncodedRow]) -> None:
        """A row, or both answers of a preference."""
        trained = [sum(side.trained) for side in sides]
        self._lengths[max(side.length for side in sides)] += 1
        self._uncut += sum(side.length for side in sides)
        self._total += sum(len(side.ids) for side in sides)
        self._trained += sum(trained)
        self._untrainable += not all(trained)

    @property
    def lengths(self) -> Mapping[int, int]:
        """Measured rows by their length before truncation."""
        return self._lengths

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a person should know of the rows' text."""
        if not self._spelt_out:
            return ()
        return (f"{self._spelt_out:,} rows spell out the model's special tokens in their text: rendered twice?",)

    def statistics(self, scale: float) -> TokenStatistics | None:
        """Of `scale` times the rows that were measured, these being a sample; None where none was measured."""
        measured = self._lengths.total()
        if not measured:
            return None
        longest = max(self._lengths)
        longer = sum(count for length, count in self._lengths.items() if length > self._max_length)
        return TokenStatistics(
            rows=round(measured * scale),
            total=round(self._total * scale),
            trained=round(self._trained * scale),
            mean=self._uncut / measured,
            p50=self._quantile(0.5),
            p95=self._quantile(0.95),
            longest=longest,
            truncated_rows=round(longer * scale),
            untrainable_rows=round(self._untrainable * scale),
        )

    def _render(self, example: Example) -> list[Rendered] | None:
        try:
            sides = [self._tokenizer.render(side, self._loss_on) for side in example.sides]
        except DatasetRefused as refused:
            self._faults.note(example.number, refused)
        except RequestRefused as refused:
            self._faults.note(0, refused)
        else:
            self._spelt_out += any(self._tokenizer.spells_out_special_tokens(side) for side in example.sides)
            return sides
        return None

    def _quantile(self, share: float) -> int:
        """The smallest length that at least this share of the rows does not exceed."""
        due = share * self._lengths.total()
        below = 0
        for length, count in sorted(self._lengths.items()):
            below += count
            if below >= due:
                return length
        return max(self._lengths)
