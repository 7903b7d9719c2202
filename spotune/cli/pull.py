"""`data pull`: what a job was trained on, on this machine, byte for byte."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import httpx
import typer
from pydantic import ValidationError
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from spotune.cli.client import Api
from spotune.cli.connection import find_connection
from spotune.cli.download import Advance, UrlOf, already_here, download, streamed, write_whole
from spotune.cli.screen import JsonOption, Screen
from spotune.contracts.errors import RequestRefused
from spotune.contracts.layout import split_uri
from spotune.contracts.pull import PulledFile
from spotune.contracts.rules import DataManifest
from spotune.data.assembly.copying import CHUNK_BYTES, Measured, rebuilt
from spotune.data.assembly.refusals import DatasetChanged, damaged_manifest, gone
from spotune.data.assembly.sources import Open
from spotune.data.dvc import named_files, verified

Restored = dict[str, object]
"""One file, as `--json` lists it."""


def pull(
    what: Annotated[str, typer.Argument(help="A job, or a manifest.json or .dvc file of this machine.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="The folder to write to.", show_default="one of that name")
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option(help="Of a manifest: the folder that has its objects as BUCKET/KEY. Of a .dvc file: its remote."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Restore the dataset that a job was trained on: byte for byte, or not at all."""
    screen = Screen(machine=json)
    folder = out or Path(Path(what).stem)
    if what.endswith(".json"):
        restored = _from_manifest(_manifest(_read(Path(what)), what), folder, _remote(source))
    elif what.endswith(".dvc"):
        restored = _from_dvc(Path(what), folder, _remote(source))
    else:
        with Api(find_connection()) as api, httpx.Client(timeout=60, trust_env=api.connection.stack is None) as http:
            restored = _OfJob(api, http, what, screen).restore(folder)
    screen.emit({"files": restored})
    for one in restored:
        screen.say(f"{one['path']}  {one['how']}")


class _OfJob:
    """What the API knows of a job's dataset, asked again where a URL has ended."""

    def __init__(self, api: Api, http: httpx.Client, job_id: str, screen: Screen) -> None:
        self._api, self._http, self._job_id, self._screen = api, http, job_id, screen
        self._dataset = api.dataset(job_id)
        self._pinned: dict[tuple[str, str], str] = {}

    def restore(self, folder: Path) -> list[Restored]:
        """All of its files, and the manifest where it has one."""
        manifest = self._kept_manifest(folder / "manifest.json")
        return [self._file(file, folder / f"{file.role}.jsonl", manifest) for file in self._dataset.files]

    def _file(self, file: PulledFile, target: Path, manifest: DataManifest | None) -> Restored:
        if already_here(target, file.sha256):
            return _told(target, file.sha256, "was here already")
        try:
            with self._progress(target.name, file.bytes) as advance:
                download(
                    lambda offset: streamed(self._http, file.uri, self._url_of(file.role), offset),
                    target,
                    uri=file.uri,
                    sha256=file.sha256,
                    size=file.bytes,
                    advance=advance,
                )
            return _told(target, file.sha256, "was downloaded")
        except DatasetChanged:
            if manifest is None or manifest.sha256 != file.sha256:
                raise
            self._screen.note(f"{file.uri} is not there any more as it was: it is built again from its manifest.")
        with self._progress(target.name, file.bytes) as advance:
            write_whole(rebuilt(manifest, self._open), target, advance=advance)
        return _told(target, file.sha256, "was built again from its manifest")

    def _kept_manifest(self, target: Path) -> DataManifest | None:
        if self._dataset.manifest_url is None:
            return None
        body = b"".join(streamed(self._http, target.name, self._manifest_url))
        if not already_here(target, hashlib.sha256(body).hexdigest()):
            write_whole([body], target)
        return _manifest(body, target.name)

    def _manifest_url(self, fresh: bool) -> str | None:
        if fresh:
            self._dataset = self._api.dataset(self._job_id)
        return self._dataset.manifest_url

    def _url_of(self, role: str) -> UrlOf:
        def url(fresh: bool) -> str | None:
            if fresh:
                self._dataset = self._api.dataset(self._job_id)
            return next((file.url for file in self._dataset.files if file.role == role), None)

        return url

    def _open(self, uri: str, version_id: str) -> Iterator[bytes]:
        """A manifest's object."""

        def url(fresh: bool) -> str | None:
            if fresh or not self._pinned:
                found = self._api.dataset_objects(self._job_id)
                self._pinned = {(one.uri, one.version_id): one.url for one in found}
            return self._pinned.get((uri, version_id))

        return streamed(self._http, uri, url)

    @contextmanager
    def _progress(self, name: str, size: int) -> Iterator[Advance]:
        """A bar on a terminal; silence elsewhere."""
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        screen = self._screen
        with Progress(*columns, TimeRemainingColumn(), console=screen.console, disable=not screen.live) as bar:
            task = bar.add_task(name, total=size)
            yield lambda count: bar.advance(task, count)


def _from_manifest(manifest: DataManifest, folder: Path, source: Path) -> list[Restored]:
    target = folder / "training.jsonl"
    if already_here(target, manifest.sha256):
        return [_told(target, manifest.sha256, "was here already")]
    write_whole(rebuilt(manifest, _in_folder(source)), target)
    return [_told(target, manifest.sha256, "was built again from its manifest")]


def _from_dvc(file: Path, folder: Path, remote: Path) -> list[Restored]:
    """Each file by its path in the repository."""
    restored = []
    for one in named_files(_read(file), file.name, lambda key: _chunks(remote / key)):
        target, uri = folder / one.path, f"{remote}/{one.key}"
        measured = Measured(verified(_chunks(remote / one.key), uri))
        if target.exists():
            for _ in measured:
                pass
            how = "was here already" if already_here(target, measured.sha256) else ""
        else:
            write_whole(measured, target)
            how = "was copied"
        restored.append(_told(target, measured.sha256, how))
    return restored


def _in_folder(source: Path) -> Open:
    """Opens `s3://bucket/key` as `source/bucket/key`, and nothing outside."""

    def open_object(uri: str, version_id: str) -> Iterator[bytes]:
        try:
            path = source.joinpath(*split_uri(uri))
        except ValueError:
            raise damaged_manifest(uri, "it is no s3:// URI") from None
        if not path.resolve().is_relative_to(source.resolve()):
            raise damaged_manifest(uri, "it leads out of the folder of objects")
        return _chunks(path)

    return open_object


def _chunks(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk
    except FileNotFoundError:
        raise gone(str(path)) from None
    except OSError as error:
        raise RequestRefused(f"Cannot read {path}: {error.strerror}.", code="file_unreadable") from None


def _read(path: Path) -> bytes:
    return b"".join(_chunks(path))


def _manifest(body: bytes, name: str) -> DataManifest:
    try:
        return DataManifest.model_validate_json(body)
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise RequestRefused(
            f"{name} is no manifest of a dataset (at {where or 'its start'}: {error.errors()[0]['msg']}).",
            code="manifest_unreadable",
            remedy="Give the manifest.json that lies beside a retraining's dataset.",
        ) from None


def _remote(source: Path | None) -> Path:
    if source is None or not source.is_dir():
        raise RequestRefused(
            "Building from a file of this machine needs the folder of its objects.",
            code="source_missing",
            param="source",
            remedy="Name it with --source.",
        )
    return source


def _told(target: Path, sha256: str, how: str) -> Restored:
    return {"path": str(target), "bytes": target.stat().st_size, "sha256": sha256, "how": how}
