"""A job's adapter on this machine: downloaded once from S3, whole or not at all."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from spotune.cli.connection import Connection
from spotune.contracts.api import JobObject
from spotune.contracts.errors import Conflict, NotFound, Unavailable
from spotune.contracts.layout import split_uri
from spotune.local.deployment import client
from spotune.local.state import StackState, default_home

WEIGHTS = ("adapter_model.safetensors", "model.safetensors", "model.safetensors.index.json")


def local_adapter(job_id: str) -> Path | None:
    """The folder of an adapter that was downloaded before."""
    folder = _folder(job_id)
    return folder if any((folder / name).is_file() for name in WEIGHTS) else None


def fetch_adapter(connection: Connection, job: JobObject) -> Path:
    """The adapter's folder under SPOTUNE_HOME, downloaded from S3 if it is not there.

    In embedded mode from the emulator, else with the caller's own AWS credentials.

    Raises:
        Conflict: the job has left no adapter.
        NotFound: its files are gone from S3.
        Unavailable: S3 does not answer, or does not let the caller in.
    """
    here = local_adapter(job.id)
    if here is not None:
        return here
    uri = job.spotune.output_uri
    if uri is None:
        raise Conflict(
            f"{job.id} has no adapter: it is {job.spotune.state}.",
            code="no_adapter",
            remedy=f"See `spotune show {job.id}`.",
        )
    from botocore.exceptions import BotoCoreError, ClientError  # here: boto3 costs a third of a second

    try:
        return _download(_s3(connection.stack), uri, _folder(job.id))
    except (ClientError, BotoCoreError) as error:
        raise Unavailable(
            f"The adapter at {uri} could not be downloaded: {error}.",
            code="adapter_unreachable",
            remedy="Reading it takes AWS credentials that may read this bucket.",
        ) from error


def _folder(job_id: str) -> Path:
    return default_home() / "adapters" / job_id


def _s3(stack: StackState | None) -> Any:
    if stack is not None:
        return client("s3", stack.emulator_url)
    import boto3

    return boto3.client("s3")


def _download(s3: Any, uri: str, folder: Path) -> Path:
    """Into a folder of another name first, so that a download that was cut short is never taken for an adapter."""
    bucket, prefix = split_uri(uri if uri.endswith("/") else f"{uri}/")
    unfinished = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            for item in page.get("Contents", ()):
                target = unfinished / item["Key"].removeprefix(prefix)
                target.parent.mkdir(parents=True, exist_ok=True)
                s3.download_file(bucket, item["Key"], str(target))
        if not unfinished.is_dir():
            raise NotFound(f"No adapter lies at {uri} any more.", code="adapter_gone")
        shutil.rmtree(folder, ignore_errors=True)
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder
