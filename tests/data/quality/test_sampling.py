"""The bounded sample, the bounded table, and how little memory both take."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator
from random import Random

import pytest

from spotune.data.checks import check_dataset
from spotune.data.plain import PlainChat, content_of
from spotune.data.quality import QualityCheck, exact
from spotune.data.quality.exact import SeenRows
from spotune.data.quality.sampling import AlikeSample
from spotune.data.rows import hash_of
from tests.data.quality.planted import Planted, clean_rows

WORDS = [f"word{number}" for number in range(2000)]


def chat(number: int, asked: str, answered: str) -> PlainChat:
    return PlainChat(number, 100, ("user", "assistant"), (asked, answered))


def offered(sample: AlikeSample, rows: list[PlainChat]) -> list[int]:
    for row in rows:
        content = content_of(row)
        sample.offer(row, content, hash_of(content))
    return [row.number for row in sample.rows()]


def sentence(random: Random, words: int = 60) -> str:
    return "e ".join(" ".join(random.choices(WORDS, k=5)) for _ in range(words // 5))


def test_a_sample_keeps_within_its_bound_and_is_the_same_each_time() -> None:
    random = Random(1)
    rows = [chat(number, sentence(random), sentence(random)) for number in range(1, 501)]
    first, second = AlikeSample(60_000), AlikeSample(60_000)
    lines = offered(first, rows)
    assert lines == offered(second, rows) == sorted(lines)
    assert 20 < len(lines) < 500
    assert sum(len(row.text) for row in first.rows()) <= 60_000
    assert offered(AlikeSample(10**9), rows) == list(range(1, 501))


def test_rows_that_resemble_each_other_are_chosen_together() -> None:
    """By chance alone a sample of a tenth would have both rows of a hundredth of the pairs."""
    random = Random(2)
    rows = []
    for number in range(1, 2001, 2):
        asked, answered = sentence(random), sentence(random)
        words = answered.split(" ")
        words[random.randrange(len(words))] = "changed"
        rows += [chat(number, asked, answered), chat(number + 1, asked, " ".join(words))]
    sample = AlikeSample(sum(len(text) for row in rows for text in row.contents) // 10)
    lines = set(offered(sample, rows))
    together = sum({number, number + 1} <= lines for number in range(1, 2001, 2))
    assert 150 < len(lines) < 250
    assert together > 0.6 * len(lines) / 2  # by chance: a tenth


def test_near_duplicates_are_found_in_a_sample_of_a_tenth() -> None:
    rows = clean_rows(1000)
    for number in range(0, 1000, 2):
        rows[number + 1] = json.loads(json.dumps(rows[number]).replace(" the ", " that ", 1))
    quality = QualityCheck(sample_characters=50_000)
    body = Planted(rows).body
    check_dataset([body], uri="x", tokenizer=None, max_length=99, quality=quality)
    issue = quality.report.issue("near_duplicate")
    assert issue is not None
    assert issue.looked_at == quality.report.sampled_rows < 200
    assert issue.rows > 0.35 * issue.looked_at
    assert "chosen together" in quality.report.notes[0]


def test_a_table_finds_what_it_has_seen_and_nothing_else() -> None:
    seen = SeenRows()
    digests = [hash_of(str(number).encode()) for number in range(50_000)]
    assert not any(seen.seen(digest, line) for line, digest in enumerate(digests, start=1))
    assert [seen.seen(digest, 99) for digest in digests] == list(range(1, 50_001))
    assert [seen.line_of(digest) for digest in digests] == list(range(1, 50_001))
    assert seen.line_of(hash_of(b"other")) == 0
    assert (seen.rows, seen.full) == (50_000, False)


def test_hashes_that_want_one_slot_all_find_a_place() -> None:
    seen = SeenRows()
    last = exact._SLOTS - 1
    digests = [(last + number * exact._SLOTS).to_bytes(8, "little") for number in range(50)]
    digests += [bytes(8), (1).to_bytes(8, "little")]
    for line, digest in enumerate(digests, start=1):
        assert seen.seen(digest, line) == 0
    assert [seen.line_of(digest) for digest in digests] == list(range(1, len(digests) + 1))


def test_a_full_table_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact, "MAX_REMEMBERED_ROWS", 3)
    seen = SeenRows()
    digests = [hash_of(str(number).encode()) for number in range(4)]
    assert [seen.seen(digest, line) for line, digest in enumerate([*digests, *digests], start=1)] == [0] * 4 + [
        1,
        2,
        3,
        0,
    ]
    assert seen.full


def test_memory_does_not_grow_with_the_file() -> None:
    assert peak_of(12_000) < 1.2 * peak_of(3_000)


def peak_of(rows: int) -> int:
    """Of Python's own allocations: the table is the system's, and of fixed size."""
    quality = QualityCheck(sample_characters=200_000)
    tracemalloc.start()
    check_dataset(generated(rows), uri="x", tokenizer=None, max_length=99, quality=quality)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert quality.report.rows == rows
    return peak


def generated(rows: int) -> Iterator[bytes]:
    random = Random(7)
    for number in range(rows):
        answer = f"{' '.join(random.choices(WORDS, k=60))} {number}.a@gmail.com"
        turns = [{"role": "user", "content": f"Question {number}?"}, {"role": "assistant", "content": answer}]
        yield json.dumps({"messages": turns}).encode() + b"\n"
