"""One row of a dataset, whatever format its file has."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal

from spotune.contracts.dataset import RowFormat

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a chat. An assistant turn of weight 0 is context: it carries no loss."""

    role: Role
    content: str
    weight: int = 1

    @property
    def trained(self) -> bool:
        """True where the turn carries loss."""
        return self.role == "assistant" and self.weight == 1


@dataclass(frozen=True, slots=True)
class Example:
    """One good row.

    `chat` rows have `messages`. `completion` rows have `prompt` and `completion`. `instruction` rows have both views:
    a user and an assistant turn, and the same as prompt and completion. `text` rows have `text`.
    """

    number: int
    """The line it came from, counted from 1."""
    format: RowFormat
    messages: tuple[Message, ...] = ()
    prompt: str = ""
    completion: str = ""
    text: str = ""
    size: int = 0
    """Bytes of its line."""
    slice: str = ""
    """The part of the data that it counts to in the report; empty for none."""
    choices: tuple[str, ...] = ()
    """Answers to choose from in the evaluation, its own among them; empty where it is no multiple choice."""

    @property
    def answer(self) -> int:
        """Index of the last message that carries loss."""
        return max(index for index, message in enumerate(self.messages) if message.trained)


def content_hash(example: Example) -> bytes:
    """16 bytes that are equal for rows of equal content, wherever they stand in the file.

    NUL separates the parts: no good row holds one.
    """
    parts = [example.format, example.prompt, example.completion, example.text]
    for message in example.messages:
        parts += (f"{message.role}{message.weight}", message.content)
    return blake2b("\0".join(parts).encode(), digest_size=16).digest()
