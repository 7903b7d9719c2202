"""What must be true of a chat: its messages one by one, then their order."""

from __future__ import annotations

from typing import cast, get_args

from spotune.data.faults import FaultList
from spotune.data.parsing import clip
from spotune.data.rows import Message, Role
from spotune.data.strings import read_string

MAX_MESSAGES = 1000
"""Finding the loss of a chat renders it once for each assistant turn: the cost grows with the square."""

_ROLES = frozenset(get_args(Role))
_TOOL_ROLES = frozenset({"tool", "function"})
_ROLE_HINTS = {
    "human": "Rename the role to user.",
    "gpt": "Rename the role to assistant.",
    "bot": "Rename the role to assistant.",
    "model": "Rename the role to assistant.",
    "developer": "Rename the role to system.",
}
_MESSAGE_FIELDS = frozenset({"role", "content", "weight"})
_MESSAGE_HINTS = {
    "tool_calls": "Tool calls cannot be trained on yet: remove the field.",
    "function_call": "Tool calls cannot be trained on yet: remove the field.",
    "from": "Rename it to `role`.",
    "value": "Rename it to `content`.",
}


def read_messages(value: object, line: int, faults: FaultList) -> tuple[Message, ...]:
    """The chat's messages; the empty tuple, and faults, where they cannot be trained on."""
    if not isinstance(value, list):
        faults.add(line, "messages", "not_a_list", "messages is not a list")
        return ()
    if len(value) > MAX_MESSAGES:
        message = f"the chat has {len(value):,} messages; {MAX_MESSAGES:,} is the limit"
        faults.add(line, "messages", "too_many_messages", message)
        return ()
    before = faults.count
    messages = tuple(_read_message(item, f"messages[{index}]", line, faults) for index, item in enumerate(value))
    if faults.count == before:
        _check_order(messages, line, faults)
    return messages


def _read_message(value: object, field: str, line: int, faults: FaultList) -> Message:
    """A message; where a part of it is a fault, what stands in for that part is never used."""
    if not isinstance(value, dict):
        faults.add(line, field, "not_a_message", f"{field} is not an object")
        return Message("user", "")
    if unknown := [key for key in value if key not in _MESSAGE_FIELDS]:
        names = ", ".join(clip(key) for key in unknown[:8])
        hint = next((_MESSAGE_HINTS[key] for key in unknown if key in _MESSAGE_HINTS), "")
        path = f"{field}.{clip(unknown[0], quote=False)}"
        faults.add(line, path, "unknown_field", f"a message has no field {names}", hint)
    for name in ("role", "content"):
        if name not in value:
            faults.add(line, f"{field}.{name}", "missing_field", f"{field} has no {name}")
    role = _read_role(value["role"], f"{field}.role", line, faults) if "role" in value else "user"
    content = read_string(value["content"], f"{field}.content", line, faults) if "content" in value else ""
    weight = value.get("weight", 1)
    if "weight" in value and (role != "assistant" or type(weight) is not int or weight not in (0, 1)):
        faults.add(line, f"{field}.weight", "wrong_weight", f"{field} cannot have this weight")
    return Message(role, content, 1 if weight == 1 else 0)


def _read_role(value: object, field: str, line: int, faults: FaultList) -> Role:
    if isinstance(value, str) and value in _ROLES:
        return cast(Role, value)
    if isinstance(value, str) and value in _TOOL_ROLES:
        faults.add(line, field, "unsupported_role", f"{field} is {clip(value)}, which cannot be trained on yet")
    elif isinstance(value, str):
        faults.add(line, field, "wrong_role", f"{field} is {clip(value)}", _ROLE_HINTS.get(value, ""))
    else:
        faults.add(line, field, "wrong_role", f"{field} is not a string")
    return "user"


def _check_order(messages: tuple[Message, ...], line: int, faults: FaultList) -> None:
    if not any(message.role == "assistant" for message in messages):
        faults.add(line, "messages", "no_assistant_turn", "the chat has no assistant turn")
        return
    if not any(message.trained for message in messages):
        faults.add(line, "messages", "nothing_trained", "every assistant turn of the chat has weight 0")
    for index, message in enumerate(messages):
        before = messages[index - 1].role if index else None
        if message.role == "system" and index:
            problem = "the system turn is not the first"
        elif message.role == "assistant" and before != "user":
            problem = f"an assistant turn follows {f'the {before} turn' if before else 'nothing'}, not a user turn"
        else:
            continue
        faults.add(line, f"messages[{index}].role", "wrong_order", problem)
        return
    if messages[-1].role != "assistant":
        field = f"messages[{len(messages) - 1}].role"
        faults.add(line, field, "wrong_order", f"the last turn is the {messages[-1].role}'s, not the assistant's")
