"""A model version's files on this machine: whole, and byte for byte what was registered, or not at all."""

from __future__ import annotations

import shutil
from pathlib import Path

import httpx

from spotune.cli.download import already_here, download, streamed
from spotune.cli.model_api import ModelApi
from spotune.contracts.errors import RequestRefused, SpotuneError
from spotune.contracts.registry import ModelVersionObject, VersionFile
from spotune.data.assembly.refusals import DatasetChanged


def pull(api: ModelApi, version: ModelVersionObject, folder: Path) -> Path:
    """Download a version into a new or empty folder.

    The folder appears once every file in it has the size and the hash that it had when it was registered. What a call
    that was cut off has brought stays beside it, and the same call goes on there.

    Raises:
        Conflict: the version was deleted, or its files were not whole when it was registered.
        RequestRefused: the folder holds something, or this disk does not take it.
        Unavailable: S3 does not answer.
        SpotuneError: a file is gone, or not the one that was registered; nothing of it is kept.
    """
    if folder.exists() and any(folder.iterdir()):
        raise RequestRefused(
            f"{folder} is not empty.", code="folder_not_empty", param="out", remedy="Name a folder that does not exist."
        )
    unfinished = folder.with_name(f".{folder.name}.{version.group}-{version.version}.part")
    try:
        with httpx.Client(timeout=60, trust_env=api.connection.stack is None) as http:
            source = _Source(api, http, version)
            for file in source.files():
                source.bring(file, _within(unfinished, file))
    except DatasetChanged as other:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise SpotuneError(
            f"{other.uri} of {version.id} is not the file that was registered: it was replaced or deleted in S3.",
            code="model_file_differs",
            remedy="Restore the bucket's older version of it, or pull another version of the model.",
        ) from None
    if folder.exists():
        folder.rmdir()
    unfinished.rename(folder)
    return folder


class _Source:
    """A version's files in S3, by URLs that are asked for again where they have ended."""

    def __init__(self, api: ModelApi, http: httpx.Client, version: ModelVersionObject) -> None:
        self._api, self._http, self._version = api, http, version
        self._files = self._asked()

    def files(self) -> tuple[VersionFile, ...]:
        """All of them."""
        return tuple(self._files.values())

    def bring(self, file: VersionFile, target: Path) -> None:
        """Download one file, or go on with it.

        Raises:
            DatasetChanged: it is not the one that was registered, or gone.
        """
        if file.sha256 is not None and already_here(target, file.sha256):
            return
        uri = self._version.uri + file.id
        download(
            lambda offset: streamed(self._http, uri, lambda fresh: self._url(file.id, fresh), offset),
            target,
            uri=uri,
            sha256=file.sha256,
            size=file.bytes,
            advance=lambda count: None,
        )

    def _url(self, name: str, fresh: bool) -> str | None:
        if fresh:
            self._files = self._asked()
        return self._files[name].url if name in self._files else None

    def _asked(self) -> dict[str, VersionFile]:
        found = self._api.files(self._version.group, self._version.version)
        return {file.id: file for file in found.files}


def _within(folder: Path, file: VersionFile) -> Path:
    target = folder / file.id
    if not target.resolve().is_relative_to(folder.resolve()):
        raise SpotuneError(f"The API names a file outside of its folder: {file.id}.", code="unexpected_answer")
    return target
