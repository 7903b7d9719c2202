"""What pydantic says of a body, as the refusal that a person reads: each field by its name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from spotune.contracts.errors import RequestRefused


def refusal(errors: Iterable[Mapping[str, Any]]) -> RequestRefused:
    """The refusal of a body with these faults, as `ValidationError.errors()` lists them."""
    faults = [_fault(one) for one in errors]
    first = faults[0]
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return RequestRefused(
        f"{first['message']}{more}",
        code=first["code"],
        param=first["param"] or None,
        remedy="See /openapi.json for what the field takes.",
        details={"faults": faults} if more else None,
    )


def _fault(one: Mapping[str, Any]) -> dict[str, str]:
    where = _dotted(one.get("loc", ()))
    what = f"Field `{where}`" if where else "The body"
    kind = str(one.get("type", "invalid"))
    if kind == "extra_forbidden":
        return {"param": where, "code": "unknown_field", "message": f"Unknown field `{where}`."}
    if kind == "missing":
        return {"param": where, "code": "missing_field", "message": f"{what} is required."}
    if kind.startswith("json"):
        return {"param": "", "code": "json_invalid", "message": f"The body is not JSON: {one.get('msg')}."}
    return {"param": where, "code": "invalid_value", "message": f"{what}: {one.get('msg')}."}


def _dotted(loc: Sequence[object]) -> str:
    parts = [str(part) for part in loc if part not in ("body", "query", "path")]
    return ".".join(parts)
