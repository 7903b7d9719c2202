"""A request against botocore's own model of the service: types, required members, lengths, ranges, patterns, enums."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from typing import Any

import botocore.session
from botocore.model import ListShape, MapShape, OperationModel, ServiceModel, Shape, StructureShape

from spotune.local.double.faults import ServiceError, invalid

_JSON_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "long": (int,),
    "float": (int, float),
    "double": (int, float),
    "boolean": (bool,),
    "timestamp": (int, float, str),
    "structure": (dict,),
    "map": (dict,),
    "list": (list,),
}
_JAVA_CLASSES = {
    r"\p{Alnum}": "a-zA-Z0-9",
    r"\p{L}": r"^\W\d_",
    r"\p{M}": "\u0300-\u036f",
    r"\p{N}": r"\d",
    r"\p{P}": r"!-#%-*,-/:;?@\[-\]_{}\u2010-\u205e",
    r"\p{S}": "$+<=>^`|~\u00a2-\u00b1\u20a0-\u20bf",
    r"\p{Z}": r"\s",
}
_REPEATED_END = re.compile(r"\$\{\d+,\d+\}$")
"""Some patterns of the service repeat the end of the text; Python takes that for a mistake."""


@functools.cache
def service() -> ServiceModel:
    """SageMaker as botocore describes it."""
    return botocore.session.get_session().get_service_model("sagemaker")


@functools.cache
def operation(name: str) -> OperationModel:
    """One operation; botocore's OperationNotFoundError where there is none."""
    return service().operation_model(name)


def validated(operation_name: str, request: dict[str, Any]) -> dict[str, Any]:
    """The request, less the members that are null, once its shape is right.

    Raises:
        ServiceError: ValidationException that lists every fault, in SageMaker's words.
    """
    faults = list(_check(operation(operation_name).input_shape, request, ""))
    if faults:
        count = f"{len(faults)} validation error{'s' if len(faults) > 1 else ''} detected"
        raise invalid(f"{count}: {'; '.join(faults)}")
    given: dict[str, Any] = _without_nulls(request)
    return given


def _without_nulls(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_nulls(member) for member in value]
    if isinstance(value, dict):
        return {name: _without_nulls(member) for name, member in value.items() if member is not None}
    return value


def _check(shape: Shape, value: Any, path: str) -> Iterator[str]:
    if not _has_type(shape, value):
        raise ServiceError("SerializationException", f"{path or 'request'} must be of type {shape.type_name}")
    yield from _check_bounds(shape, value, path)
    if isinstance(shape, StructureShape):
        yield from _check_structure(shape, value, path)
    elif isinstance(shape, ListShape):
        for number, member in enumerate(value, 1):
            yield from _check(shape.member, member, f"{path}.{number}.member")
    elif isinstance(shape, MapShape):
        for key, member in value.items():
            yield from _check(shape.key, key, path)
            yield from _check(shape.value, member, f"{path}.{key}")


def _has_type(shape: Shape, value: Any) -> bool:
    if isinstance(value, bool):
        return bool(shape.type_name == "boolean")
    return isinstance(value, _JSON_TYPES.get(shape.type_name, (object,)))


def _check_structure(shape: StructureShape, value: dict[str, Any], path: str) -> Iterator[str]:
    for name in shape.required_members:
        if value.get(name) is None:
            yield _fault(None, _join(path, name), "Member must not be null")
    for name, member in value.items():
        if name not in shape.members:
            yield _fault(member, _join(path, name), f"Member is not known to {shape.name}")
        elif member is not None:
            yield from _check(shape.members[name], member, _join(path, name))


def _check_bounds(shape: Shape, value: Any, path: str) -> Iterator[str]:
    limits = shape.metadata
    if "enum" in limits and value not in limits["enum"]:
        yield _fault(value, path, f"Member must satisfy enum value set: [{', '.join(limits['enum'])}]")
    if "pattern" in limits and isinstance(value, str) and not _pattern(limits["pattern"])(value):
        yield _fault(value, path, f"Member must satisfy regular expression pattern: {limits['pattern']}")
    size, word = (value, "value") if isinstance(value, int | float) else (_length(value), "length")
    if "min" in limits and size < limits["min"]:
        yield _fault(value, path, f"Member must have {word} greater than or equal to {limits['min']}")
    if "max" in limits and size > limits["max"]:
        yield _fault(value, path, f"Member must have {word} less than or equal to {limits['max']}")


def _length(value: Any) -> int:
    return len(value) if isinstance(value, str | list | dict) else 0


@functools.cache
def _pattern(pattern: str) -> Callable[[str], re.Match[str] | None]:
    r"""The service's patterns are Java's; `\p{L}` has no short form in Python and becomes 'no digit, no symbol'."""
    for java, python in _JAVA_CLASSES.items():
        pattern = pattern.replace(java, python if java != r"\p{L}" else r"\w")
    return re.compile(_REPEATED_END.sub("", pattern), re.DOTALL).fullmatch


def _fault(value: Any, path: str, constraint: str) -> str:
    shown = "null" if value is None else f"'{value}'"
    name = ".".join(part[:1].lower() + part[1:] for part in path.split("."))
    return f"Value {shown} at '{name}' failed to satisfy constraint: {constraint}"


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
