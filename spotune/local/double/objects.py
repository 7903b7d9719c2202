"""The emulator's S3 as the job's instances see it: with a cache that several jobs share."""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import boto3

from spotune.contracts.layout import split_uri
from spotune.local.double.judge import Credentials
from spotune.local.double.settings import Settings
from spotune.pod.objects import PATIENT, Objects, StoredObject

CACHED_BYTES = 4 * 1024**2
"""Objects from this size on are kept; a smaller one is quicker fetched than looked up."""
CACHE_LIMIT_BYTES = 20 * 1024**3


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
        config=PATIENT,
    )


class CachedObjects(Objects):
    """Reads and writes of one S3, with a cache that several jobs share by hard links."""

    def __init__(self, s3: Any, cache: Path, cache_limit: int = CACHE_LIMIT_BYTES) -> None:
        super().__init__(s3)
        self._cache = cache
        self._limit = cache_limit
        cache.mkdir(parents=True, exist_ok=True)

    def lies_in(self, uri: str, region: str) -> bool:
        """True where the URI's bucket is in this region; where S3 does not say so, too."""
        answer = self._s3.head_bucket(Bucket=split_uri(uri)[0])
        found = answer.get("BucketRegion") or answer["ResponseMetadata"]["HTTPHeaders"].get("x-amz-bucket-region")
        return found in (None, "", region)

    def fetch(self, source: StoredObject, target: Path) -> None:
        """Download one object; a large one is linked to the cache, read-only."""
        if source.size < CACHED_BYTES:
            self.download(source, target)
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        cached = self._cache / hashlib.sha256(f"{source.bucket}/{source.key}/{source.etag}".encode()).hexdigest()
        if not cached.exists():
            self._fill(source, cached)
        with suppress(FileNotFoundError):
            os.utime(cached)
        self._link(source, cached, target)

    def _fill(self, source: StoredObject, cached: Path) -> None:
        handle, name = tempfile.mkstemp(dir=self._cache, prefix=".")
        os.close(handle)
        temporary = Path(name)
        try:
            self.download(source, temporary)
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
            self.download(source, target)  # another file system, or trimmed this moment

    def _trim(self, keep: Path) -> None:
        entries = sorted((path.stat().st_mtime, path.stat().st_size, path) for path in self._cache.glob("[!.]*"))
        excess = sum(size for _, size, _ in entries) - self._limit
        for _, size, path in entries:
            if excess <= 0:
                return
            if path != keep:
                path.unlink(missing_ok=True)
                excess -= size
