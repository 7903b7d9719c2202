"""What a job was trained on, as `spotune data pull` restores it."""

from __future__ import annotations

from typing import Literal

from spotune.contracts.base import Contract, Seconds

URL_SECONDS: Seconds = 3600
"""How long a URL to read from lives: whoever holds it can read that object."""


class PulledFile(Contract):
    """One file of a job's dataset."""

    role: Literal["training", "validation"]
    uri: str
    sha256: str
    """Of what the job was trained on: what is at `url` may have changed since."""
    bytes: int
    rows: int
    url: str | None
    """GET it from here until `expires_at`, whole or in ranges; None where nothing lies at `uri` any more."""


class DatasetObject(Contract):
    """The answer of `GET /v1/fine_tuning/jobs/{id}/dataset`."""

    object: Literal["fine_tuning.job.dataset"] = "fine_tuning.job.dataset"
    job_id: str
    files: tuple[PulledFile, ...]
    manifest_url: str | None = None
    """Of the manifest that the training file was made by, and can be made again by; None where a person gave the file.
    `GET /v1/fine_tuning/jobs/{id}/dataset/objects` has the URLs of the objects in it."""
    expires_at: int


class PinnedObject(Contract):
    """One object version of a manifest, to be read until the URL ends."""

    id: str
    """Its place in the manifest's entries, counted from 0: the cursor of a listing."""
    uri: str
    version_id: str
    url: str
