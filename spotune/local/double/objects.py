"""S3 as the job's instances see it: listing, downloads by way of a cache, uploads, and patience with a store away."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from spotune.contracts.layout import split_uri
from spotune.local.double.judge import Credentials
from spotune.local.double.settings import Settings

CACHED_BYTES = 4 * 1024**2
"""Objects from this size on are kept; a smaller one is quicker fetched than looked up."""
CACHE_LIMIT_BYTES = 20 * 1024**3
_CONFIG = Config(connect_timeout=5, read_timeout=60, retries={"mode": "standard", "total_max_attempts": 2})

Result = TypeVar("Result")
log = logging.getLogger(__name__)


class StorageAway(Exception):
    """S3 did not answer for as long as the double waits."""


@dataclass(frozen=True)
class StoredObject:
    """One object, as a listing shows it."""

    bucket: str
    key: str
    etag: str
    size: int


def client(service: str, settings: Settings, role: Credentials | None = None) -> Any:
    """A boto3 client of the emulator, with the double's own credentials where no role is given."""
    own = Credentials(*settings.credentials, token="")
    return boto3.client(
        service,
        endpoint_url=settings.emulator_url,
        region_name=settings.region,
        aws_access_key_id=(role or own).access_key,
        aws_secret_access_key=(role or own).secret_key,
        aws_session_token=(role or own).token or None,
        config=_CONFIG,
    )


def patiently(action: Callable[[], Result], seconds: float, cancelled: threading.Event) -> Result:
    """Repeat an action on S3 while S3 is away.

    Raises:
        StorageAway: for longer than `seconds`, or cancelled meanwhile.
        ClientError: S3 refuses it; that does not change by waiting.
    """
    deadline, pause = time.monotonic() + seconds, 0.1
    while True:
        try:
            return action()
        except (BotoCoreError, ClientError) as error:
            if isinstance(error, ClientError) and error.response["ResponseMetadata"]["HTTPStatusCode"] < 500:
                raise
            if time.monotonic() >= deadline or cancelled.wait(pause):
                raise StorageAway(str(error)) from error
            pause = min(2 * pause, 5.0)


class Objects:
    """Reads and writes of one S3, with a cache that several jobs share by hard links."""

    def __init__(self, s3: Any, cache: Path, cache_limit: int = CACHE_LIMIT_BYTES) -> None:
        self._s3 = s3
        self._cache = cache
        self._limit = cache_limit
        cache.mkdir(parents=True, exist_ok=True)

    def list(self, prefix_uri: str) -> Iterator[StoredObject]:
        """Objects whose key begins with the URI's, without the markers of empty folders."""
        bucket, prefix = split_uri(prefix_uri)
        for answer in self._s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            for entry in answer.get("Contents", []):
                if not entry["Key"].endswith("/"):
                    yield StoredObject(bucket, entry["Key"], entry["ETag"].strip('"'), entry["Size"])

    def lies_in(self, uri: str, region: str) -> bool:
        """True where the URI's bucket is in this region; where S3 does not say so, too."""
        answer = self._s3.head_bucket(Bucket=split_uri(uri)[0])
        found = answer.get("BucketRegion") or answer["ResponseMetadata"]["HTTPHeaders"].get("x-amz-bucket-region")
        return found in (None, "", region)

    def fetch(self, source: StoredObject, target: Path, *, shared: bool = True) -> None:
        """Download one object. A large one is linked to the cache, read-only, unless it is not `shared`."""
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.size < CACHED_BYTES or not shared:
            self._download(source, target)
            return
        cached = self._cache / hashlib.sha256(f"{source.bucket}/{source.key}/{source.etag}".encode()).hexdigest()
        if not cached.exists():
            self._fill(source, cached)
        with suppress(FileNotFoundError):
            os.utime(cached)
        self._link(source, cached, target)

    def put(self, path: Path, uri: str) -> None:
        """Upload one file, in parts where it is large."""
        bucket, key = split_uri(uri)
        self._s3.upload_file(str(path), bucket, key)

    def put_folder(self, folder: Path, prefix_uri: str) -> int:
        """Upload every file below `folder`; returns how many."""
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        for path in files:
            self.put(path, f"{prefix_uri}{path.relative_to(folder).as_posix()}")
        return len(files)

    def _fill(self, source: StoredObject, cached: Path) -> None:
        handle, name = tempfile.mkstemp(dir=self._cache, prefix=".")
        os.close(handle)
        temporary = Path(name)
        try:
            self._download(source, temporary)
            temporary.chmod(0o444)
            os.replace(temporary, cached)
        finally:
            temporary.unlink(missing_ok=True)
        self._trim(keep=cached)

    def _link(self, source: StoredObject, cached: Path, target: Path) -> None:
        try:
            os.link(cached, target)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise
            self._download(source, target)  # another file system, or trimmed this moment

    def _download(self, source: StoredObject, target: Path) -> None:
        body = self._s3.get_object(Bucket=source.bucket, Key=source.key)["Body"]
        with target.open("wb") as file:
            shutil.copyfileobj(body, file, 1024**2)

    def _trim(self, keep: Path) -> None:
        entries = sorted((path.stat().st_mtime, path.stat().st_size, path) for path in self._cache.glob("[!.]*"))
        excess = sum(size for _, size, _ in entries) - self._limit
        for _, size, path in entries:
            if excess <= 0:
                return
            if path != keep:
                path.unlink(missing_ok=True)
                excess -= size


def relative_key(key: str, prefix: str) -> str:
    """Where an object of an S3Prefix channel lies below the channel: its key from the prefix's last slash on.

    Raises:
        ValueError: the key would lie outside the channel.
    """
    relative = key[prefix.rfind("/") + 1 :]
    if not relative or any(part in ("", ".", "..") for part in relative.split("/")):
        raise ValueError(f"the key {key!r} has no place in a folder")
    return relative
