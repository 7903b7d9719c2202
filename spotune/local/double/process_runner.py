"""Runs jobs for real: channels from the emulator's S3, one process a host, checkpoints synced both ways."""

from __future__ import annotations

import logging
import shutil
import threading
import time
import uuid
from collections.abc import Callable

from botocore.exceptions import BotoCoreError, ClientError

from spotune.local.double import guardian
from spotune.local.double.faults import ServiceError
from spotune.local.double.instances import Instances
from spotune.local.double.job import Job, Request
from spotune.local.double.launch import Launch
from spotune.local.double.machine import Exited, InputRefused
from spotune.local.double.runner import KILLED, Report
from spotune.local.double.settings import Settings
from spotune.local.double.shelves import Shelves

SEEN_SECONDS = 10.0
"""For so long a channel that held something is not looked at again; a download finds out anyway."""

log = logging.getLogger(__name__)


class ProcessRunner:
    """One Launch a job while it holds instances; every act that takes time has a thread of its own."""

    def __init__(self, settings: Settings, shelves: Shelves) -> None:
        self._settings = settings
        self._shelves = shelves
        self._folder = settings.home / "double" / "jobs"
        self._launches: dict[str, Launch] = {}
        self._seen: dict[tuple[str, str], float] = {}
        for left_over in self._folder.glob("*/.gone-*"):
            shutil.rmtree(left_over, ignore_errors=True)

    def missing_input(self, request: Request) -> str | None:
        """The first channel URI under which S3 has nothing in this region for the job's role, or the first folder of
        another one.

        None too where S3 is away: the download finds out.

        Raises:
            ServiceError: ValidationException where the role cannot be assumed.
        """
        role = request["RoleArn"]
        objects = self._shelves.of(role)
        channels = [one["DataSource"]["S3DataSource"]["S3Uri"] for one in request.get("InputDataConfig", [])]
        folders = [request.get("CheckpointConfig", {}).get("S3Uri"), request["OutputDataConfig"]["S3OutputPath"]]
        for uri in [*channels, *filter(None, folders)]:
            if self._seen.get((role, uri), 0.0) > time.monotonic() - SEEN_SECONDS:
                continue
            try:
                if not self._shelves.own.lies_in(uri, self._settings.region):
                    return str(uri)
                if uri in channels and next(objects.list(uri), None) is None:
                    return str(uri)
                self._seen[role, uri] = time.monotonic()
            except ClientError as error:
                if error.response["Error"]["Code"] in ("NoSuchBucket", "AccessDenied", "404", "403"):
                    return str(uri)
            except BotoCoreError as error:
                log.warning("cannot look for %s: %s", uri, error)
        return None

    def download(self, job: Job, report: Report) -> None:
        """Begin a launch: the folders, the channels, the checkpoints of earlier launches."""
        try:
            objects = self._shelves.of(job.request["RoleArn"])
        except ServiceError as error:
            refused = InputRefused(f"ClientError: {error}")
            _in_thread(lambda: report(refused), f"{job.name}-refused")
            return
        launch = Launch(job, Instances(self._folder / job.name, job), objects, self._settings)
        self._launches[job.name] = launch
        _in_thread(lambda: launch.download(report), f"{job.name}-download")

    def run(self, job: Job, report: Report) -> None:
        """Start the hosts' processes and follow them."""
        launch = self._launches[job.name]
        _in_thread(lambda: launch.run(report), f"{job.name}-run")

    def terminate(self, job: Job, report: Report) -> None:
        """SIGTERM to the process of every host."""
        self._launches[job.name].terminate()

    def kill(self, job: Job, report: Report) -> None:
        """End every host at once, or the download before it."""
        launch = self._launches.get(job.name)
        if launch is None or not launch.kill():
            _in_thread(lambda: report(Exited(KILLED)), f"{job.name}-killed")

    def upload(self, job: Job, report: Report) -> None:
        """The last checkpoints, the output folder and, unless the job has failed, the model."""
        launch, failed = self._launches[job.name], bool(job.failure_reason)
        _in_thread(lambda: launch.upload(report, with_model=not failed), f"{job.name}-upload")

    def discard(self, job: Job) -> None:
        """Remove the hosts' folders; the logs stay."""
        self._launches.pop(job.name, None)
        folder = self._folder / job.name
        roots = list(folder.glob("ml*"))
        if not roots:
            return
        gone = folder / f".gone-{uuid.uuid4().hex}"
        gone.mkdir()
        for root in roots:
            root.rename(gone / root.name)
        _in_thread(lambda: shutil.rmtree(gone, ignore_errors=True), f"{job.name}-discard")

    def recover(self, job: Job) -> None:
        """End processes of an earlier double, told by process id and start."""
        table = guardian.processes()
        for process in job.processes:
            entry = table.get(process.pid)
            if entry is not None and entry.started == process.identity:
                log.warning("ending process %d, left over from job %s", process.pid, job.name)
                guardian.end_tree(process.pid)

    def peak_rss(self, job: Job) -> int:
        """Of this launch; the job keeps that of earlier ones."""
        launch = self._launches.get(job.name)
        return launch.peak_rss if launch is not None else 0

    def close(self) -> None:
        """Kill every process and wait for its end."""
        for launch in list(self._launches.values()):
            launch.close()


def _in_thread(work: Callable[[], None], name: str) -> None:
    threading.Thread(target=work, name=name, daemon=True).start()
