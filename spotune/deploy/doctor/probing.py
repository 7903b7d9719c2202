"""How a probe asks: one question, and whatever goes wrong becomes an `Unseen` with its words."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from spotune.aws.base import AwsRefused
from spotune.contracts.errors import SpotuneError
from spotune.deploy.doctor.seen import Unseen

T = TypeVar("T")


def look(probe: Callable[[], T]) -> T | Unseen:
    """What the probe sees, or why it sees nothing."""
    try:
        return probe()
    except ClientError as error:
        code, said = error.response["Error"]["Code"], error.response["Error"].get("Message", "")
        return Unseen(f"{code}: {said}".rstrip(": "), code)
    except BotoCoreError as error:
        return Unseen(str(error))
    except SpotuneError as error:
        refused = error.__cause__
        return Unseen(str(refused), refused.code) if isinstance(refused, AwsRefused) else Unseen(str(error))


def paged(service: Any, operation: str, key: str, **arguments: object) -> Iterator[Any]:
    """Every item of an operation's pages."""
    for page in service.get_paginator(operation).paginate(**arguments):
        yield from page.get(key, ())
