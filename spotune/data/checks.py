"""A dataset, checked and measured in one pass over its bytes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from hashlib import sha256

from spotune.contracts.dataset import DatasetReport
from spotune.contracts.request import LossOn, Objective
from spotune.data.formats import FaultList, read_checked
from spotune.data.plain import Checked, content_of, example_of
from spotune.data.quality import QualityCheck
from spotune.data.quality.exact import SeenRows
from spotune.data.rows import hash_of
from spotune.data.sample import Sample
from spotune.data.statistics import TokenCount, batches
from spotune.data.tokens import RowTokenizer

FEW_ROWS = 10
MUCH = 0.1
"""Share of the rows from which a warning is due."""
LITTLE = 0.01
"""Share of the tokens that carries loss, below which a warning is due."""


def check_dataset(
    chunks: Iterable[bytes],
    *,
    uri: str,
    tokenizer: RowTokenizer | None,
    max_length: int,
    objective: Objective = "supervised",
    loss_on: LossOn = "assistant",
    sample_bytes: int | None = None,
    quality: QualityCheck | None = None,
) -> DatasetReport:
    """Every fault of a JSONL file, its duplicates, and its length in the model's own tokens.

    Bad data never raises; what the stream raises goes through. Memory does not grow with the file, but for the sample
    and the hashes that find duplicates.

    Args:
        chunks: the file's bytes, cut anywhere.
        uri: where it lies; goes into the report.
        tokenizer: the model's; without it there are no token statistics.
        max_length: tokens that a row is cut to.
        objective: what is minimised; rows of a format that it does not learn from are refused.
        loss_on: which tokens of a chat carry loss.
        sample_bytes: measure tokens on a random sample of rows of about this size instead of all (always the same
            sample of the same file). Every row is still checked but for what only the model's chat template refuses.
        quality: looks at every good row, and is concluded at the end.
    """
    stream, faults, duplicates, labels = _Stream(chunks), FaultList(), _Duplicates(quality), _Labels()
    count = None if tokenizer is None else TokenCount(tokenizer, max_length, loss_on, faults)
    sample = Sample(None if count is None else sample_bytes)
    rows = duplicates.watch(labels.watch(read_checked(stream, faults, objective)))
    if count is None:
        deque(rows, maxlen=0)
    else:
        for batch in batches(sample.choose(map(example_of, rows))):
            count.add(batch)
    stream.drain()
    tokens = None if count is None else count.statistics(sample.scale)
    if tokens is not None and tokens.untrainable_rows == tokens.rows:
        message = f"after cutting rows to {max_length:,} tokens no row has a token left to learn"
        faults.add(0, "", "all_truncated", message)
    report = DatasetReport(
        uri=uri,
        sha256=stream.digest.hexdigest(),
        bytes=stream.bytes,
        rows=faults.rows,
        format=faults.format,
        fault_count=faults.count,
        faults=tuple(sorted(faults.faults, key=lambda fault: fault.line)),
        duplicate_rows=duplicates.count,
        tokens=tokens,
        sampled=sample.share,
    )
    spelt_out = count.warnings if count is not None else ()
    if quality is not None:
        quality.conclude(report, max_length, None if count is None else count.lengths)
    return report.with_(warnings=(*_warnings(report, max_length), *duplicates.warnings, *labels.warnings, *spelt_out))


class _Stream:
    """Measures and hashes a stream while it is read."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self.digest = sha256()
        self.bytes = 0

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._chunks:
            self.digest.update(chunk)
            self.bytes += len(chunk)
            yield chunk

    def drain(self) -> None:
        """Read on to the end, where reading stopped early."""
        for _ in self:
            pass


class _Duplicates:
    """Counts rows that repeat an earlier one; a quality check counts them anyway."""

    def __init__(self, quality: QualityCheck | None) -> None:
        self._quality = quality
        self._seen = SeenRows() if quality is None else quality.seen
        self._count = 0

    @property
    def count(self) -> int:
        return self._count if self._quality is None else self._quality.duplicates

    @property
    def warnings(self) -> tuple[str, ...]:
        if not self._seen.full:
            return ()
        return (f"Duplicates were looked for among the first {self._seen.rows:,} rows only.",)

    def watch(self, rows: Iterator[Checked]) -> Iterator[Checked]:
        for row in rows:
            content = content_of(row)
            if self._quality is not None:
                self._quality.add(row, content)
            elif self._seen.seen(hash_of(content), row.number):
                self._count += 1
            yield row


class _Labels:
    """Notices where labelled rows are all of one kind."""

    def __init__(self) -> None:
        self._seen: set[bool] = set()

    def watch(self, rows: Iterator[Checked]) -> Iterator[Checked]:
        for row in rows:
            if row.label is not None:
                self._seen.add(row.label)
            yield row

    @property
    def warnings(self) -> tuple[str, ...]:
        if len(self._seen) != 1:
            return ()
        return (f"Every row has label {str(*self._seen).lower()}; a model learns more where both kinds are shown.",)


def _warnings(report: DatasetReport, max_length: int) -> Iterator[str]:
    if 0 < report.rows < FEW_ROWS:
        yield f"A model learns little from fewer than {FEW_ROWS} rows; the file has {report.rows}."
    if report.duplicate_rows:
        yield f"{report.duplicate_rows:,} of {report.rows:,} rows repeat an earlier row."
    tokens = report.tokens
    if tokens is None:
        return
    if tokens.truncated_rows > MUCH * tokens.rows:
        share = f"{tokens.truncated_rows:,} of {tokens.rows:,} rows"
        yield f"{share} are longer than {max_length:,} tokens and lose their end."
    if tokens.coverage < LITTLE:
        yield f"Only {tokens.coverage:.2%} of the tokens carry loss; the rest is read without being learned from."
    if tokens.untrainable_rows:
        yield f"{tokens.untrainable_rows:,} of {tokens.rows:,} rows lose all that the model could learn to truncation."
