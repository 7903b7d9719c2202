"""boto3's clients, made when first asked for, and the one way to call them.

Endpoints, region and credentials come from the environment, as boto3 reads them: `AWS_ENDPOINT_URL` leads to the
emulator, `AWS_ENDPOINT_URL_SAGEMAKER` to the double.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from functools import cache
from typing import Any

from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionError, HTTPClientError

from spotune.aws.base import AwsRefused
from spotune.aws.tracing import trace
from spotune.contracts.errors import Unavailable

_BUSY = frozenset(
    {
        "InternalFailure",
        "InternalServerError",
        "PriorRequestNotComplete",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestTimeout",
        "ServiceUnavailable",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "ThrottledException",
        "TooManyRequestsException",
    }
)

_CONFIG = Config(
    connect_timeout=2,
    read_timeout=5,
    retries={"mode": "standard", "total_max_attempts": 3},
    max_pool_connections=32,
)
"""A caller of the API gets its answer within 29 s: three tries of a service that hangs, the pauses between them, and a
hasty call after them end before. A pass of the reconciler has time for what it begins in its first half."""

_S3_CONFIG = _CONFIG.merge(Config(signature_version="s3v4"))
"""Presigned URLs need the fourth signature version."""

_S3_PATIENT_CONFIG = _S3_CONFIG.merge(Config(read_timeout=60))
"""Where there are minutes, and nobody waits: S3 is silent while it copies, and a stream may pause."""

_HASTY_CONFIG = _CONFIG.merge(Config(connect_timeout=1, read_timeout=1, retries={"total_max_attempts": 1}))
"""For what is worth no caller's time: one try, of two seconds at most."""

_making = threading.Lock()


@cache
def client(service: str, region: str | None = None, *, hasty: bool = False) -> Any:
    """The client of a service, the same one each time; `client.cache_clear()` after the environment changed.

    Args:
        region: another one than the environment's.
        hasty: it tries once, and waits for an answer no longer than two seconds.
    """
    import boto3  # here, since it costs a third of a second that not every process needs

    with _making:  # boto3's default session is not safe among threads
        made = boto3.client(service, region_name=region, config=_config(service, hasty=hasty))
    trace(made)
    return made


def _config(service: str, *, hasty: bool) -> Config:
    if hasty:
        return _HASTY_CONFIG
    if service != "s3":
        return _CONFIG
    return _S3_CONFIG if os.environ.get("SPOTUNE_GIVES_UP_EARLY") == "true" else _S3_PATIENT_CONFIG


def call(operation: Callable[..., dict[str, Any]], **arguments: object) -> dict[str, Any]:
    """Call one of a client's operations.

    Raises:
        AwsRefused: the answer is no.
        Unavailable: there is no answer, or only that the service is busy or broken, even after the client's retries.
    """
    try:
        return operation(**arguments)
    except ClientError as error:
        code, message = error.response["Error"]["Code"], error.response["Error"].get("Message", "")
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if code in _BUSY or status >= 500 or status == 429:
            raise unavailable(error) from error
        raise AwsRefused(code, message, status=status) from error
    except (HTTPClientError, ConnectionError) as error:
        raise unavailable(error) from error


def unavailable(error: Exception) -> Unavailable:
    """What a person reads where AWS does not answer."""
    return Unavailable(
        f"an AWS service does not answer ({type(error).__name__}: {error}).",
        code="aws_unavailable",
        remedy="Try again in a moment.",
    )
