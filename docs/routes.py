"""Writes docs/routes.md from the OpenAPI document: each route, each object.

python docs/routes.py            write it
python docs/routes.py --check    exit 1 where it is out of date
"""

from __future__ import annotations

import json
import re
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from pages import keep
from pydantic import BaseModel
from schema import Schema, cell, meanings_of, table, words

from handlers.api import app
from handlers.openapi import document
from spotune.contracts.base import Contract

HEAD = """# Routes and objects

Made from the API's own OpenAPI document (`GET /openapi.json`) by `python docs/routes.py`; `make check` refuses a page
that is out of date. How to ask, and what the answers have in common, is in [the API](api.md).
"""
VALIDATION = frozenset({"HTTPValidationError", "ValidationError", "ResponseValidationError"})
"""Objects of the framework's that are never sent: each refusal is the error object."""


def page() -> str:
    """The page's text."""
    made = json.loads(document(app))
    groups: dict[str, list[tuple[str, str, Schema]]] = defaultdict(list)
    for path, operations in sorted(made["paths"].items()):
        for method, operation in operations.items():
            groups[operation["tags"][0]].append((path, method.upper(), operation))
    lines = [HEAD]
    for group, operations in sorted(groups.items()):
        lines += [f"## {group.capitalize()}", "", *(line for one in operations for line in _route(*one))]
    return "\n".join([*lines, "## Objects", "", *_objects(made["components"]["schemas"])])


def _route(path: str, method: str, operation: Schema) -> Iterator[str]:
    yield from (f"### `{method} {path}`", "", f"{operation['summary']}.", "")
    if parameters := operation.get("parameters"):
        yield from ("| parameter | in | type | |", "|---|---|---|---|")
        for one in parameters:
            named = f"`{one['name']}`" + (", required" if one.get("required") else "")
            yield f"| {named} | {one['in']} | {words(one['schema'], _link)} | {cell(one.get('description', ''))} |"
        yield ""
    if "requestBody" in operation:
        yield from (f"Body: {_bodies(operation['requestBody'])}.", "")
    yield from (f"Answer: {_bodies(operation['responses']['200'])}.", "")


def _bodies(message: Schema) -> str:
    """The objects that a request or an answer carries."""
    return ", or ".join(_body(kind, content.get("schema", {})) for kind, content in message["content"].items())


def _body(kind: str, schema: Schema) -> str:
    if not schema:
        return "the bytes"
    if "properties" not in schema:
        return words(schema, _link)
    names = ", ".join(f"`{name}`" for name in schema["properties"])
    return f"{'a form' if kind.startswith('multipart') else 'an object'} of {names}"


def _link(name: str) -> str:
    return f"[{_spelt(name)}](#{_anchor(name)})"


def _spelt(name: str) -> str:
    """A name as people read it: `ListObject of JobObject`, `Source of rules`."""
    if generic := re.fullmatch(r"(\w+)_(\w+)_", name):
        return f"{generic[1]} of {generic[2]}"
    *module, last = name.split("__")
    return f"{last} of {module[-1]}" if module else last


def _anchor(name: str) -> str:
    return re.sub(r"[^\w\- ]", "", _spelt(name)).strip().lower().replace(" ", "-")


def _objects(schemas: Mapping[str, Any]) -> Iterator[str]:
    contracts = _contracts()
    for name in sorted(schemas.keys() - VALIDATION, key=str.lower):
        whole = name.removesuffix("Changes")
        yield from (f"### {_spelt(name)}", "")
        if whole != name:
            yield from (f"As {_link(whole)}; every field may be left out, and `null` sets it back to its default.", "")
            continue
        if said := cell(schemas[name].get("description", "")):
            yield from (said, "")
        if schemas[name].get("properties"):
            yield from table(schemas[name], meanings_of(contracts[name]) if name in contracts else {}, _link)
            yield ""


def _contracts() -> dict[str, type[BaseModel]]:
    """Every contract by its name in the document; of two with one name, both by their modules."""
    found: dict[str, type[BaseModel]] = {}
    waiting: list[type[BaseModel]] = [Contract]
    while waiting:
        kind = waiting.pop()
        waiting += kind.__subclasses__()
        found[kind.__name__] = found[f"{kind.__module__}.{kind.__name__}".replace(".", "__")] = kind
        found[f"{kind.__name__}-Input"] = kind
    return found


if __name__ == "__main__":
    sys.exit(keep(__file__, page()))
