"""Query parameters and list objects that every listing shares."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Protocol, TypeVar

from aws_lambda_powertools.event_handler.openapi.params import Query

from spotune.contracts.api import ListObject
from spotune.contracts.errors import RequestRefused

Limit = Annotated[int, Query(ge=1, le=100, description="Items a page.")]
After = Annotated[str | None, Query(description="The last id of the page before.")]


class HasId(Protocol):
    """Whatever a listing lists."""

    @property
    def id(self) -> str:
        """Its cursor."""


T = TypeVar("T", bound=HasId)

_DIGITS = 10
"""Of a number at most: Python refuses to read thousands of them."""


def list_object(items: Sequence[T], *, has_more: bool = False) -> ListObject[T]:
    """A page in OpenAI's shape."""
    return ListObject(
        data=tuple(items),
        has_more=has_more,
        first_id=items[0].id if items else None,
        last_id=items[-1].id if items else None,
    )


def page_after(items: Sequence[T], after: str | None, limit: int) -> tuple[Sequence[T], bool]:
    """The page of a short list that follows the item `after`, and whether there are more.

    Raises:
        RequestRefused: no item is called so.
    """
    places = [0] if after is None else [index for index, one in enumerate(items, start=1) if one.id == after]
    if not places:
        raise _unknown_cursor(after)
    rest = items[places[0] :]
    return rest[:limit], len(rest) > limit


def number_after(after: str | None, before_it: str) -> int:
    """The number at the end of an id that a page follows; 0 for the first page.

    Args:
        before_it: what stands before the number.

    Raises:
        RequestRefused: there is none.
    """
    if after is None:
        return 0
    tail = after.rpartition(before_it)[2]
    if not (tail.isascii() and tail.isdecimal() and len(tail) <= _DIGITS):
        raise _unknown_cursor(after)
    return int(tail)


def _unknown_cursor(after: str | None) -> RequestRefused:
    return RequestRefused(
        f"No item {after!r} in this list.", code="unknown_cursor", param="after", remedy="Use the last_id of a page."
    )
