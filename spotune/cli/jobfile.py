"""A job file, or a rule file: the API's own request body as YAML or JSON, with local paths in place of file ids."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeGuard, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from spotune.contracts.errors import RequestRefused
from spotune.contracts.request import JobRequest

GOLDEN_FIELD = "gate.golden_file"
FILE_FIELDS = ("training_file", "validation_file", GOLDEN_FIELD)
"""Dotted names of the fields that take a path."""

Location = tuple[str | int, ...]
Body = dict[str, object]
Request = TypeVar("Request", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class JobFile:
    """What was written, where each field of it stands, and the folder that its paths start from."""

    name: str
    body: Body
    lines: Mapping[Location, int]
    folder: Path


@dataclass(frozen=True, slots=True)
class Draft:
    """A valid request, and the files on this machine that it names instead of file ids."""

    request: JobRequest
    files: Mapping[str, Path] = field(default_factory=dict)
    """By field of the request."""

    def with_ids(self, ids: Mapping[str, str]) -> JobRequest:
        """The request that can be sent, with file ids in place of paths."""
        return JobRequest.model_validate(merge(self.request.model_dump(mode="json", exclude_unset=True), ids))


def read_draft(path: Path | None, overrides: Mapping[str, object]) -> Draft:
    """A job file with dotted fields put over it (`constraints.budget_usd`), checked as the API will.

    Raises:
        RequestRefused: the file cannot be read, a field is unknown or wrong (all of them are named, with their lines),
            or a path leads nowhere.
    """
    source = JobFile("the flags", {}, {}, Path.cwd()) if path is None else read_job_file(path)
    request = checked(source, merge(source.body, overrides), JobRequest)
    return Draft(request, local_files(request.model_dump(mode="json"), source.folder))


def checked(source: JobFile, body: Body, kind: type[Request]) -> Request:
    """The request that a body is.

    Raises:
        RequestRefused: a field is unknown or wrong; all of them are named, with their lines.
    """
    try:
        return kind.model_validate(body)
    except ValidationError as error:
        raise _refused(source, body, error, kind) from None


_BEGIN = "Begin with `model:` and `training_file:`, a rule with `name:` and `source:`."


def read_job_file(path: Path, *, begin: str = _BEGIN) -> JobFile:
    """A YAML or JSON file with its fields' lines.

    Args:
        begin: what to do where the file holds no fields.

    Raises:
        RequestRefused: it is missing, is neither, names a field twice, or is not an object.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise RequestRefused(f"Cannot read the file {path}: {reason}.", code="job_file_unreadable") from None
    if path.suffix == ".jsonl":
        raise RequestRefused(f"{path} is a dataset, and no file of fields.", code="job_file_invalid", remedy=begin)
    body, lines = _parse_json(path, text) if path.suffix == ".json" else _parse_yaml(path, text)
    if not isinstance(body, dict):
        raise RequestRefused(
            f"{path} is {'empty' if body is None else 'something else'}, and not an object of fields.",
            code="job_file_invalid",
            remedy=begin,
        )
    return JobFile(path.name, body, lines, path.absolute().parent)


def parse_assignments(assignments: Sequence[str]) -> Body:
    """`--set training.packing=false` as dotted fields; values are read as YAML.

    Raises:
        RequestRefused: one is not `field=value`.
    """
    fields: Body = {}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not name or not equals:
            raise RequestRefused(
                f"--set takes field=value, not {assignment!r}.",
                code="invalid_field",
                remedy="For example: --set training.packing=false",
            )
        try:
            fields[name] = yaml.safe_load(value)
        except yaml.YAMLError:
            fields[name] = value
    return fields


def _parse_json(path: Path, text: str) -> tuple[object, dict[Location, int]]:
    def unique(pairs: list[tuple[str, object]]) -> Body:
        names = [name for name, _ in pairs]
        for name in names:
            if names.count(name) > 1:
                raise _named_twice(path, name, None)
        return dict(pairs)

    try:
        return json.loads(text, object_pairs_hook=unique), {}
    except json.JSONDecodeError as error:
        raise RequestRefused(f"{path}, line {error.lineno}: not JSON: {error.msg}.", code="job_file_invalid") from None


def _parse_yaml(path: Path, text: str) -> tuple[object, dict[Location, int]]:
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        lines = dict(_lines_of(node, (), path)) if node else {}
        return yaml.safe_load(text), lines
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise RequestRefused(f"{path}, line {line}: not YAML: {error.problem}.", code="job_file_invalid") from None
    except yaml.YAMLError as error:
        raise RequestRefused(f"{path}: not YAML: {error}.", code="job_file_invalid") from None


def _lines_of(node: yaml.Node, at: Location, path: Path) -> Iterator[tuple[Location, int]]:
    yield at, node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            line = key.start_mark.line + 1
            if key.value in seen:
                raise _named_twice(path, key.value, line)
            seen.add(key.value)
            yield from _lines_of(value, (*at, key.value), path)
            yield (*at, key.value), line
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield from _lines_of(item, (*at, index), path)


def _named_twice(path: Path, name: str, line: int | None) -> RequestRefused:
    where = f"{path}, line {line}" if line else str(path)
    return RequestRefused(
        f"{where}: {name!r} is given twice.", code="invalid_field", param=name, remedy="Keep one of the two."
    )


def merge(body: Body, overrides: Mapping[str, object]) -> Body:
    """A body with dotted fields put into it.

    Raises:
        RequestRefused: a dotted name leads into a value.
    """
    merged = json.loads(json.dumps(body, default=str))
    for dotted, value in overrides.items():
        *groups, last = dotted.split(".")
        place = merged
        for group in groups:
            inner = place.setdefault(group, {})
            if not isinstance(inner, dict):
                raise RequestRefused(
                    f"{dotted}: {group!r} holds a value, not a group of fields.", code="invalid_field", param=dotted
                )
            place = inner
        place[last] = value
    return dict(merged)


def _refused(source: JobFile, body: Body, error: ValidationError, kind: type[BaseModel]) -> RequestRefused:
    faults = _faults(source, body, error, kind)
    first = faults[0]
    message = "\n".join(str(fault["message"]) for fault in faults)
    if len(faults) > 1:
        message = f"{source.name} has {len(faults)} faults.\n{message}"
    return RequestRefused(message, code=str(first["code"]), param=str(first["param"]), details={"faults": faults})


def _faults(source: JobFile, body: Body, error: ValidationError, kind: type[BaseModel]) -> list[dict[str, object]]:
    """One for each field: a union's branches all complain of the same one."""
    found: dict[Location, list[ErrorDetails]] = {}
    for detail in error.errors(include_url=False):
        at = _existing(detail["loc"], body, missing=detail["type"] in ("missing", "extra_forbidden"))
        found.setdefault(at, []).append(detail)
    return [_fault(source, at, details, kind) for at, details in found.items()]


def _existing(loc: Location, body: object, *, missing: bool) -> Location:
    """The part of pydantic's location that is the file's; the rest names branches of unions."""
    at: list[str | int] = []
    for part in loc:
        if isinstance(body, dict) and part in body:
            body = body[str(part)]
        elif isinstance(body, list) and isinstance(part, int) and part < len(body):
            body = body[part]
        elif missing and isinstance(body, dict):
            return (*at, part)
        else:
            break
        at.append(part)
    return tuple(at)


def _fault(source: JobFile, at: Location, details: Sequence[ErrorDetails], kind: type[BaseModel]) -> dict[str, object]:
    detail = details[-1]
    name = ".".join(str(part) for part in at)
    line = source.lines.get(at)
    where = f"{source.name}, line {line}: " if line else f"{source.name}: "
    if detail["type"] == "extra_forbidden":
        message = f"{where}unknown field {name!r}.{_suggestion(at, kind)}"
        return {"code": "unknown_field", "param": name, "message": message}
    if detail["type"] == "missing":
        return {"code": "missing_field", "param": name, "message": f"{where}{name!r} is missing."}
    about = f"{name!r}: " if name else ""
    return {"code": "invalid_field", "param": name, "message": f"{where}{about}{_reason(details)}."}


def _reason(details: Sequence[ErrorDetails]) -> str:
    """What the field takes: of every branch where all are words, else of one that is not."""
    words = [detail for detail in details if detail["type"] == "literal_error"]
    others = [detail for detail in details if detail["type"] != "literal_error"]
    if others:
        return others[-1]["msg"].removeprefix("Value error, ")
    return f"Input should be {', '.join(str(detail['ctx']['expected']) for detail in words)}"


def _suggestion(at: Location, kind: type[BaseModel]) -> str:
    """The likely field: of this group by its spelling, else of another group by its very name."""
    name, group = str(at[-1]), _group_at(kind, at[:-1])
    here = list(group.model_fields) if group else []
    likely = [*difflib.get_close_matches(name, here, n=1), *_dotted(kind, name)]
    if likely:
        return f" Did you mean {likely[0]!r}?"
    return f" Known here: {', '.join(here)}." if here else ""


def _group_at(model: type[BaseModel], groups: Location) -> type[BaseModel] | None:
    for group in groups:
        inner = _groups_of(model).get(str(group))
        if inner is None:
            return None
        model = inner
    return model


def _dotted(model: type[BaseModel], name: str) -> Iterator[str]:
    for group, inner in _groups_of(model).items():
        found = [name] if name in inner.model_fields else _dotted(inner, name)
        yield from (f"{group}.{rest}" for rest in found)


def _groups_of(model: type[BaseModel]) -> dict[str, type[BaseModel]]:
    """The fields that hold fields of their own, optional ones too."""
    branches = ((name, (one.annotation, *get_args(one.annotation))) for name, one in model.model_fields.items())
    return {name: inner for name, types in branches for inner in types if _is_group(inner)}


def _is_group(annotation: object) -> TypeGuard[type[BaseModel]]:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def local_files(fields: Mapping[str, object], folder: Path, names: Sequence[str] = FILE_FIELDS) -> dict[str, Path]:
    """The files on this machine that a request's body names. Paths start from this folder, else from where one is.

    Raises:
        RequestRefused: a path leads nowhere.
    """
    files: dict[str, Path] = {}
    for name in names:
        value = _named(fields, name)
        if not isinstance(value, str) or "://" in value:
            continue
        path = next((place for place in (folder / value, Path(value)) if place.is_file()), None)
        if path is not None:
            files[name] = path.absolute()
        elif not value.startswith("file-"):
            raise RequestRefused(
                f"{name}: there is no file {value!r} in {folder} or here.",
                code="file_missing",
                param=name,
                remedy="Give a path that exists, a file id (file-...) or an s3:// URI.",
            )
    return files


def _named(fields: Mapping[str, object], dotted: str) -> object:
    """The value of a dotted field; None where it is not there."""
    at: object = fields
    for name in dotted.split("."):
        at = at.get(name) if isinstance(at, Mapping) else None
    return at
