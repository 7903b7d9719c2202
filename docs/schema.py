"""A JSON schema, and the contract behind it, as the words of a table."""

from __future__ import annotations

import ast
import inspect
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

from pydantic import BaseModel

Schema = Mapping[str, Any]
LIMITS = {
    "exclusiveMinimum": "over {}",
    "minimum": "at least {}",
    "exclusiveMaximum": "below {}",
    "maximum": "at most {}",
    "minLength": "{} characters or more",
    "maxLength": "at most {} characters",
    "minItems": "{} or more",
    "maxItems": "at most {}",
}
HEAD = ["| field | type | default | |", "|---|---|---|---|"]


def table(schema: Schema, meanings: Mapping[str, str], link: Callable[[str], str]) -> list[str]:
    """A table of an object's fields.

    Args:
        schema: of the object.
        meanings: what each field means, by its name.
        link: the link to another object, by its name.
    """
    return [*HEAD, *(row(*one, meanings, link) for one in fields(schema))]


def fields(schema: Schema) -> Iterator[tuple[str, Schema, bool]]:
    """Name, schema and necessity of each field."""
    required = set(schema.get("required", ()))
    for name, field in schema.get("properties", {}).items():
        yield name, field, name in required


def row(name: str, field: Schema, required: bool, meanings: Mapping[str, str], link: Callable[[str], str]) -> str:
    """A field's line of a table."""
    default = "required" if required else value(field["default"]) if "default" in field else ""
    meaning = meanings.get(name.rpartition(".")[2]) or meanings.get(name) or field.get("description", "")
    return f"| `{name}` | {words(field, link)} | {default} | {cell(meaning)} |"


def words(schema: Schema, link: Callable[[str], str]) -> str:
    """A type in words."""
    if "$ref" in schema:
        return link(schema["$ref"].rpartition("/")[2])
    if "anyOf" in schema:
        return ", or ".join(dict.fromkeys(words(one, link) for one in schema["anyOf"]))
    if "enum" in schema:
        return ", ".join(value(one) for one in schema["enum"])
    if "const" in schema:
        return value(schema["const"])
    limits = [_limit(name, say, schema[name]) for name, say in LIMITS.items() if name in schema]
    pattern = [f"like `{cell(schema['pattern'])}`"] if "pattern" in schema else []
    return ", ".join([_kind(schema, link), *limits, *pattern])


def _kind(schema: Schema, link: Callable[[str], str]) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        return " or ".join(kind)
    if kind == "array":
        inner = schema.get("items") or {"anyOf": schema.get("prefixItems", [])}
        return f"list of {words(inner, link)}" if inner.get("anyOf") != [] else "list"
    extra = schema.get("additionalProperties")
    if kind == "object" and isinstance(extra, Mapping) and extra:
        return f"object of {words(extra, link)}"
    return str(kind or "anything")


def value(one: object) -> str:
    """A value as JSON; of a group of fields, nothing, since its own table says it."""
    return "" if isinstance(one, dict) and one else f"`{cell(json.dumps(one))}`"


def cell(text: str) -> str:
    """Text that can stand in a table."""
    return " ".join(text.split()).replace("|", "\\|")


def _limit(name: str, say: str, limit: float) -> str:
    return "not empty" if name in ("minLength", "minItems") and limit == 1 else say.format(_number(limit))


def _number(limit: float) -> str:
    return f"{int(limit):,}" if float(limit).is_integer() else f"{limit:g}"


@cache
def meanings_of(contract: type[BaseModel]) -> Mapping[str, str]:
    """What stands below each field of a contract in its source, its parents' fields included."""
    found: dict[str, str] = {}
    for kind in reversed(contract.__mro__):
        if issubclass(kind, BaseModel) and kind is not BaseModel:
            found |= _documented(sys.modules[kind.__module__].__file__ or "", kind.__name__)
    for name, field in contract.model_fields.items():
        if field.description:
            found[name] = field.description
    return found


@cache
def _documented(path: str, name: str) -> Mapping[str, str]:
    """The attribute docstrings of a class."""
    for node in _classes(path):
        if node.name == name:
            return {
                field.target.id: inspect.cleandoc(after.value.value)
                for field, after in zip(node.body, node.body[1:], strict=False)
                if isinstance(field, ast.AnnAssign)
                and isinstance(field.target, ast.Name)
                and isinstance(after, ast.Expr)
                and isinstance(after.value, ast.Constant)
                and isinstance(after.value.value, str)
            }
    return {}


@cache
def _classes(path: str) -> list[ast.ClassDef]:
    with open(path, encoding="utf-8") as file:
        return [node for node in ast.walk(ast.parse(file.read())) if isinstance(node, ast.ClassDef)]
