"""What must be true of a chat: its messages one by one, then their order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast, get_args

from spotune.data.faults import FaultList
from spotune.data.parsing import clip
from spotune.data.rows import Message, Role, ToolCall
from spotune.data.strings import read_string
from spotune.data.tools import check_calls, read_calls

MAX_MESSAGES = 1000
"""Finding the loss of a chat renders it once for each assistant turn: the cost grows with the square."""

_ROLES = frozenset(get_args(Role))
_ROLE_HINTS = {
    "human": "Rename the role to user.",
    "gpt": "Rename the role to assistant.",
    "bot": "Rename the role to assistant.",
    "model": "Rename the role to assistant.",
    "developer": "Rename the role to system.",
    "function": "Rename the role to tool, and name the call that it answers in tool_call_id.",
}
_MESSAGE_FIELDS: dict[Role, frozenset[str]] = {
    "system": frozenset({"role", "content"}),
    "user": frozenset({"role", "content"}),
    "assistant": frozenset({"role", "content", "weight", "tool_calls"}),
    "tool": frozenset({"role", "content", "tool_call_id"}),
}
_MESSAGE_HINTS = {
    "function_call": "Write it as tool_calls, OpenAI's newer shape.",
    "tool_calls": "Only assistant turns call tools.",
    "tool_call_id": "Only tool turns answer a call.",
    "from": "Rename it to `role`.",
    "value": "Rename it to `content`.",
}


def read_chat(value: object, tools: str, line: int, faults: FaultList) -> tuple[Message, ...]:
    """The messages of a whole chat; the empty tuple, and faults, where they cannot be trained on."""
    messages = read_turns(value, "messages", line, faults)
    if not faults.noted(line):
        check_chat(messages, fields_of("messages", messages), tools, line, faults)
    return messages


def fields_of(field: str, messages: Sequence[Message]) -> list[str]:
    """The path of each message of a list."""
    return [f"{field}[{index}]" for index in range(len(messages))]


def read_turns(value: object, field: str, line: int, faults: FaultList) -> tuple[Message, ...]:
    """Messages one by one, whatever their order."""
    if not isinstance(value, list):
        faults.add(line, field, "not_a_list", f"{field} is not a list")
        return ()
    if len(value) > MAX_MESSAGES:
        message = f"the chat has {len(value):,} messages; {MAX_MESSAGES:,} is the limit"
        faults.add(line, field, "too_many_messages", message)
        return ()
    return tuple(_read_message(item, f"{field}[{index}]", line, faults) for index, item in enumerate(value))


def _read_message(value: object, field: str, line: int, faults: FaultList) -> Message:
    """A message; where a part of it is a fault, what stands in for that part is never used."""
    if not isinstance(value, dict):
        faults.add(line, field, "not_a_message", f"{field} is not an object")
        return Message("user", "")
    given = {name: part for name, part in value.items() if not (name == "tool_calls" and part is None)}
    role = _read_role(given["role"], f"{field}.role", line, faults) if "role" in given else None
    _check_fields(given, role, field, line, faults)
    calls: tuple[ToolCall, ...] = ()
    if role == "assistant" and "tool_calls" in given:
        calls = read_calls(given["tool_calls"], f"{field}.tool_calls", line, faults)
    weight = given.get("weight", 1)
    if "weight" in given and (role != "assistant" or type(weight) is not int or weight not in (0, 1)):
        faults.add(line, f"{field}.weight", "wrong_weight", f"{field} cannot have this weight")
    call_id = given.get("tool_call_id", "") if role == "tool" else ""
    return Message(
        role or "user",
        _read_content(given, role, field, line, faults),
        1 if weight == 1 else 0,
        calls,
        read_string(call_id, f"{field}.tool_call_id", line, faults) if call_id != "" else "",
    )


def _check_fields(given: dict[str, object], role: Role | None, field: str, line: int, faults: FaultList) -> None:
    known = _MESSAGE_FIELDS[role or "assistant"] | {"weight"}
    if unknown := [key for key in given if key not in known]:
        names = ", ".join(clip(key) for key in unknown[:8])
        hint = next((_MESSAGE_HINTS[key] for key in unknown if key in _MESSAGE_HINTS), "")
        path = f"{field}.{clip(unknown[0], quote=False)}"
        whose = f"{role} message" if role is not None and unknown[0] in _MESSAGE_HINTS else "message"
        faults.add(line, path, "unknown_field", f"a {whose} has no field {names}", hint)
    needed = ["role"] + ["content"] * ("tool_calls" not in given) + ["tool_call_id"] * (role == "tool")
    for name in needed:
        if name not in given:
            faults.add(line, f"{field}.{name}", "missing_field", f"{field} has no {name}")


def _read_content(given: dict[str, object], role: Role | None, field: str, line: int, faults: FaultList) -> str:
    """A turn of calls may say nothing, and a tool may answer nothing."""
    content = given.get("content")
    if "content" not in given or (content is None and "tool_calls" in given):
        return ""
    may_be_empty = role == "tool" or "tool_calls" in given
    return read_string(content, f"{field}.content", line, faults, may_be_empty=may_be_empty)


def _read_role(value: object, field: str, line: int, faults: FaultList) -> Role | None:
    if isinstance(value, str) and value in _ROLES:
        return cast(Role, value)
    if isinstance(value, str):
        faults.add(line, field, "wrong_role", f"{field} is {clip(value)}", _ROLE_HINTS.get(value, ""))
    else:
        faults.add(line, field, "wrong_role", f"{field} is not a string")
    return None


def check_chat(messages: Sequence[Message], fields: Sequence[str], tools: str, line: int, faults: FaultList) -> None:
    """What must be true of the messages together.

    Args:
        messages: the whole chat.
        fields: the path of each in its row, for the faults.
        tools: those that the row declares, as JSON text.
    """
    whole = fields[0].partition("[")[0] if fields else "messages"
    if not any(message.role == "assistant" for message in messages):
        faults.add(line, whole, "no_assistant_turn", "the chat has no assistant turn")
        return
    if not any(message.trained for message in messages):
        faults.add(line, whole, "nothing_trained", "every assistant turn of the chat has weight 0")
    before = faults.count
    _check_order(messages, fields, line, faults)
    if faults.count == before:
        check_calls(messages, fields, tools, line, faults)


def _check_order(messages: Sequence[Message], fields: Sequence[str], line: int, faults: FaultList) -> None:
    for index, message in enumerate(messages):
        before = messages[index - 1].role if index else None
        if message.role == "system" and index:
            problem = "the system turn is not the first"
        elif message.role == "assistant" and before not in ("user", "tool"):
            problem = f"an assistant turn follows {f'the {before} turn' if before else 'nothing'}, not a user turn"
        elif message.role == "tool" and before not in ("assistant", "tool"):
            problem = f"a tool turn follows {f'the {before} turn' if before else 'nothing'}, not the assistant's calls"
        else:
            continue
        faults.add(line, f"{fields[index]}.role", "wrong_order", problem)
        return
    if messages[-1].role != "assistant":
        problem = f"the last turn is the {messages[-1].role}'s, not the assistant's"
        faults.add(line, f"{fields[-1]}.role", "wrong_order", problem)
