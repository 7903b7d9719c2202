"""Tools of a chat, in OpenAI's shape: declared by the row, called by the assistant, answered by tool turns."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import NoReturn

from spotune.data.faults import FaultList
from spotune.data.parsing import clip
from spotune.data.rows import Message, ToolCall
from spotune.data.strings import read_string

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_CALL_FIELDS = frozenset({"id", "type", "function"})


def read_tools(row: Mapping[str, object], field: str, line: int, faults: FaultList) -> str:
    """JSON text of a row's `tools`, empty where it declares none; a fault where they are no functions."""
    if type(row.get("parallel_tool_calls", True)) is not bool:
        faults.add(line, f"{field}parallel_tool_calls", "wrong_tool", "parallel_tool_calls is neither true nor false")
    declared = row.get("tools")
    if declared is None:
        return ""
    field = f"{field}tools"
    if not isinstance(declared, list) or not declared:
        faults.add(line, field, "wrong_tool", f"{field} is not a list of functions")
        return ""
    for index, tool in enumerate(declared):
        _check_tool(tool, f"{field}[{index}]", line, faults)
    return read_string(json.dumps(declared, ensure_ascii=False), field, line, faults)


def _check_tool(tool: object, field: str, line: int, faults: FaultList) -> None:
    function = tool.get("function") if isinstance(tool, dict) and tool.get("type") == "function" else None
    if not isinstance(function, dict):
        faults.add(line, field, "wrong_tool", f"{field} is not a function")
    elif not _is_name(function.get("name")):
        faults.add(line, f"{field}.function.name", "wrong_tool", f"{field} has no name that can be called")
    elif not isinstance(function.get("parameters", {}), dict):
        faults.add(line, f"{field}.function.parameters", "wrong_tool", f"the parameters of {field} are no JSON schema")


def read_calls(value: object, field: str, line: int, faults: FaultList) -> tuple[ToolCall, ...]:
    """The calls of one assistant turn; the empty tuple, and faults, where they are none."""
    if not isinstance(value, list) or not value:
        faults.add(line, field, "wrong_tool_call", f"{field} is not a list of calls")
        return ()
    before = faults.count
    calls = tuple(_read_call(item, f"{field}[{index}]", line, faults) for index, item in enumerate(value))
    if faults.count == before and len({call.id for call in calls}) < len(calls):
        faults.add(line, field, "wrong_tool_call", f"two calls of {field} have the same id")
    return calls if faults.count == before else ()


def _read_call(value: object, field: str, line: int, faults: FaultList) -> ToolCall:
    """A call; where it is a fault, what stands in for it is never used."""
    function = (
        value.get("function") if isinstance(value, dict) and value.get("type", "function") == "function" else None
    )
    if not isinstance(value, dict) or not isinstance(function, dict) or not value.keys() <= _CALL_FIELDS:
        faults.add(line, field, "wrong_tool_call", f"{field} is not the call of a function")
        return ToolCall("", "", "")
    given, name = value.get("id"), function.get("name")
    if not isinstance(given, str) or not given.strip():
        faults.add(line, f"{field}.id", "wrong_tool_call", f"{field} has no id")
        given = "none"
    if not _is_name(name):
        faults.add(line, f"{field}.function.name", "wrong_tool_call", f"{field} names no function")
    arguments = _read_arguments(function.get("arguments"), f"{field}.function.arguments", line, faults)
    return ToolCall(read_string(given, f"{field}.id", line, faults), str(name), arguments)


def _read_arguments(value: object, field: str, line: int, faults: FaultList) -> str:
    """OpenAI writes them as JSON text, transformers as an object; both become JSON text."""
    if isinstance(value, dict):
        return read_string(json.dumps(value, ensure_ascii=False), field, line, faults)
    try:
        parsed = json.loads(value, parse_constant=_refuse_constant) if isinstance(value, str) else None
    except (ValueError, RecursionError):
        parsed = None
    if not isinstance(parsed, dict):
        faults.add(line, field, "wrong_arguments", f"{field} is not the JSON text of an object")
        return ""
    return read_string(value, field, line, faults)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def check_calls(messages: Sequence[Message], fields: Sequence[str], tools: str, line: int, faults: FaultList) -> None:
    """Every call is of a declared function and has one answer, before the next turn; only the last turn's may wait.

    Args:
        messages: a chat in its order.
        fields: the path of each message in its row.
        tools: the row's, as JSON text; empty where it declares none, which leaves names unchecked.
    """
    declared = {tool["function"]["name"] for tool in json.loads(tools)} if tools else None
    waiting: dict[str, str] = {}
    for message, field in zip(messages, fields, strict=True):
        if message.role == "tool" and message.call_id not in waiting:
            problem = f"{field} answers {clip(message.call_id)}, which no call of the turn before it has as id"
            faults.add(line, f"{field}.tool_call_id", "unmatched_call", problem)
            return
        if message.role == "tool":
            del waiting[message.call_id]
            continue
        if waiting:
            names = ", ".join(clip(call) for call in list(waiting)[:4])
            faults.add(line, field, "unmatched_call", f"{field} comes before the answer to {names}")
            return
        waiting = {call.id: call.name for call in message.calls}
        if declared is not None and (unknown := [name for name in waiting.values() if name not in declared]):
            problem = f"{field} calls {clip(unknown[0])}, which the row does not declare"
            faults.add(line, f"{field}.tool_calls", "unknown_tool", problem)
            return


def _is_name(value: object) -> bool:
    return isinstance(value, str) and _NAME.fullmatch(value) is not None
