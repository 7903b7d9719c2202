"""What the held-out rows ask: prompts to answer freely, and prompts with answers to choose from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import torch

from spotune.data.rows import Example, Message
from spotune.data.tokens import RowTokenizer
from training_container.corpus import Row


@dataclass(frozen=True, slots=True)
class Question:
    """A held-out prompt in tokens and as text, and the answer that belongs to it."""

    ids: list[int]
    text: str
    reference: str
    slice: str


@dataclass(frozen=True, slots=True)
class Choice:
    """A held-out row once with each of its possible answers, and which of them is its own."""

    rows: tuple[Row, ...]
    right: int
    slice: str


def questions_of(examples: Iterable[Example], tokenizer: RowTokenizer) -> tuple[Question, ...]:
    """One for each example."""
    return tuple(
        Question(tokenizer.prompt(example), _shown(example), tokenizer.reference(example), example.slice)
        for example in examples
    )


def choices_of(examples: Iterable[Example], tokenizer: RowTokenizer, max_length: int) -> tuple[Choice, ...]:
    """One for each example that has choices, but for those of which an answer is cut off at `max_length` tokens."""
    return tuple(_choices(examples, tokenizer, max_length))


def _choices(examples: Iterable[Example], tokenizer: RowTokenizer, max_length: int) -> Iterator[Choice]:
    for example in examples:
        encoded = [tokenizer.encode(_answered(example, answer), max_length) for answer in example.choices]
        if encoded and all(each.length <= max_length for each in encoded):
            rows = tuple(
                Row(torch.tensor(each.ids, dtype=torch.int32), torch.tensor(each.trained, dtype=torch.bool))
                for each in encoded
            )
            yield Choice(rows, example.choices.index(tokenizer.reference(example)), example.slice)


def _answered(example: Example, answer: str) -> Example:
    """The row with this answer in place of its own, and nothing after it."""
    if not example.messages:
        return replace(example, completion=answer)
    messages = (*example.messages[: example.answer], Message("assistant", answer))
    return replace(example, messages=messages, completion=answer)


def _shown(example: Example) -> str:
    """The prompt as a person reads it."""
    if example.messages:
        return "\n".join(f"{message.role}: {message.content}" for message in example.messages[: example.answer])
    return example.prompt
