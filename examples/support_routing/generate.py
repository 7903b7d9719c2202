"""Writes the support-routing dataset: tickets made from `material.toml`, each with the one right routing decision.

    python examples/support_routing/generate.py

The same material gives the same bytes. Training and held-out rows share no phrase, name, product or date, so that a
model can only do well on the held-out rows by having understood what routing is about.

The rule behind the answers: the intent is the ticket's problem and names its team. The priority is urgent where
the writer says so, and always for an outage; low where the writer says that it can wait; normal otherwise.
"""

from __future__ import annotations

import json
import random
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

FOLDER = Path(__file__).resolve().parent
SYSTEM_PROMPT = "Route the ticket as JSON."
SEED = 7

Split = Literal["training", "heldout"]
FILES: dict[Split, str] = {"training": "train.jsonl", "heldout": "heldout.jsonl"}
PRIORITIES: dict[Split, dict[str, int]] = {
    "training": {"urgent": 14, "normal": 18, "low": 16},
    "heldout": {"urgent": 3, "normal": 4, "low": 3},
}
"""Tickets of each priority for every intent that leaves it to the writer."""

ALWAYS_URGENT = frozenset({"outage"})

T = TypeVar("T")


def main() -> None:
    """Write both files beside this one."""
    for split, name in FILES.items():
        rows = list(generate(split))
        (FOLDER / name).write_text(to_jsonl(rows), encoding="utf-8", newline="\n")
        print(f"{name}: {len(rows)} rows")


def generate(split: Split) -> Iterator[dict[str, Any]]:
    """The rows of one split in OpenAI's chat format, shuffled by a fixed seed."""
    material = tomllib.loads((FOLDER / "material.toml").read_text(encoding="utf-8"))
    rng = random.Random(f"{SEED} {split}")
    writer = Writer(material, split, rng)
    decisions = [
        (intent, priority)
        for intent in material["intents"]
        for priority, count in PRIORITIES[split].items()
        for _ in range(count)
    ]
    rng.shuffle(decisions)
    for intent, asked in decisions:
        priority = "urgent" if intent in ALWAYS_URGENT else asked
        answer = {"intent": intent, "team": material["intents"][intent]["team"], "priority": priority}
        yield chat(writer.ticket(intent, asked), json.dumps(answer))


def chat(ticket: str, answer: str) -> dict[str, Any]:
    """One training example."""
    return {
        "messages": [
            {"role": "system", "content": SYSTEM_PROMPT},
            {"role": "user", "content": ticket},
            {"role": "assistant", "content": answer},
        ]
    }


def to_jsonl(rows: list[dict[str, Any]]) -> str:
    """One line a row, in readable UTF-8."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


class Deck(Generic[T]):
    """Deals its cards in random order and shuffles anew when it is out of them: everything gets used about evenly."""

    def __init__(self, cards: list[T], rng: random.Random) -> None:
        self._cards = cards
        self._rng = rng
        self._left: list[T] = []

    def deal(self) -> T:
        """The next card."""
        if not self._left:
            self._left = self._cards[:]
            self._rng.shuffle(self._left)
        return self._left.pop()


@dataclass(frozen=True)
class Letter:
    """A ticket before it is laid out. Any part but the body may be empty."""

    greeting: str
    body: str
    closing: str
    name: str


class Writer:
    """Composes tickets from one split's half of the material."""

    def __init__(self, material: dict[str, Any], split: Split, rng: random.Random) -> None:
        def decks(table: dict[str, Any]) -> dict[str, Deck[str]]:
            return {name: Deck(entry[split], rng) for name, entry in table.items()}

        self._rng = rng
        self._problems = decks(material["intents"])
        self._hurry = decks(material["priority"])
        self._phrases = decks(material["phrases"])
        self._entities = decks(material["entities"])
        self._misspellings: dict[str, str] = material["misspellings"]
        self._written: set[str] = set()

    def ticket(self, intent: str, priority: str) -> str:
        """A ticket with this problem, in the words of somebody with that much of a hurry; never the same one twice.

        An outage is told without a word on its hurry, or as urgent; never as something that can wait.
        """
        if intent in ALWAYS_URGENT:
            priority = "urgent" if priority == "urgent" else "normal"
        while (text := self._write(intent, priority)) in self._written:
            pass
        self._written.add(text)
        return text

    def _write(self, intent: str, priority: str) -> str:
        body = self._body(self._problems[intent].deal(), priority)
        letter = Letter(
            greeting=self._maybe("greeting", 0.45),
            body=self._fill(body),
            closing=self._maybe("closing", 0.4),
            name=self._entities["name"].deal() if self._rng.random() < 0.3 else "",
        )
        return self._hasten(self._lay_out(letter))

    def _body(self, problem: str, priority: str) -> str:
        background = self._maybe("background", 0.2)
        if priority == "normal":
            return _sentences(background, problem)
        hurry = self._hurry[priority].deal()
        if hurry[-1] in ".!" and self._rng.random() < 0.25:
            return _sentences(hurry, background, problem)
        return _sentences(background, problem, hurry)

    def _maybe(self, phrase: str, probability: float) -> str:
        return self._phrases[phrase].deal() if self._rng.random() < probability else ""

    def _fill(self, text: str) -> str:
        return re.sub(r"\{(\w+)\}", lambda slot: self._value(slot[1]), text)

    def _value(self, slot: str) -> str:
        match slot:
            case "few":
                return str(self._rng.randint(2, 9))
            case "many":
                return str(self._rng.randint(12, 95))
            case "order":
                return f"{self._rng.choice('ABHKRT')}{self._rng.choice('CLPXZ')}-{self._rng.randint(10_000, 99_999)}"
            case "amount":
                return f"{self._rng.choice('£$€')}{self._rng.randint(9, 420)}{self._rng.choice(['', '.50', '.99'])}"
        return self._entities[slot].deal()

    def _lay_out(self, letter: Letter) -> str:
        if self._rng.random() < 0.35:
            ending = "\n".join(filter(None, (letter.closing, letter.name)))
            return "\n\n".join(filter(None, (letter.greeting, letter.body, ending)))
        return _sentences(letter.greeting, letter.body, letter.closing, letter.name)

    def _hasten(self, text: str) -> str:
        """Some people write in haste: no capitals, no full stop at the end, words misspelt."""
        if self._rng.random() < 0.15:
            text = text.lower().removesuffix(".")
        if self._rng.random() < 0.2:
            text = self._misspell(text)
        return text

    def _misspell(self, text: str) -> str:
        known = [word for word in re.findall(r"[\w']+", text) if word in self._misspellings]
        for word in self._rng.sample(known, min(2, len(known))):
            text = re.sub(rf"\b{re.escape(word)}\b", self._misspellings[word], text, count=1)
        return text


def _sentences(*parts: str) -> str:
    return " ".join(filter(None, parts))


if __name__ == "__main__":
    main()
