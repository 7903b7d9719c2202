"""S3 as a training job's host sees it: listing, downloads, uploads, and patience with a store away."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from boto3.exceptions import Boto3Error
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
)
from s3transfer.exceptions import S3DownloadFailedError, S3ValidationError

from spotune.contracts.layout import split_uri

PATIENT = Config(connect_timeout=5, read_timeout=60, retries={"mode": "standard", "total_max_attempts": 2})
"""Of a client whose calls `patiently` repeats."""

S3_ERRORS = (BotoCoreError, ClientError, Boto3Error, S3DownloadFailedError, S3ValidationError)
"""Whatever boto3 raises where S3 refuses or does not answer, or an object changes while it comes."""

NO_CREDENTIALS = (NoCredentialsError, PartialCredentialsError)
"""A client looks for them once, when it is made."""

_PASSING_STATUSES = frozenset({408, 409, 429})
"""Of 4xx: a request that arrived too slowly, one that met another, one of too many."""
_PASSING_CODES = frozenset(
    {
        "IDPCommunicationError",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestTimeout",
        "RequestTimeoutException",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
    }
)
"""Of answers that may have status 400: AWS SDKs' reference guide, Retry behavior; STS, AssumeRoleWithWebIdentity."""

Result = TypeVar("Result")


class StorageAway(Exception):
    """S3 did not answer, or not yet with what was asked for, as long as we wait. The last error is its cause."""


class StorageRefused(Exception):
    """S3 refuses, or cannot even be asked: waiting does not mend it. boto3's error is its cause."""


@dataclass(frozen=True)
class StoredObject:
    """One object, as a listing shows it."""

    bucket: str
    key: str
    etag: str
    size: int
    modified: datetime


def patiently(action: Callable[[], Result], seconds: float, cancelled: threading.Event) -> Result:
    """Repeat an action on S3 while S3 is away.

    Raises:
        StorageAway: for longer than `seconds`, or cancelled meanwhile.
        StorageRefused: see there.
    """
    deadline, pause = None, 0.1
    while True:
        try:
            return action()
        except S3_ERRORS as error:
            if not _passes(error):
                raise StorageRefused(str(error)) from error
            deadline = deadline or time.monotonic() + seconds  # an action that has run for long has its time, too
            if time.monotonic() >= deadline or cancelled.wait(pause):
                raise StorageAway(str(error)) from error
            pause = min(2 * pause, 5.0)


def _passes(error: Exception) -> bool:
    """True where another try may fare better."""
    if isinstance(error, ClientError):
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        return status >= 500 or status in _PASSING_STATUSES or error.response["Error"]["Code"] in _PASSING_CODES
    return not isinstance(error, (*NO_CREDENTIALS, ParamValidationError))


class Objects:
    """Reads and writes of one S3."""

    def __init__(self, s3: Any) -> None:
        self._s3 = s3

    def list(self, prefix_uri: str) -> Iterator[StoredObject]:
        """Objects whose key begins with the URI's, without the markers of empty folders."""
        bucket, prefix = split_uri(prefix_uri)
        for answer in self._s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            for entry in answer.get("Contents", []):
                if not entry["Key"].endswith("/"):
                    yield StoredObject(
                        bucket, entry["Key"], entry["ETag"].strip('"'), entry["Size"], entry["LastModified"]
                    )

    def download(self, source: StoredObject, target: Path) -> None:
        """Write one object to a file, which is there when it is whole; a large one in parts, several at a time."""
        target.parent.mkdir(parents=True, exist_ok=True)
        self._s3.download_file(source.bucket, source.key, str(target))

    def read(self, source: StoredObject) -> bytes:
        """A small object's bytes."""
        body: bytes = self._s3.get_object(Bucket=source.bucket, Key=source.key)["Body"].read()
        return body

    def put(self, path: Path, uri: str) -> None:
        """Upload one file, in parts where it is large."""
        bucket, key = split_uri(uri)
        with path.open("rb") as file:  # not `upload_file`, whose errors do not say what S3 answered
            self._s3.upload_fileobj(file, bucket, key)

    def put_folder(self, folder: Path, prefix_uri: str) -> int:
        """Upload every file below `folder`; returns how many."""
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        for path in files:
            self.put(path, f"{prefix_uri}{path.relative_to(folder).as_posix()}")
        return len(files)


def relative_key(key: str, prefix: str) -> str:
    """Where an object of an S3Prefix channel lies below the channel: its key from the prefix's last slash on.

    Raises:
        ValueError: the key would lie outside the channel.
    """
    relative = key[prefix.rfind("/") + 1 :]
    if not relative or any(part in ("", ".", "..") for part in relative.split("/")):
        raise ValueError(f"the key {key!r} has no place in a folder")
    return relative
