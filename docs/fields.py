"""Writes docs/fields.md from the contracts: each field of the files that people write.

python docs/fields.py            write it
python docs/fields.py --check    exit 1 where it is out of date
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any, get_args

from pages import keep
from pydantic import BaseModel
from schema import HEAD as TABLE_HEAD
from schema import Schema, cell, fields, meanings_of, row

from spotune.contracts.request import JobRequest
from spotune.contracts.rules import RuleRequest
from spotune.contracts.training import TrainingConfig

HEAD = """# Fields of files

Made from the contracts by `python docs/fields.py`; `make check` refuses a page that is out of date. An unknown field is
refused, and every fault is named with its line. Every `auto` is resolved, with a reason that the job keeps
([planning](planning.md)).
"""
FILES: tuple[tuple[str, str, type[BaseModel]], ...] = (
    (
        "A job file",
        "YAML or JSON, for `spotune plan` and `spotune submit`; the body of `POST /v1/fine_tuning/jobs`, but for paths "
        "in place of file ids ([the command line](cli.md)).",
        JobRequest,
    ),
    (
        "A rule file",
        "YAML or JSON, for `spotune rules create`; the body of `POST /v1/rules` ([rules](rules.md)). The fields of "
        "`job` are those of a job file, without its files.",
        RuleRequest,
    ),
    (
        "training.json",
        "What the container is told. The service writes it; by hand only where [the trainer](training.md) runs alone.",
        TrainingConfig,
    ),
)


def page() -> str:
    """The page's text."""
    lines = [HEAD]
    for title, words, contract in FILES:
        lines += [f"## {title}", "", words, "", *_of(contract)]
    return "\n".join(lines).rstrip() + "\n"


def _of(contract: type[BaseModel]) -> Iterator[str]:
    """The fields of a file itself, then each of its groups with its own."""
    schema = contract.model_json_schema()
    yield from _group("", schema, contract, schema["$defs"])


def _group(prefix: str, schema: Schema, contract: type[BaseModel], objects: dict[str, Schema]) -> Iterator[str]:
    groups, rows = [], []
    meanings = meanings_of(contract)
    for name, field, required in fields(schema):
        inner = _inner(contract.model_fields[name].annotation)
        if inner is None or (prefix == "" and inner.__name__ == "JobTemplate"):
            rows.append(row(prefix + name, field, required, meanings, "`{}`".format))
        else:
            groups.append((f"{prefix}{name}{'[]' if 'items' in str(field) else ''}.", inner, meanings.get(name, "")))
    if rows:
        yield from (*TABLE_HEAD, *rows, "")
    for path, inner, meaning in groups:
        said = [cell(meaning), cell(inner.__doc__ or "")]
        yield from (f"### {path.rstrip('.')}", "", " ".join(filter(None, said)), "")
        yield from _group(path, objects[inner.__name__], inner, objects)


def _inner(annotation: Any) -> type[BaseModel] | None:
    """The contract that a field holds, be it in a list or optional."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for one in get_args(annotation) if (found := _inner(one)) is not None), None)


if __name__ == "__main__":
    sys.exit(keep(__file__, page()))
