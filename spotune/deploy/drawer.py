"""The installation's code bucket, made before everything else: bundle, template, and notes for later commands.

CloudFormation names it, so that nobody can take the name before us, and its stack is the last to go.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spotune.deploy.account import AwsSaysNo, call

_NOT_THERE = frozenset({"404", "NoSuchKey", "NotFound"})


@dataclass(frozen=True)
class Drawer:
    """The bucket by its name, and S3's client in its region."""

    client: Any
    bucket: str

    def put(self, path: Path, key: str) -> str:
        """Put a file there, unless it is there already with these very bytes; its key."""
        body = path.read_bytes()
        digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
        if self._digest(key) != digest:
            call(self.client.put_object, Bucket=self.bucket, Key=key, Body=body, ChecksumSHA256=digest)
        return key

    def url(self, key: str) -> str:
        """Address of an object, as CloudFormation takes it."""
        return f"{self.client.meta.endpoint_url}/{self.bucket}/{key}"

    def note(self, name: str) -> Any:
        """A note that an earlier command left; None where there is none."""
        try:
            return json.loads(call(self.client.get_object, Bucket=self.bucket, Key=_key(name))["Body"].read())
        except AwsSaysNo as refused:
            if refused.aws_code in _NOT_THERE:
                return None
            raise

    def leave_note(self, name: str, value: object) -> None:
        """Leave a note, in place of an earlier one of this name."""
        call(self.client.put_object, Bucket=self.bucket, Key=_key(name), Body=json.dumps(value).encode())

    def _digest(self, key: str) -> str | None:
        try:
            shown = call(self.client.head_object, Bucket=self.bucket, Key=key, ChecksumMode="ENABLED")
        except AwsSaysNo as refused:
            if refused.aws_code in _NOT_THERE:
                return None
            raise
        return shown.get("ChecksumSHA256")


def _key(name: str) -> str:
    return f"notes/{name}.json"
