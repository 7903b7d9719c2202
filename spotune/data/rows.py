"""One row of a dataset, whatever format its file has."""

from __future__ import annotations

from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Literal

from spotune.contracts.dataset import RowFormat

Role = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A function that the assistant asks for. `arguments` is the JSON text of an object."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a chat. An assistant turn of weight 0 is context: it carries no loss."""

    role: Role
    content: str
    """Empty where the turn is nothing but calls."""
    weight: int = 1
    calls: tuple[ToolCall, ...] = ()
    """Of an assistant turn."""
    call_id: str = ""
    """Of a tool turn: the call that it answers."""

    @property
    def trained(self) -> bool:
        """True where the turn carries loss."""
        return self.role == "assistant" and self.weight == 1


@dataclass(frozen=True, slots=True)
class Example:
    """One good row.

    `chat` rows have `messages`. `completion` rows have `prompt` and `completion`. `instruction` rows have both views:
    a user and an assistant turn, and the same as prompt and completion. `text` rows have `text`. `preference` and
    `labelled` rows are a chat or a completion, of which the answer alone carries loss; a `preference` row is the
    preferred one of two, and `rejected` is the other, a row of its own with the same prompt.
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
    tools: str = ""
    """JSON text of the functions that a chat's assistant may call; empty where it declares none."""
    rejected: Example | None = None
    label: bool | None = None
    """Of a `labelled` row: whether the answer is a good one."""

    @property
    def answer(self) -> int:
        """Index of the last message that carries loss."""
        return max(index for index, message in enumerate(self.messages) if message.trained)

    @property
    def sides(self) -> tuple[Example, ...]:
        """The row itself and, of a preference, the rejected one."""
        return (self,) if self.rejected is None else (self, self.rejected)


def only_last_turn(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """The same chat with the loss on the last of its trained turns alone."""
    last = max((index for index, message in enumerate(messages) if message.trained), default=-1)
    return tuple(
        replace(message, weight=0) if message.trained and index != last else message
        for index, message in enumerate(messages)
    )


def content_bytes(example: Example) -> bytes:
    """All that a model may see of a row, the same for rows of equal content. NUL separates its parts, as no good row
    holds one."""
    return "\0".join(_parts(example)).encode()


def content_hash(example: Example) -> bytes:
    """16 bytes that are equal for rows of equal content, wherever they stand in the file."""
    return hash_of(content_bytes(example))


def hash_of(content: bytes) -> bytes:
    """The hash of a row's `content_bytes`."""
    return blake2b(content, digest_size=16).digest()


def split_hash(example: Example) -> bytes:
    """16 bytes that are equal for rows that belong on the same side of a split.

    Of rows that judge answers those of the prompt alone, since one prompt may have many answers.
    """
    if example.rejected is None and example.label is None:
        return content_hash(example)
    asked = replace(example, messages=example.messages[:-1], completion="", rejected=None, label=None)
    return content_hash(asked)


def prompt_hash(example: Example) -> bytes:
    """16 bytes that are equal for rows that ask the same: of all that stands before the last answer.

    A text asks nothing, so that its own content stands for it.
    """
    if example.format == "text":
        return content_hash(example)
    before = example.messages[: example.answer] if example.messages else ()
    prompt = "" if example.messages else example.prompt
    asked = tuple(replace(message, weight=1) for message in before)
    return content_hash(replace(example, messages=asked, prompt=prompt, completion="", rejected=None, label=None))


def _parts(example: Example) -> list[str]:
    """What tells rows apart."""
    parts: list[str] = [example.format, example.prompt, example.completion, example.text]
    for message in example.messages:
        parts += (f"{message.role}{message.weight}", message.content)
        for call in message.calls:
            parts += ("call", call.id, call.name, call.arguments)
        if message.call_id:
            parts += ("answers", message.call_id)
    if example.tools:
        parts += ("tools", example.tools)
    if example.label is not None:
        parts.append(f"label {example.label}")
    if example.rejected is not None:
        parts.append("rejected")
        parts += _parts(example.rejected)
    return parts
