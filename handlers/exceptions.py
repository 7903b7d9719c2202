"""What the log says of an exception: its kind and its frames always, its words only where they quote nobody's data.

The words of an exception that nobody foresaw may hold whatever the code had at hand: a row of a dataset, a prompt, a
key. Ours about AWS do not, nor do botocore's about an answer that did not come or was no. The rest is left out; kind
and frames lead to the line, and a row that is to blame is found again with `spotune data check`.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator

from botocore.exceptions import ClientError, ConnectionError, HTTPClientError
from pydantic import ValidationError

from spotune.contracts.errors import SpotuneError, Unavailable

PLAIN = (Unavailable, ClientError, ConnectionError, HTTPClientError, OSError)
"""Kinds whose words are about services, places and networks. Not ParamValidationError, which quotes values."""
OUR_EDGE = "spotune.aws."
LEFT_OUT = "(its words are left out: they may quote data)"


def told(error: BaseException) -> str:
    """The exception and what it came of, oldest first, as the log may show it."""
    return "\n".join(_chain(error))


def words(error: BaseException) -> str:
    """What it says, as far as that is nobody's data."""
    if isinstance(error, PLAIN) or type(error).__module__.startswith(OUR_EDGE):
        return str(error)
    if isinstance(error, SpotuneError):
        return f"code {error.code}"
    if isinstance(error, ValidationError):
        return "; ".join(
            f"{'.'.join(map(str, one['loc']))}: {one['type']}" for one in error.errors(include_input=False)
        )
    return LEFT_OUT


def _chain(error: BaseException) -> Iterator[str]:
    seen: list[BaseException] = []
    while error not in seen:
        seen.append(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__) or error
    for one in reversed(seen):
        frames = "".join(traceback.format_tb(one.__traceback__)).rstrip()
        yield f"{frames}\n{type(one).__name__}: {words(one)}"
