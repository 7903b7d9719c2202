"""Writes docs/errors.md from the code: every stable code with where it comes from, what it says and what to do.

python docs/errors.py            write it
python docs/errors.py --check    exit 1 where it is out of date
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pages import keep

from spotune.contracts import errors
from spotune.contracts.dataset import MAX_FAULTS

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("spotune", "handlers", "training_container")
SILENT = frozenset({"strip", "join", "__name__", "stderr"})
"""Names in an expression that tell nobody what its value is."""
FAULTS = {"JobError": "job", "TrainingFault": "container", "PodFault": "pod"}
POSITIONAL = frozenset({"container", "pod"})
"""Their code comes first, then the message."""
HEAD = f"""# Errors

Made from the code by `python docs/errors.py`; `make check` refuses a page that is out of date.

Every refusal is `{{"error": {{"message", "type", "param", "code", "details"}}}}`: what was wrong, where, and what
to do. Codes are stable. A name in braces stands for a value. Rules for the rows of a dataset, up to {MAX_FAULTS}
faults a file, are in [data.md](data.md). A body that does not fit its fields is answered with 400 and `unknown_field`,
`missing_field` or `invalid_value`, and the field's dotted name in `param`.
"""


@dataclass(frozen=True)
class Entry:
    """One place that raises one code."""

    code: str
    status: str
    message: str
    remedy: str


def entries() -> list[Entry]:
    """All of them, by code."""
    found = {entry for path in _sources() for entry in _of(ast.parse(path.read_text()))}
    return sorted(found, key=lambda entry: (entry.code, entry.status, entry.message, entry.remedy))


def page() -> str:
    """The page's text."""
    kept = entries()
    return "\n".join(
        [
            HEAD,
            *_table("Refusals of the API and the CLI", [one for one in kept if one.status.isdecimal()]),
            *_table("Why a job failed (`error` of a job)", [one for one in kept if one.status == "job"]),
            *_table("Why the container failed (`output/failure`)", [one for one in kept if one.status == "container"]),
            *_table("Why a pod of a cluster failed", [one for one in kept if one.status == "pod"]),
        ]
    )


def _table(title: str, rows: list[Entry]) -> list[str]:
    lines = [f"| `{one.code}` | {one.status} | {one.message} | {one.remedy} |" for one in rows]
    return [f"## {title}", "", "| code | status | what it says | what to do |", "|---|---|---|---|", *lines, ""]


def _sources() -> Iterator[Path]:
    for room in ROOMS:
        yield from sorted((ROOT / room).rglob("*.py"))


def _of(tree: ast.Module) -> Iterator[Entry]:
    texts = {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and (status := _status(node)) is not None:
            keywords = {word.arg: _text_of(word.value, texts) for word in node.keywords}
            code = node.args[0] if status in POSITIONAL and node.args else keywords.get("code")
            message = node.args[1 if status in POSITIONAL else 0] if _has_message(node, status) else None
            message = message or keywords.get("message")
            for name in _constants(code):
                yield Entry(name, status, _words(message), _words(keywords.get("remedy")))


def _text_of(node: ast.expr, texts: Mapping[str, ast.expr]) -> ast.expr:
    """What a text of the module's own stands for; anything else as it is."""
    return texts.get(node.id, node) if isinstance(node, ast.Name) else node


def _has_message(call: ast.Call, status: str) -> bool:
    return len(call.args) > (1 if status in POSITIONAL else 0)


def _status(call: ast.Call) -> str | None:
    name = getattr(call.func, "id", getattr(call.func, "attr", ""))
    if name in FAULTS:
        return FAULTS[name]
    kind = getattr(errors, name, None)
    return str(kind.status) if isinstance(kind, type) and issubclass(kind, errors.SpotuneError) else None


def _constants(node: ast.expr | None) -> list[str]:
    if isinstance(node, ast.IfExp):
        return _constants(node.body) + _constants(node.orelse)
    return [node.value] if isinstance(node, ast.Constant) and isinstance(node.value, str) else []


def _words(node: ast.expr | None) -> str:
    """A message as a person reads it, with the names of its values in braces."""
    return " ".join(_spelt(node).split()).replace("|", "\\|")


def _spelt(node: ast.expr | None) -> str:
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=values):
            return "".join(_spelt(value) for value in values)
        case ast.FormattedValue(value=value):
            return "{" + _name(value) + "}"
        case ast.IfExp(body=body, orelse=orelse):
            return f"{_spelt(body)} / {_spelt(orelse)}"
    return ""


def _name(value: ast.expr) -> str:
    """The last name in an expression that says something: `cap` of `dollars(limits.cap)`."""
    names = [name for name in re.findall(r"[a-zA-Z_]\w*", ast.unparse(value)) if name not in SILENT]
    return names[-1] if names else "..."


if __name__ == "__main__":
    sys.exit(keep(__file__, page()))
