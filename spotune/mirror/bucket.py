"""Base models in the models bucket."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from boto3.s3.transfer import TransferConfig
from pydantic import ValidationError

from spotune.contracts import layout
from spotune.contracts.base_model import BaseModelManifest
from spotune.contracts.errors import SpotuneError
from spotune.contracts.training import ManifestFile
from spotune.deploy.account import AwsSaysNo, call, pages

PART_BYTES = 16 * 1024**2
# Three parts on the way at once keep both sides' memory below what one large object takes anyway.
_TRANSFER = TransferConfig(multipart_threshold=PART_BYTES, multipart_chunksize=PART_BYTES, max_concurrency=3)
_MISSING = frozenset({"404", "NoSuchKey"})
_REVISION = re.compile(r"[0-9a-f]{40}/")
"""A folder of a revision within a model's own, where another model's name cannot be."""


class StoredFile:
    """An object that is being read."""

    def __init__(self, body: Any) -> None:
        self._body = body

    def read(self, count: int | None = None, /) -> bytes:
        """The next bytes; all that are left where no number is given. Raises as `call`."""
        return call(lambda: {"bytes": self._body.read(count)})["bytes"]  # type: ignore[no-any-return]


class ModelsBucket:
    """The models bucket of an installation.

    Args:
        objects: boto3's S3 client.
        name: the bucket's.
    """

    def __init__(self, objects: Any, name: str) -> None:
        self._objects = objects
        self.name = name

    def manifest(self, name: str, folder: str = "") -> BaseModelManifest | None:
        """That of the revision in force, or of the one in a folder; None where there is none."""
        return self._manifest(self._key(name, folder, layout.MODEL_MARKER))

    def manifests(self) -> Iterator[BaseModelManifest]:
        """Of every model the one in force, by name."""
        for key in self._keys("base/"):
            if key.endswith("/" + layout.MODEL_MARKER):
                found = self._manifest(key)
                if found is not None and key == self._key(found.name, "", layout.MODEL_MARKER):
                    yield found

    def holds(self, name: str, folder: str, file: ManifestFile) -> bool:
        """True where the file was brought whole: its object carries the hash of what was sent."""
        try:
            found = call(self._objects.head_object, Bucket=self.name, Key=self._key(name, folder, file.name))
        except AwsSaysNo as no:
            if no.aws_code in _MISSING:
                return False
            raise
        return bool(found["ContentLength"] == file.bytes and found["Metadata"].get("sha256") == file.sha256)

    def put(self, path: Path, name: str, folder: str, file: ManifestFile) -> None:
        """Bring a file. A large one goes in parts, and is there when all of them are."""
        extra = {"Metadata": {"sha256": file.sha256}}
        key = self._key(name, folder, file.name)
        with path.open("rb") as body:
            call(
                self._objects.upload_fileobj, Fileobj=body, Bucket=self.name, Key=key, ExtraArgs=extra, Config=_TRANSFER
            )

    def mark(self, manifest: BaseModelManifest) -> None:
        """Call a revision complete, and put it in force: new jobs get it from now on."""
        body = manifest.model_dump_json(indent=1).encode()
        for folder in dict.fromkeys((manifest.folder, "")):
            key = self._key(manifest.name, folder, layout.MODEL_MARKER)
            call(self._objects.put_object, Bucket=self.name, Key=key, Body=body, ContentType="application/json")

    def unmark(self, manifest: BaseModelManifest) -> None:
        """Call a revision incomplete, and put it out of force unless another one is in force by now."""
        for folder in dict.fromkeys(("", manifest.folder)):
            if self.manifest(manifest.name, folder) == manifest:
                self.delete(manifest.name, folder, [layout.MODEL_MARKER])

    @contextmanager
    def opened(self, name: str, folder: str, file: str) -> Iterator[StoredFile]:
        """A file to read from, from its beginning on."""
        answer = call(self._objects.get_object, Bucket=self.name, Key=self._key(name, folder, file))
        with closing(answer["Body"]) as body:
            yield StoredFile(body)

    def sha256(self, name: str, folder: str, file: str) -> str:
        """Of a file's bytes, all of them read."""
        digest = hashlib.sha256()
        with self.opened(name, folder, file) as body:
            while chunk := body.read(1 << 20):
                digest.update(chunk)
        return digest.hexdigest()

    def sizes(self, name: str, folder: str) -> dict[str, int]:
        """Of every file that lies in a folder, by name; folders within it are left out."""
        prefix = self._key(name, folder, "")
        found = {key.removeprefix(prefix): size for key, size in self._listed(prefix)}
        return {file: size for file, size in found.items() if "/" not in file}

    def folders(self, name: str) -> tuple[str, ...]:
        """Those of a model's revisions, finished or not."""
        prefix = self._key(name, "", "")
        found = (_REVISION.match(key.removeprefix(prefix)) for key in self._keys(prefix))
        return tuple(dict.fromkeys(match.group() for match in found if match))

    def delete(self, name: str, folder: str, files: list[str]) -> None:
        """Delete files. The bucket keeps their older versions as long as its lifecycle says."""
        for file in files:
            call(self._objects.delete_object, Bucket=self.name, Key=self._key(name, folder, file))

    def _manifest(self, key: str) -> BaseModelManifest | None:
        try:
            body = call(self._objects.get_object, Bucket=self.name, Key=key)["Body"]
        except AwsSaysNo as no:
            if no.aws_code in _MISSING:
                return None
            raise
        try:
            return BaseModelManifest.model_validate_json(StoredFile(body).read())
        except ValidationError as error:
            raise SpotuneError(
                f"s3://{self.name}/{key} is no manifest: {error.errors(include_url=False)[0]['msg']}.",
                code="base_model_unreadable",
                remedy="Add the model again, or restore the object's older version.",
            ) from None

    def _keys(self, prefix: str) -> Iterator[str]:
        return (key for key, _ in self._listed(prefix))

    def _listed(self, prefix: str) -> Iterator[tuple[str, int]]:
        for page in pages(self._objects, "list_objects_v2", Bucket=self.name, Prefix=prefix):
            yield from ((entry["Key"], entry["Size"]) for entry in page.get("Contents", ()))

    def _key(self, name: str, folder: str, file: str) -> str:
        _, key = layout.split_uri(layout.base_model_folder_uri(self.name, name, folder) + file)
        return key
