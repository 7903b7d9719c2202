"""What a release could write: the schemas of everything that outlives it. Later versions have to read all of it.

python -m tests.contracts.kept 0.1.0     keep what the code here can write, under the release's name

Before the first release they are kept under the day's name.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic.json_schema import JsonSchemaMode, models_json_schema

from spotune.contracts.base import Contract
from spotune.contracts.checkpoint import StateFile
from spotune.contracts.commands import OutboxEntry
from spotune.contracts.files import FileRecord
from spotune.contracts.history import FinishedRun
from spotune.contracts.identity import ApiKey
from spotune.contracts.job import ActiveJob, Inputs, JobRecord, LogEvent
from spotune.contracts.market import MarketSnapshot
from spotune.contracts.models import ModelGroup, ModelVersion
from spotune.contracts.notifications import Delivery, WebhookEndpoint
from spotune.contracts.quality import JobQuality, QualityReport
from spotune.contracts.rules import Arrival, DataManifest, Retraining, RuleRecord
from spotune.contracts.training import Manifest, Progress, TrainingConfig, TrainingReport

FOLDER = Path(__file__).parent / "kept"

WRITTEN: tuple[type[Contract], ...] = (
    # In the table.
    JobRecord, ActiveJob, LogEvent, OutboxEntry, FinishedRun, FileRecord, ApiKey, WebhookEndpoint, RuleRecord, Arrival,
    Retraining, ModelGroup, ModelVersion,
    # In buckets.
    MarketSnapshot, TrainingConfig, TrainingReport, Manifest, Progress, StateFile, DataManifest, Inputs,
    QualityReport, JobQuality,
    # In queues.
    Delivery,
)  # fmt: skip

_WORDS = frozenset({"title", "description", "default", "examples", "discriminator"})
_LOWER = ("minimum", "exclusiveMinimum", "minLength", "minItems")
_UPPER = ("maximum", "exclusiveMaximum", "maxLength", "maxItems")

Schema = Mapping[str, Any]


def written() -> Schema:
    """What the code here can write: definitions, those of the records among them."""
    return _definitions("serialization")


def read() -> Schema:
    """What the code here can read."""
    return _definitions("validation")


def releases() -> list[str]:
    """Those of which is kept what they could write."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def kept(release: str) -> Schema:
    """What a release could write."""
    found: Schema = json.loads((FOLDER / f"{release}.json").read_text())
    return found


def refusals(written: Schema, read: Schema, record: str) -> list[str]:
    """Where a reader would refuse what was written of a record, as `path: why`. Empty where it reads all of it."""
    start = {"$ref": record}
    return list(_Comparison(written, read).refusals(start, start, record, frozenset()))


class _Comparison:
    """What was written, definition by definition, beside what is read."""

    def __init__(self, written: Schema, read: Schema) -> None:
        self._written = written
        self._read = read

    def refusals(self, old: Schema, new: Schema, at: str, above: frozenset[tuple[str, str]]) -> Iterator[str]:
        was, now = self._resolved(old, self._written), self._resolved(new, self._read)
        if _alternatives(was):
            for one in _alternatives(was):
                yield from self.refusals(one, new, at, above)
        elif _alternatives(now):
            tries = [list(self.refusals(old, one, at, above)) for one in _alternatives(now)]
            if all(tries):
                yield from min(tries, key=len)
        elif (pair := (old.get("$ref", ""), new.get("$ref", ""))) not in above:
            # A definition within itself is compared once.
            yield from self._one(was, now, at, above | {pair} if all(pair) else above)

    def _one(self, old: Schema, new: Schema, at: str, above: frozenset[tuple[str, str]]) -> Iterator[str]:
        if not new:
            return  # it reads anything
        if not _types(old) <= _types(new):
            yield f"{at}: {sorted(_types(old))} is no {sorted(_types(new))} any more"
            return
        if (words := _words(new)) is not None and not (written := _words(old) or {"anything"}) <= words:
            yield f"{at}: {sorted(map(str, written - words))} is not known any more"
        for name in (*_LOWER, *_UPPER):
            if name in new and (
                name not in old or (old[name] < new[name] if name in _LOWER else old[name] > new[name])
            ):
                yield f"{at}: {name} is {new[name]} now, and was {old.get(name)}"
        if "pattern" in new and old.get("pattern") != new["pattern"]:
            yield f"{at}: its pattern is another"
        yield from self._members(old, new, at, above)

    def _members(self, old: Schema, new: Schema, at: str, above: frozenset[tuple[str, str]]) -> Iterator[str]:
        before, now = old.get("properties", {}), new.get("properties", {})
        for name, schema in before.items():
            if name in now:
                yield from self.refusals(schema, now[name], f"{at}.{name}", above)
            elif new.get("additionalProperties") is False:
                yield f"{at}.{name}: is not read any more"
        for name in set(new.get("required", ())) - set(old.get("required", ())):
            yield f"{at}.{name}: is required now"
        for name in ("items", "additionalProperties"):
            if isinstance(old.get(name), Mapping) and isinstance(new.get(name), Mapping):
                yield from self.refusals(old[name], new[name], f"{at}[]", above)
        for number, (one, other) in enumerate(
            zip(old.get("prefixItems", ()), new.get("prefixItems", ()), strict=False)
        ):
            yield from self.refusals(one, other, f"{at}[{number}]", above)

    @staticmethod
    def _resolved(schema: Schema, definitions: Schema) -> Schema:
        while "$ref" in schema:
            schema = definitions[schema["$ref"]]
        return schema


def _alternatives(schema: Schema) -> list[Schema]:
    """Of a union; none of anything else."""
    found: list[Schema] = schema.get("anyOf") or schema.get("oneOf") or []
    return found


def _is_stricter(name: str, before: float, now: float) -> bool:
    return before < now if name in _LOWER else before > now


def _types(schema: Schema) -> set[str]:
    """JSON types; a whole number is a number, too. All of them where none is named."""
    named = schema.get("type")
    if named is None:
        return set() if _words(schema) is not None else {"anything"}
    return {"integer"} if named == "integer" else {"integer", "number"} if named == "number" else {named}


def _words(schema: Schema) -> set[Any] | None:
    if "const" in schema:
        return {schema["const"]}
    return set(schema["enum"]) if "enum" in schema else None


def _bare(schema: Any, *, names: bool = False) -> Any:
    """Without what is only for people. `names`: the keys here are fields, whatever they are called."""
    if isinstance(schema, list):
        return [_bare(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: _bare(value, names=key in ("properties", "$defs") and not names)
        for key, value in schema.items()
        if names or key not in _WORDS
    }


def _definitions(mode: JsonSchemaMode) -> Schema:
    _, document = models_json_schema([(model, mode) for model in WRITTEN], ref_template="{model}")
    found: Schema = _bare(document["$defs"], names=True)
    return found


def main(release: str) -> None:
    """Keep what this code can write under a release's name."""
    FOLDER.mkdir(exist_ok=True)
    lines = (f"{json.dumps(name)}:{json.dumps(one, sort_keys=True)}" for name, one in sorted(written().items()))
    (FOLDER / f"{release}.json").write_text("{" + ",\n".join(lines) + "}\n")


if __name__ == "__main__":
    main(sys.argv[1])
