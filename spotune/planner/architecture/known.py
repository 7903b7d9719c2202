"""Well-known models by their names on the hub."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

_DATA = Path(__file__).parents[1] / "data" / "models.json"


def known_config(name: str) -> dict[str, object] | None:
    """The bundled facts of a well-known model's `config.json`, by its name on the hub; None where there are none."""
    config = _configs().get(name.lower())
    return dict(config) if config is not None else None


def known_names() -> tuple[str, ...]:
    """Every bundled model's name, spelled as on the hub."""
    return tuple(name for entry in _entries() for name in entry["names"])


@cache
def _configs() -> dict[str, dict[str, object]]:
    return {name.lower(): entry["config"] for entry in _entries() for name in entry["names"]}


@cache
def _entries() -> list[dict[str, dict[str, object]]]:
    entries: list[dict[str, dict[str, object]]] = json.loads(_DATA.read_bytes())
    return entries
