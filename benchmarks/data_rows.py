"""A chat dataset of any size with planted faults, the same for the same size: what `bench-data` measures on.

Rows are sentences of grade-school maths (benchmarks/data/gsm8k.jsonl, MIT licence) in random order, at lengths that
chat data has: about two kilobytes a row, seven rows in ten of one turn each, half with a system prompt. One row in two
hundred is faulty: repeated, nearly repeated, or with personal data, a secret or damage in it.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random

from tests.data.quality.planted import GSM8K, VALUES

SEED = 20_261_126
FAULT_EVERY = 200
REMEMBERED = 2000
"""Rows that may be repeated: an early row, and a late one."""
SYSTEM = ("You are a patient teacher.", "Answer in full sentences and show each step.", "")
_MARKS = re.compile(r"<<[^>]*>>|#### .*|\n")
REPEATS = ("exact_duplicate", "near_duplicate")


def generate(path: Path, size: int) -> dict[str, int]:
    """Write about `size` bytes of rows; how many rows have each planted fault, beside the file and returned."""
    planted: Counter[str] = Counter()
    with path.open("wb") as file:
        for line in _lines(Random(SEED), planted):
            file.write(line)
            if file.tell() >= size:
                break
    path.with_suffix(".planted.json").write_text(json.dumps(planted))
    return dict(planted)


def sentences() -> list[str]:
    """Whole sentences, some thousands, without the marks by which the data set gives its arithmetic to a program."""
    rows = [json.loads(line) for line in GSM8K.read_text(encoding="utf-8").splitlines()]
    texts = [_MARKS.sub(" ", row[side]) for row in rows for side in ("question", "answer")]
    return [f"{part.strip('. ')}." for text in texts for part in text.split(". ") if len(part) > 20]


def _lines(random: Random, planted: Counter[str]) -> Iterator[bytes]:
    pool, kinds = sentences(), (*VALUES, *REPEATS)
    remembered: list[list[str]] = []
    for number in range(10**9):
        turns = _turns(random, pool)
        if number % FAULT_EVERY == FAULT_EVERY - 1:
            kind = kinds[number // FAULT_EVERY % len(kinds)]
            turns = _faulty(turns, kind, random, remembered)
            planted[kind] += 1
        elif len(remembered) < REMEMBERED:
            remembered.append(turns)
        elif random.random() < 0.01:
            remembered[random.randrange(REMEMBERED)] = turns
        yield _line(turns)


def _turns(random: Random, pool: list[str]) -> list[str]:
    """A system prompt, which may be empty, and questions with answers."""
    turns = [random.choice(SYSTEM)]
    for _ in range(1 if random.random() < 0.7 else random.randrange(2, 5)):
        for mean in (1.0, 2.0):
            count = 1 + min(80, int(random.lognormvariate(mean, 0.8)))
            turns.append(" ".join(random.choices(pool, k=count)))
    return turns


def _faulty(turns: list[str], kind: str, random: Random, remembered: list[list[str]]) -> list[str]:
    if kind in REPEATS:
        first = random.choice([turns for turns in remembered if len(turns[-1]) > 400])
        return first if kind == "exact_duplicate" else [*first[:-1], f"{first[-1]} That is {random.random():.9f}."]
    words = turns[-1].split(" ")
    words.insert(random.randrange(len(words)), VALUES[kind](random))
    return [*turns[:-1], " ".join(words)]


def _line(turns: list[str]) -> bytes:
    roles = ("system", *("user", "assistant") * (len(turns) // 2))
    said = [{"role": role, "content": text} for role, text in zip(roles, turns, strict=True) if text]
    return json.dumps({"messages": said}, ensure_ascii=False).encode() + b"\n"
