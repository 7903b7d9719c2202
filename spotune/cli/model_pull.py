"""A model version's files on this machine: whole, and byte for byte what was registered, or not at all."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

from spotune.cli.adapters import s3_of
from spotune.cli.connection import Connection
from spotune.contracts.errors import Conflict, NotFound, RequestRefused, SpotuneError, Unavailable
from spotune.contracts.layout import split_uri
from spotune.contracts.models import ModelFile
from spotune.contracts.registry import ModelVersionObject

CHUNK_BYTES = 1024**2


def pull(connection: Connection, version: ModelVersionObject, folder: Path) -> Path:
    """Download a version into a new or empty folder.

    In embedded mode from the emulator, else with the caller's own AWS credentials. The folder appears once every file
    in it has the size and the hash that it had when it was registered.

    Raises:
        Conflict: the version was deleted, or its files were not whole when it was registered.
        RequestRefused: the folder holds something.
        NotFound: a file is gone from S3.
        Unavailable: S3 does not answer, or does not let the caller in.
        SpotuneError: a file is not the one that was registered.
    """
    if version.status == "deleted" or not version.files:
        raise Conflict(
            f"{version.id} has no files to download: it is {version.status.replace('_', ' ')}.",
            code="model_files_gone",
            remedy="Choose another version; `spotune models versions` lists them.",
        )
    if folder.exists() and any(folder.iterdir()):
        raise RequestRefused(
            f"{folder} is not empty.", code="folder_not_empty", param="out", remedy="Name a folder that does not exist."
        )
    from botocore.exceptions import BotoCoreError, ClientError  # here: boto3 costs a third of a second

    unfinished = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        _download(s3_of(connection.stack), version, unfinished)
        if folder.exists():
            folder.rmdir()
        unfinished.rename(folder)
    except ClientError as error:
        raise _missing_or_unreachable(version, error) from error
    except BotoCoreError as error:
        raise _unreachable(version, error) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def _download(s3: Any, version: ModelVersionObject, folder: Path) -> None:
    bucket, prefix = split_uri(version.uri)
    for file in version.files:
        target = folder / file.name
        if not target.resolve().is_relative_to(folder.resolve()):
            raise SpotuneError(
                f"{version.id} names a file outside of its folder: {file.name}.", code="unexpected_answer"
            )
        target.parent.mkdir(parents=True, exist_ok=True)
        s3.download_file(bucket, prefix + file.name, str(target))
        if not _is_registered(file, target):
            raise SpotuneError(
                f"{file.name} of {version.id} is not the file that was registered.",
                code="model_file_differs",
                remedy="Somebody replaced it in S3: restore the bucket's older version of it.",
            )


def _is_registered(file: ModelFile, path: Path) -> bool:
    if path.stat().st_size != file.bytes:
        return False
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            sha256.update(chunk)
            md5.update(chunk)
    if file.sha256 is not None:
        return sha256.hexdigest() == file.sha256
    # The ETag of an object that came in parts is no hash of its bytes: its size has to do.
    return "-" in file.etag or md5.hexdigest() == file.etag


def _missing_or_unreachable(version: ModelVersionObject, error: Any) -> SpotuneError:
    if error.response["Error"]["Code"] in ("404", "NoSuchKey", "NoSuchBucket"):
        return NotFound(f"The files of {version.id} are gone from {version.uri}.", code="model_files_gone")
    return _unreachable(version, error)


def _unreachable(version: ModelVersionObject, error: Exception) -> Unavailable:
    return Unavailable(
        f"{version.id} at {version.uri} could not be downloaded: {error}.",
        code="model_unreachable",
        remedy="Reading it takes AWS credentials that may read this bucket.",
    )
