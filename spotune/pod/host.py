"""One host of a run on a cluster: fetch, train, keep the checkpoints, publish.

    channels, checkpoints <- S3     /opt/ml as SageMaker lays it, resourceconfig.json with this run's hosts
    the first host has an address   the container's own entry point starts
    checkpoints -> S3               every 20 s, and once more at the end
    model -> S3                     by the first host, its report last: where that is, the run is done

A pod may die between any two of these, and another takes its place. It starts from what is in S3.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TypeVar

from spotune.contracts.layout import split_uri
from spotune.contracts.pod import POD_CONFIG_NAME, PodConfig
from spotune.contracts.training import CONFIG_NAME, REPORT_NAME, ExitCode, TrainingConfig
from spotune.pod.checkpoints import CheckpointSync
from spotune.pod.faults import channel_missing, first_host_lost, host_missing, model_missing, not_published
from spotune.pod.objects import S3_ERRORS, Objects, StoredObject, patiently, relative_key
from spotune.pod.resumable import resumable
from spotune.pod.trainer import Trainer

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds between looks, and for which something is waited for."""

    sync: float = 20.0
    storage: float = 300.0
    """For S3 to answer."""
    host: float = 900.0
    """For the first host's address: nodes are not had at the same moment. The hosts themselves meet for as long."""
    publication: float = 1800.0
    """For the first host's upload, by the others, while nobody has taken its place."""
    poll: float = 2.0


PACE = Pace()


@dataclass(frozen=True, slots=True)
class Host:
    """This one, `number` of `config.hosts`. `training` is the text of training.json, `root` stands for /opt/ml."""

    config: PodConfig
    training: bytes
    number: int
    root: Path
    objects: Objects
    pace: Pace = PACE

    def run(self, trainer: Trainer) -> int:
        """From the first folder to the last upload; returns the pod's exit code.

        Raises:
            Stopped: the pod was asked to end before the trainer ran, or while it waited for the first host's upload.
            PodFault, StorageRefused, StorageAway, OSError: see `fault_of`.
        """
        sync = CheckpointSync(
            self.objects, self.config.checkpoints_uri, self.root / "checkpoints", settle=self.pace.sync / 4
        )
        with trainer.at_once():
            if self._published():
                print(f"The model is in {self.config.model_uri} already: nothing to do.", flush=True)
                return ExitCode.PUBLISHED
            self._lay_out()
            self._say_what_runs()
            for name, uri in self.config.channels.items():
                self._fetch(name, uri)
            self._patiently(partial(self._restore, sync))
            self._meet()
        code = trainer.run(self.pace.sync, partial(sync_if_possible, sync))
        first_began = self._first_began()
        self._patiently(partial(sync.push, final=True))
        if code != ExitCode.PUBLISHED:
            self._upload_failure()
        elif self._first:
            self._publish()
        else:
            with trainer.at_once():
                self._await_model(first_began)
        return code

    @property
    def _first(self) -> bool:
        return self.number == 0

    def _published(self) -> bool:
        return self._patiently(partial(self._find, f"{self.config.model_uri}{REPORT_NAME}")) is not None

    def _lay_out(self) -> None:
        """The folders, the `config` channel, and the hosts as SageMaker describes them."""
        for name in ("input/config", "input/data/config", "checkpoints", "model", "output"):
            (self.root / name).mkdir(parents=True, exist_ok=True)
        (self.root / "input/data/config" / CONFIG_NAME).write_bytes(self.training)
        hosts = {"current_host": self.config.hosts[self.number], "hosts": list(self.config.hosts)}
        (self.root / "input/config/resourceconfig.json").write_text(json.dumps(hosts))

    def _say_what_runs(self) -> None:
        """Into the folder of the results: whoever may not write there learns it now, not after the training; and the
        other hosts see that the first one begins."""
        if self._first:
            path = self.root / "input/config" / POD_CONFIG_NAME
            path.write_text(self.config.model_dump_json(indent=1))
            self._patiently(partial(self.objects.put, path, f"{self.config.output_uri}{POD_CONFIG_NAME}"))

    def _fetch(self, name: str, uri: str) -> None:
        _, prefix = split_uri(uri)
        found = self._patiently(partial(self._listed, uri))
        if not found:
            raise channel_missing(name, uri)
        for source in found:
            target = self.root / "input/data" / name / relative_key(source.key, prefix)
            self._patiently(partial(self.objects.download, source, target))

    def _listed(self, uri: str) -> list[StoredObject]:
        """A folder's objects, or the one object; not others whose names begin like its own."""
        one = None if uri.endswith("/") else self._find(uri)
        if one is not None:
            return [one]
        return list(self.objects.list(uri)) if uri.endswith("/") else []

    def _find(self, uri: str) -> StoredObject | None:
        _, key = split_uri(uri)
        return next((one for one in self.objects.list(uri) if one.key == key), None)

    def _restore(self, sync: CheckpointSync) -> None:
        told = TrainingConfig.model_validate_json(self.training)
        sync.restore(resumable(self.objects, self.config.checkpoints_uri, told.checkpoint.keep))

    def _meet(self) -> None:
        """Wait until the first host's name leads somewhere: the trainers' own patience begins with an address."""
        name = os.environ.get("MASTER_ADDR", self.config.hosts[0])
        if self._first:
            return
        if not _until(partial(_has_address, name), self.pace.host, self.pace.poll):
            raise host_missing(name, self.pace.host)

    def _publish(self) -> None:
        """The model folder, its report last: by it the other hosts and the next pod take the run for done."""
        folder = self.root / "model"
        report = folder / REPORT_NAME
        if not report.is_file():
            raise model_missing()
        files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path != report]
        for path in (*files, report):
            relative = path.relative_to(folder).as_posix()
            self._patiently(partial(self.objects.put, path, f"{self.config.model_uri}{relative}"))

    def _await_model(self, first_began: datetime | None) -> None:
        """Of another host: all are done again, or none. Where the first one has begun anew, it waits for this one."""

        def settled() -> bool:
            return self._published() or self._first_began() != first_began

        if not _until(settled, self.pace.publication, self.pace.poll):
            raise not_published(self.pace.publication)
        if not self._published():
            raise first_host_lost(self.config.hosts[0])

    def _first_began(self) -> datetime | None:
        """When the first host last said what runs; None where it has not."""
        found = self._patiently(partial(self._find, f"{self.config.output_uri}{POD_CONFIG_NAME}"))
        return found.modified if found is not None else None

    def _upload_failure(self) -> None:
        failure = self.root / "output" / "failure"
        if failure.is_file():
            self._patiently(partial(self.objects.put, failure, self.config.failure_uri))

    def _patiently(self, action: Callable[[], Result]) -> Result:
        return patiently(action, self.pace.storage, threading.Event())


def sync_if_possible(sync: CheckpointSync) -> None:
    """A push that fails costs nothing but time: the next one takes what this one has left."""
    try:
        sync.push()
    except (*S3_ERRORS, OSError) as error:
        print(f"checkpoints are not uploaded this time: {error}", file=sys.stderr, flush=True)


def _until(condition: Callable[[], bool], seconds: float, poll: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(poll)
    return True


def _has_address(name: str) -> bool:
    try:
        socket.getaddrinfo(name, None)
    except OSError:
        return False
    return True
