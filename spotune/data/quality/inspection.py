"""All checks together, while the rows of a file go by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping

from spotune.contracts.dataset import DatasetReport
from spotune.contracts.quality import IssueKind, QualityReport, Unit
from spotune.data.plain import Checked
from spotune.data.quality.balance import BalanceCount
from spotune.data.quality.encoding import damages
from spotune.data.quality.exact import SeenRows
from spotune.data.quality.extremes import (
    LONG_CHARACTERS,
    LONG_FACTOR,
    LONGEST_PLACEHOLDER,
    SHORT_CHARACTERS,
    Longest,
    says_nothing,
)
from spotune.data.quality.languages import UNKNOWN, LanguageCount
from spotune.data.quality.lengths import lengths_of, truncation
from spotune.data.quality.near import lines, near_duplicates, near_matches
from spotune.data.quality.notices import Notices
from spotune.data.quality.private import PrivateValue, addresses, masked, numbers, tokens
from spotune.data.quality.sampling import AlikeSample, SampledRow, answer_of, characters_of, own_text
from spotune.data.quality.screen import suspects
from spotune.data.quality.toxicity import toxic_markers
from spotune.data.rows import hash_of

SAMPLE_CHARACTERS = 8_000_000
"""Of the text in which near duplicates and languages are looked for."""
BATCH_BYTES = 256_000


class QualityCheck:
    """Looks at the rows of one file.

    Fed with `add`, ended by `conclude`. What it keeps is bounded: a table of hashes (50 MB), the text of the sample (8
    million characters) and a batch of rows.
    """

    def __init__(
        self,
        *,
        training: QualityCheck | None = None,
        sample_characters: int = SAMPLE_CHARACTERS,
        toxic: bool = False,
    ) -> None:
        """Args:
        training: the check of the training data, where this file is for evaluation: leaks are then looked for.
        sample_characters: the sample's bound.
        toxic: look for toxic markers as well.
        """
        self._training = training
        self._toxic = toxic
        self._notices = Notices()
        self.seen = SeenRows()
        self._sample = AlikeSample(sample_characters)
        self._longest = Longest()
        self._balance = BalanceCount()
        self._characters: Counter[int] = Counter()
        self._rows: list[Checked] = []
        self._contents: list[bytes] = []
        self._batch_bytes = 0
        self._beyond_ascii = self._damaged = 0
        self._repeated = self._new = 0
        self._report: QualityReport | None = None

    @property
    def duplicates(self) -> int:
        """Rows so far that repeat an earlier one."""
        return self._repeated

    def add(self, row: Checked, content: bytes) -> None:
        """Look at a row; `content` is what `content_of` says of it."""
        self._compare(row, content)
        self._rows.append(row)
        self._contents.append(content)
        self._batch_bytes += len(content)
        if self._batch_bytes >= BATCH_BYTES:
            self._look()

    @property
    def report(self) -> QualityReport:
        """What was seen; only after `conclude`."""
        if self._report is None:
            raise ValueError("the check has not been concluded")
        return self._report

    def conclude(self, dataset: DatasetReport, max_length: int, counted: Mapping[int, int] | None = None) -> None:
        """End the check after the last row.

        Args:
            dataset: the report on the same file's faults.
            max_length: tokens that rows are cut to.
            counted: rows by their length in tokens, where these were counted.
        """
        self._look()
        sampled = self._sample.rows()
        languages = self._look_closer(sampled)
        unit: Unit = "tokens" if counted else "characters"
        counts = counted or self._characters
        self._note_too_long()
        invalid = any(fault.rule == "invalid_utf8" for fault in dataset.faults)
        self._report = QualityReport(
            uri=dataset.uri,
            bytes=dataset.bytes,
            rows=dataset.rows,
            format=dataset.format,
            sampled_rows=len(sampled),
            compared_with="" if self._training is None else self._training.report.uri,
            lengths=lengths_of(counts, unit),
            truncation=tuple(truncation(counts, max_length, unit)),
            truncation_estimated=unit == "characters",
            issues=self._notices.issues(dataset.rows, self._looked_at(sampled)),
            languages=languages.shares(),
            balances=self._balance.balances(),
            mixed_encodings=invalid or 0 < self._damaged < self._beyond_ascii,
            notes=tuple(self._notes(len(sampled))),
        )

    def _compare(self, row: Checked, content: bytes) -> None:
        """With what was seen before; what is new may be sampled."""
        line, digest = row.number, hash_of(content)
        first = self.seen.seen(digest, line)
        other = 0 if self._training is None else self._training.seen.line_of(digest)
        if first:
            self._repeated += 1
            self._notices.add("exact_duplicate", line, f"the same as line {first}")
        if other:
            self._notices.add("leaked", line, f"the same as line {other} of the training data")
        if not first and not other:
            self._new += 1
            self._sample.offer(row, content, digest)

    def _look(self) -> None:
        """At a batch: what is cheap in every row, and with care where the screen saw something."""
        if not self._rows:
            return
        self._measure()
        self._balance.add(self._rows)
        found = suspects(self._contents)
        for index in sorted(found.addresses | found.tokens | found.numbers):
            looks = ((addresses, found.addresses), (tokens, found.tokens), (numbers, found.numbers))
            self._note_private(index, [look for look, rows in looks if index in rows])
        damaged = [index for index in sorted(found.damage) if self._note_damage(index)]
        self._beyond_ascii += found.beyond_ascii
        self._damaged += len(damaged)
        if self._toxic:
            self._note_toxic()
        self._rows, self._contents, self._batch_bytes = [], [], 0

    def _measure(self) -> None:
        lengths = [characters_of(row) for row in self._rows]
        self._characters.update(lengths)
        if min(lengths) < SHORT_CHARACTERS or max(lengths) > LONG_CHARACTERS:
            self._note_extremes(lengths)
        for row in self._rows:
            answer = answer_of(row)
            if len(answer) <= LONGEST_PLACEHOLDER and says_nothing(answer):
                self._notices.add("says_nothing", row.number, f"{len(answer)} characters")

    def _note_extremes(self, lengths: list[int]) -> None:
        for row, length in zip(self._rows, lengths, strict=True):
            if length < SHORT_CHARACTERS:
                self._notices.add("too_short", row.number, f"{length} characters")
            elif length > LONG_CHARACTERS:
                self._longest.add(length, row.number)

    def _note_private(self, index: int, looks: Iterable[Callable[[str], Iterator[PrivateValue]]]) -> None:
        text = self._contents[index].decode()
        for look in looks:
            for value in look(text):
                self._notices.add(value.kind, self._rows[index].number, masked(value, text))

    def _note_damage(self, index: int) -> bool:
        seen = list(damages(self._contents[index].decode()))
        for damage in seen:
            self._notices.add(damage.kind, self._rows[index].number, damage.detail)
        return any(damage.kind == "mojibake" for damage in seen)

    def _note_toxic(self) -> None:
        for row in self._rows:
            if count := toxic_markers(own_text(row)):
                self._notices.add("toxic", row.number, f"{count:,} of them")

    def _note_too_long(self) -> None:
        usual = lengths_of(self._characters, "characters")
        if usual is not None:
            for line, length in self._longest.beyond(LONG_FACTOR * usual.p95):
                self._notices.add("too_long", line, f"{length:,} characters; 95 % have {usual.p95:,} at most")

    def _look_closer(self, sampled: list[SampledRow]) -> LanguageCount:
        for line, words in lines(near_duplicates(sampled)):
            self._notices.add("near_duplicate", line, words)
        if self._training is not None:
            for line, words in lines(near_matches(self._comparable(sampled), self._training._sample.rows())):
                self._notices.add("nearly_leaked", line, f"{words} of the training data")
        languages = LanguageCount()
        found = [(row.number, languages.add(row.text)) for row in sampled]
        if main := languages.main:
            for line, language in found:
                if language not in (main, UNKNOWN):
                    self._notices.add("minority_language", line, language)
        return languages

    def _comparable(self, sampled: list[SampledRow]) -> list[SampledRow]:
        """Rows whose like in the training data, if there is one, is in that one's sample."""
        training = self._training
        return [] if training is None else [row for row in sampled if row.draw < training._sample.limit]

    def _looked_at(self, sampled: list[SampledRow]) -> dict[IssueKind, int]:
        return {
            "near_duplicate": len(sampled),
            "minority_language": len(sampled),
            "nearly_leaked": len(self._comparable(sampled)),
        }

    def _notes(self, sampled: int) -> Iterator[str]:
        if sampled < self._new:
            yield (
                f"Near duplicates and languages were looked for in {sampled:,} of {self._new:,} different rows, chosen "
                "by their text so that rows that resemble each other are chosen together."
            )
        if self.seen.full:
            yield f"Exact duplicates were looked for among the first {self.seen.rows:,} different rows."
        if self._training is not None and self._training.seen.full:
            remembered = self._training.seen.rows
            yield f"Leaks were looked for among the first {remembered:,} different rows of the training data."
