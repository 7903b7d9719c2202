"""A chat as the objects that chat templates read, and a chat to try a template's tools with."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from spotune.data.rows import Message, ToolCall


@dataclass(frozen=True, slots=True)
class Manner:
    """How calls are passed. Most templates want the arguments as an object, which they write as JSON themselves."""

    arguments_as_text: bool
    empty_content: bool
    """A turn of calls alone has an empty `content`; otherwise none, as transformers passes OpenAI's null."""


MANNERS = (Manner(False, False), Manner(False, True), Manner(True, False), Manner(True, True))
"""In the order in which they are tried."""

PROBE_WORDS = {
    "tools": "probe_declared",
    "calls": "probe_called",
    "arguments": "probe value",
    "results": "probe result",
}
PROBE_TOOLS = json.dumps(
    [
        {
            "type": "function",
            "function": {
                "name": name,
                "description": "A function.",
                "parameters": {"type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"]},
            },
        }
        for name in (PROBE_WORDS["tools"], PROBE_WORDS["calls"])
    ]
)
PROBE = (
    Message("user", "Look it up."),
    Message(
        "assistant",
        "",
        calls=(ToolCall("call00001", PROBE_WORDS["calls"], json.dumps({"word": PROBE_WORDS["arguments"]})),),
    ),
    Message("tool", PROBE_WORDS["results"], call_id="call00001"),
    Message("assistant", "Done."),
)
"""The call's id has nine letters and digits, as Mistral's templates demand."""


def as_passed(messages: Sequence[Message], manner: Manner) -> list[dict[str, object]]:
    """The messages in OpenAI's shape, each tool turn also with the name of the function that it answers."""
    names: dict[str, str] = {}
    passed = []
    for message in messages:
        names |= {call.id: call.name for call in message.calls}
        passed.append(_as_passed(message, names.get(message.call_id, ""), manner))
    return passed


def _as_passed(message: Message, answered: str, manner: Manner) -> dict[str, object]:
    turn: dict[str, object] = {"role": message.role}
    if message.content or not message.calls or manner.empty_content:
        turn["content"] = message.content
    if message.calls:
        turn["tool_calls"] = [_call(call, manner) for call in message.calls]
    if message.role == "tool":
        turn |= {"tool_call_id": message.call_id, "name": answered}
    return turn


def _call(call: ToolCall, manner: Manner) -> dict[str, object]:
    arguments = call.arguments if manner.arguments_as_text else json.loads(call.arguments)
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}}
