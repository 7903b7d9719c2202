"""A page of a list."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Items and whether there are more."""

    items: tuple[T, ...]
    has_more: bool


def page_of(found: Sequence[T], limit: int) -> Page[T]:
    """The page of up to `limit + 1` items that were found."""
    return Page(tuple(found[:limit]), has_more=len(found) > limit)
