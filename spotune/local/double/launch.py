"""The instances of one launch of one job: download, processes, checkpoint sync, upload."""

from __future__ import annotations

import logging
import subprocess
import sys
import tarfile
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

from spotune.contracts.layout import split_uri
from spotune.local.double import guardian
from spotune.local.double.instances import Instances, free_port
from spotune.local.double.job import HostProcess, Job
from spotune.local.double.machine import Broken, Downloaded, Exited, InputRefused, Started, Uploaded
from spotune.local.double.objects import CachedObjects
from spotune.local.double.runner import Report
from spotune.local.double.settings import Settings
from spotune.pod.checkpoints import CheckpointSync
from spotune.pod.objects import S3_ERRORS, StorageAway, StorageRefused, patiently, relative_key

POLL_SECONDS = 0.1
MEASURE_SECONDS = 1.0

log = logging.getLogger(__name__)


class Launch:
    """From the first folder to the last upload. `download`, `run` and `upload` block; the others do not."""

    def __init__(self, job: Job, instances: Instances, objects: CachedObjects, settings: Settings) -> None:
        self.peak_rss = 0
        """Bytes, all hosts together."""
        self._name = job.name
        self._request = job.request
        self._instance_type = job.instance_type
        self._instances = instances
        self._objects = objects
        self._settings = settings
        self._lock = threading.Lock()
        self._killed = threading.Event()
        self._closed = threading.Event()
        self._terminated = False
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._syncs = self._make_syncs()

    def download(self, report: Report) -> None:
        """Answers Downloaded, InputRefused or Broken; nothing once killed."""
        outcome: Downloaded | InputRefused | Broken = Downloaded()
        try:
            self._instances.lay_out(self._instance_type)
            for channel in self._request.get("InputDataConfig", []):
                self._download_channel(channel)
            for sync in self._syncs:
                patiently(sync.restore, self._settings.timing.storage_patience, self._killed)
        except StorageAway as error:
            log.error("%s: S3 is away: %s", self._name, error)
            outcome = Broken()
        except (StorageRefused, OSError, ValueError) as error:
            outcome = InputRefused(f"ClientError: Data download failed: {error}")
        if not self._killed.is_set():
            report(outcome)

    def run(self, report: Report) -> None:
        """Answers Started and Exited; nothing where the launch was killed before its processes began."""
        with self._lock:
            if self._killed.is_set():
                return
            port = free_port()
            for host in self._instances.hosts:
                self._processes[host] = self._start(host, port)
            if self._terminated:
                self._send_terminate()
        report(Started(self._identities()))
        self._follow()
        if not self._killed.is_set():
            self._sync(final=True)
        codes = (_exit_code(process.wait()) for process in self._processes.values())
        report(Exited(next((code for code in codes if code), 0), self._instances.failure()))

    def upload(self, report: Report, *, with_model: bool) -> None:
        """Answers Uploaded or Broken."""
        away = partial(patiently, seconds=self._settings.timing.storage_patience, cancelled=self._closed)
        artifacts = ""
        try:
            for sync in self._syncs:
                away(partial(sync.push, final=True))
            away(partial(self._upload_folder, "output/data", "output"))
            if with_model:
                artifacts = away(partial(self._upload_folder, "model", "model"))
        except (StorageAway, StorageRefused, OSError) as error:
            log.error("%s: cannot upload: %s", self._name, error)
            report(Broken())
        else:
            report(Uploaded(artifacts))

    def terminate(self) -> None:
        """SIGTERM to every host's process, also to one that is just being started."""
        with self._lock:
            self._terminated = True
            self._send_terminate()

    def kill(self) -> bool:
        """End everything at once; False where no process had started, so that `run` will not answer."""
        with self._lock:
            self._killed.set()
            self._end_processes()
            return bool(self._processes)

    def close(self) -> None:
        """Kill, give up an upload, and save the checkpoints that are whole, for the next launch."""
        self._closed.set()
        self.kill()
        for process in self._processes.values():
            process.wait()
        if self._processes:
            self._sync(final=True)

    def _make_syncs(self) -> list[CheckpointSync]:
        config = self._request.get("CheckpointConfig")
        if config is None:
            return []
        settle = self._settings.timing.sync / 4
        folders = [self._instances.checkpoints(host) for host in self._instances.hosts]
        return [CheckpointSync(self._objects, config["S3Uri"], folder, settle) for folder in folders]

    def _download_channel(self, channel: dict[str, Any]) -> None:
        source = channel["DataSource"]["S3DataSource"]
        _, prefix = split_uri(source["S3Uri"])
        patience = self._settings.timing.storage_patience
        found = patiently(lambda: list(self._objects.list(source["S3Uri"])), patience, self._killed)
        if not found:
            raise FileNotFoundError(f"S3 key: {source['S3Uri']} matched no files on s3")
        hosts = self._instances.hosts
        sharded = source.get("S3DataDistributionType") == "ShardedByS3Key"
        for number, host in enumerate(hosts):
            for item in found[number :: len(hosts)] if sharded else found:
                target = self._instances.channel(host, channel["ChannelName"]) / relative_key(item.key, prefix)
                patiently(partial(self._objects.fetch, item, target), patience, self._killed)
                if self._killed.is_set():
                    return

    def _start(self, host: str, port: int) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-I", "-S", guardian.__file__, *self._settings.entry_point]
        with self._instances.log(host).open("ab") as output:
            return subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self._instances.root(host),
                env=self._instances.environment(host, self._instance_type, self._settings, port),
                start_new_session=True,
            )

    def _identities(self) -> tuple[HostProcess, ...]:
        table = guardian.processes()
        return tuple(
            HostProcess(host, process.pid, table[process.pid].started)
            for host, process in self._processes.items()
            if process.pid in table
        )

    def _follow(self) -> None:
        """Until all hosts' processes have ended; one that fails takes the others with it."""
        processes = self._processes.values()
        synced = measured = time.monotonic()
        while any(process.poll() is None for process in processes):
            if any(process.poll() for process in processes):
                self._end_processes()
            now = time.monotonic()
            if now - measured >= MEASURE_SECONDS or not self.peak_rss:
                self._measure()
                measured = now
            if now - synced >= self._settings.timing.sync:
                self._sync(final=False)
                synced = time.monotonic()
            time.sleep(POLL_SECONDS)

    def _sync(self, *, final: bool) -> None:
        for sync in self._syncs:
            try:
                sync.push(final=final)
            except (*S3_ERRORS, OSError) as error:
                log.warning("%s: checkpoints are not synced this time: %s", self._name, error)

    def _measure(self) -> None:
        table = guardian.processes()
        alive = [pid for process in self._processes.values() for pid in guardian.descendants(process.pid, table)]
        self.peak_rss = max(self.peak_rss, sum(table[pid].rss for pid in alive))

    def _send_terminate(self) -> None:
        for process in self._processes.values():
            if process.poll() is None:
                process.terminate()

    def _end_processes(self) -> None:
        """The guardians end their trees when their standard input closes."""
        for process in self._processes.values():
            if process.stdin is not None:
                process.stdin.close()

    def _upload_folder(self, name: str, archive: str) -> str:
        """Upload one folder of every host, as files or as an archive; returns its URI, empty for an empty folder."""
        config = self._request["OutputDataConfig"]
        base = f"{config['S3OutputPath'].rstrip('/')}/{self._name}/output"
        folders = [self._instances.root(host) / name for host in self._instances.hosts]
        if not any(path.is_file() for folder in folders for path in folder.rglob("*")):
            return ""
        if config.get("CompressionType", "GZIP") == "NONE":
            prefix = f"{base}/{Path(name).name}/"
            for folder in folders:
                self._objects.put_folder(folder, prefix)
            return prefix
        packed = self._instances.root(self._instances.hosts[0]) / f"{archive}.tar.gz"
        with tarfile.open(packed, "w:gz", compresslevel=1) as tar:
            for folder in folders:
                for entry in sorted(folder.iterdir()):
                    tar.add(entry, entry.name)
        self._objects.put(packed, f"{base}/{packed.name}")
        return f"{base}/{packed.name}"


def _exit_code(code: int) -> int:
    return code if code >= 0 else 128 - code
