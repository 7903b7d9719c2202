"""Which API to talk to: the one that the environment names, else the embedded one on this machine."""

from __future__ import annotations

import os
from dataclasses import dataclass

from spotune.contracts.errors import NotAuthenticated, Unavailable
from spotune.local.state import StackState, default_home, read_state

HOW_TO_START = (
    "Start embedded mode on this machine with `spotune up`, "
    "or set SPOTUNE_API_URL and SPOTUNE_API_KEY to reach a deployed API."
)

CHECK_ADDRESS = (
    "Check SPOTUNE_API_URL: it is the address that `spotune deploy` printed, with its https://. "
    "Unset it to use embedded mode on this machine."
)


@dataclass(frozen=True, slots=True)
class Connection:
    """An API's address, the key that opens it, and the embedded stack behind it, if it is one."""

    url: str
    key: str
    stack: StackState | None = None


def find_connection() -> Connection:
    """SPOTUNE_API_URL with SPOTUNE_API_KEY, else the embedded stack's own state file.

    Raises:
        NotAuthenticated: an address is set, but no key, or a key, but no address.
        Unavailable: neither way leads anywhere.
    """
    url = os.environ.get("SPOTUNE_API_URL", "").rstrip("/").removesuffix("/v1")
    key = os.environ.get("SPOTUNE_API_KEY", "")
    if url and not key:
        raise NotAuthenticated(
            f"SPOTUNE_API_URL is set ({url}), SPOTUNE_API_KEY is not.",
            code="api_key_missing",
            remedy="Set SPOTUNE_API_KEY to a key of that API, or unset SPOTUNE_API_URL to use embedded mode.",
        )
    if key and not url:
        raise NotAuthenticated(
            "SPOTUNE_API_KEY is set, SPOTUNE_API_URL is not.",
            code="api_url_missing",
            remedy="Set SPOTUNE_API_URL to the API that the key opens, or unset SPOTUNE_API_KEY to use embedded mode.",
        )
    if url:
        return Connection(url, key)
    state = read_state(default_home())
    if state is None:
        raise Unavailable("There is no API to talk to.", code="api_not_configured", remedy=HOW_TO_START)
    return Connection(state.api_url.rstrip("/"), state.api_key, state)
