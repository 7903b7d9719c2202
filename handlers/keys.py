"""Issues an API key. Invoked directly, by who may invoke it: IAM is its lock."""

from __future__ import annotations

from typing import Any

from spotune.contracts.errors import SpotuneError
from spotune.service.installation import installation
from spotune.service.keys import issue_key


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Lambda's entry point: `{"tenant", "name"}` in, `{"key"}` out, or the error object."""
    try:
        return {"key": issue_key(installation(), str(event.get("tenant", "")), str(event.get("name", "first")))}
    except SpotuneError as error:
        return error.body()
