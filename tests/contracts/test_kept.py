"""What earlier versions wrote is read by this one. docs/upgrading.md says what that allows and forbids."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field

from tests.contracts import kept

CASES = [(release, model.__name__) for release in kept.releases() for model in kept.WRITTEN]


@pytest.mark.parametrize(("release", "record"), CASES, ids=[" ".join(case) for case in CASES])
def test_what_a_release_wrote_is_read(release: str, record: str) -> None:
    if record not in kept.kept(release):
        return  # that release had no such record
    assert kept.refusals(kept.kept(release), kept.read(), record) == []


def test_there_is_something_to_compare_with() -> None:
    assert {model.__name__ for model in kept.WRITTEN} >= {"JobRecord", "RuleRecord", "TrainingConfig"}
    assert all("JobRecord" in kept.kept(release) for release in kept.releases())
    assert kept.releases()


def test_what_is_written_here_is_read_here() -> None:
    for model in kept.WRITTEN:
        assert kept.refusals(kept.written(), kept.read(), model.__name__) == []


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Part(Strict):
    kind: Literal["part"] = "part"
    size: int = Field(ge=0)


class Other(Strict):
    kind: Literal["other"] = "other"


class Record(Strict):
    """As an earlier version had it."""

    state: Literal["new", "old"]
    part: Part
    parts: tuple[Part, ...] = ()
    either: Part | Other | None = None
    named: dict[str, int] = {}
    deeper: Record | None = None


class Added(Record):
    novelty: str = ""


class Widened(Record):
    state: Literal["new", "old", "older"]  # type: ignore[assignment]
    named: dict[str, float] = {}  # type: ignore[assignment]


class Demanding(Record):
    novelty: str


class Narrowed(Record):
    state: Literal["new"]  # type: ignore[assignment]


class Retyped(Record):
    named: dict[str, str] = {}  # type: ignore[assignment]


class Bounded(Strict):
    kind: Literal["part"] = "part"
    size: int = Field(ge=1)


class WithBoundedParts(Record):
    parts: tuple[Bounded, ...] = ()  # type: ignore[assignment]


class OneLess(Record):
    either: Other | None = None  # type: ignore[assignment]


class Shorter(Strict):
    state: Literal["new", "old"]
    part: Part


def compare(new: type[BaseModel]) -> list[str]:
    def definitions(model: type[BaseModel], mode: Any) -> Any:
        schema = model.model_json_schema(mode=mode, ref_template="{model}")
        inner = schema.pop("$defs", {})
        return {**inner, "it": inner.get(model.__name__, schema), model.__name__: inner.get(model.__name__, schema)}

    return kept.refusals(definitions(Record, "serialization"), definitions(new, "validation"), "it")


@pytest.mark.parametrize("new", [Record, Added, Widened])
def test_more_is_read_than_was(new: type[BaseModel]) -> None:
    assert compare(new) == []


@pytest.mark.parametrize(
    ("new", "why"),
    [
        (Demanding, "it.novelty: is required now"),
        (Narrowed, "it.state: ['old'] is not known any more"),
        (Retyped, "it.named[]: ['integer'] is no ['string'] any more"),
        (WithBoundedParts, "it.parts[].size: minimum is 1 now, and was 0"),
        (OneLess, "it.either: ['object'] is no ['null'] any more"),
        (Shorter, "it.named: is not read any more"),
    ],
)
def test_whatever_would_refuse_an_earlier_record_is_found(new: type[BaseModel], why: str) -> None:
    assert why in compare(new)
