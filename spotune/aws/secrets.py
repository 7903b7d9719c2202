"""Secrets of Secrets Manager, read at first use: one that never changes, and one that is rotated."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Lock
from typing import Any

from spotune.aws.base import AwsRefused
from spotune.aws.clients import call, client
from spotune.contracts.errors import Unavailable

FRESH = 60.0
"""Seconds for which a rotated secret is not read again."""


class Secret:
    """Fulfils `SecretSource`. It is read once a process: webhooks' secrets follow from it, so it never changes.

    Args:
        arn: the secret's.
        secrets: boto3's Secrets Manager client; the shared one where none is given.
    """

    def __init__(self, arn: str, secrets: Any = None) -> None:
        self._arn = arn
        self._secrets = secrets
        self._value = b""
        self._reading = Lock()

    def value(self) -> bytes:
        """See `SecretSource`."""
        with self._reading:
            if not self._value:
                secrets = self._secrets or client("secretsmanager")
                self._value = call(secrets.get_secret_value, SecretId=self._arn)["SecretString"].encode()
            return self._value


class RotatedSecret:
    """Fulfils `RotatedSecretSource`. Where Secrets Manager does not answer, what was read last goes on counting.

    Args:
        arn: the secret's.
        secrets: boto3's Secrets Manager client; the shared one where none is given.
        clock: seconds that only grow.
    """

    def __init__(self, arn: str, secrets: Any = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._arn = arn
        self._given = secrets
        self._clock = clock
        self._values: tuple[bytes, ...] = ()
        self._read_at = 0.0
        self._reading = Lock()

    def values(self) -> tuple[bytes, ...]:
        """See `RotatedSecretSource`."""
        with self._reading:
            if not self._values or self._clock() - self._read_at >= FRESH:
                self._read()
            return self._values

    def _read(self) -> None:
        try:
            self._values = (self._version("AWSCURRENT"), *self._previous())
        except Unavailable:
            if not self._values:
                raise
        self._read_at = self._clock()

    def _previous(self) -> tuple[bytes, ...]:
        """None before the first rotation, and after its label was taken away."""
        try:
            return (self._version("AWSPREVIOUS"),)
        except AwsRefused as refused:
            if refused.code == "ResourceNotFoundException":
                return ()
            raise

    def _version(self, stage: str) -> bytes:
        secrets = self._given or client("secretsmanager")
        found: str = call(secrets.get_secret_value, SecretId=self._arn, VersionStage=stage)["SecretString"]
        return found.encode()
