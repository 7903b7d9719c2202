"""The installation's code bucket, made before everything else: bundle, template, and notes for later commands.

CloudFormation names it, so that nobody can take the name before us, and its stack is the last to go.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spotune.deploy.account import AwsSaysNo, call

_NOT_THERE = frozenset({"404", "NoSuchKey", "NotFound"})
_CHANGED = frozenset({"412", "PreconditionFailed", "ConditionalRequestConflict", *_NOT_THERE})
"""S3's answers to a write where somebody else's came first."""


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
        return self._note(name)[0]

    def revise(self, name: str, change: Callable[[Any], Any]) -> Any:
        """Put a note in place of what an earlier command left, and of nothing that came meanwhile; what stands then.

        Args:
            change: the new note, made of the one that is there or None. It is asked again where another command's came
                first, or where an answer was lost: made of its own, it has to answer the same.
        """
        while True:
            noted, condition = self._note(name)
            wanted = change(noted)
            if wanted == noted or self._put_note(name, wanted, condition):
                return wanted

    def _note(self, name: str) -> tuple[Any, dict[str, str]]:
        """A note, and S3's condition that it still is this one."""
        try:
            found = call(self.client.get_object, Bucket=self.bucket, Key=_key(name))
        except AwsSaysNo as refused:
            if refused.aws_code in _NOT_THERE:
                return None, {"IfNoneMatch": "*"}
            raise
        return json.loads(found["Body"].read()), {"IfMatch": found["ETag"]}

    def _put_note(self, name: str, value: object, condition: dict[str, str]) -> bool:
        body = json.dumps(value).encode()
        try:
            call(self.client.put_object, Bucket=self.bucket, Key=_key(name), Body=body, **condition)
        except AwsSaysNo as refused:
            if refused.aws_code in _CHANGED:
                return False
            raise
        return True

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
