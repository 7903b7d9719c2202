"""One secret of Secrets Manager, read at first use."""

from __future__ import annotations

from threading import Lock
from typing import Any

from spotune.aws.clients import call, client


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
