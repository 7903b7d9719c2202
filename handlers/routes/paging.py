"""Query parameters and list objects that every listing shares."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Protocol, TypeVar

from aws_lambda_powertools.event_handler.openapi.params import Query

from spotune.contracts.api import ListObject

Limit = Annotated[int, Query(ge=1, le=100, description="Items a page.")]
After = Annotated[str | None, Query(description="The last id of the page before.")]


class HasId(Protocol):
    """Whatever a listing lists."""

    @property
    def id(self) -> str:
        """Its cursor."""


T = TypeVar("T", bound=HasId)


def list_object(items: Sequence[T], *, has_more: bool = False) -> ListObject[T]:
    """A page in OpenAI's shape."""
    return ListObject(
        data=tuple(items),
        has_more=has_more,
        first_id=items[0].id if items else None,
        last_id=items[-1].id if items else None,
    )
