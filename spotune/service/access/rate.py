"""Requests a minute: each key's are counted in the store, so that the limit holds over all Lambda instances together.

A window is a minute of the clock. A key may so make up to twice its limit within sixty seconds that lie across two of
them; in return a request costs one write, and refusing is exact. Clocks that differ by a second count that second's
requests in the neighbouring window, and nothing else.

Where the store does not answer, the request is refused with 503 and not let through: every route needs the store
anyhow, and a key that is fast enough to overload its own counter would otherwise have no limit at all. Money and
started work do not depend on it either way.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from spotune.contracts.errors import TooManyRequests
from spotune.contracts.identity import ApiKey
from spotune.service.installation import Installation

WINDOW_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a key has left of its minute, the request that was just counted included."""

    limit: int
    remaining: int
    admitted: bool
    reset: int
    """Seconds until the next window, 1 at least."""


def count_request(here: Installation, key: ApiKey) -> Allowance:
    """Count a request of a key that is known; requests without one are never counted, and so fill no table.

    Raises:
        Unavailable: the store does not answer.
    """
    now = here.clock()
    until = (int(now) // WINDOW_SECONDS + 1) * WINDOW_SECONDS
    limit = requests_per_minute(here, key)
    used = here.store.count_request(key, until, limit=limit)
    return Allowance(
        limit=limit,
        remaining=0 if used is None else limit - used,
        admitted=used is not None,
        reset=max(1, math.ceil(until - now)),
    )


def require_room(key: ApiKey, allowance: Allowance) -> None:
    """Let a request pass that was counted.

    Raises:
        TooManyRequests: the key had none left; nothing was done.
    """
    if not allowance.admitted:
        raise TooManyRequests(
            f"The API key {key.name!r} has made its {allowance.limit} requests of this minute.",
            code="rate_limit_exceeded",
            retry_after=allowance.reset,
            remedy=f"Send it again in {allowance.reset} s, as the header Retry-After says.",
        )


def requests_per_minute(here: Installation, key: ApiKey) -> int:
    """The key's own limit, else the installation's."""
    return key.requests_per_minute or here.settings.requests_per_minute
