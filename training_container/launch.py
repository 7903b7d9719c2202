"""Starts this host's processes, one a GPU, and ends them together, with one reason, whichever host it came from.

The variables are torchrun's, so that `torchrun -m training_container` starts the same processes. Its agent is not used
(docs/decisions): it knows success and failure alone, and does not tell the other hosts.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from training_container.cluster import Cluster, HostLost, meet
from training_container.hosts import MASTER_PORT, Hosts
from training_container.outcome import OUTCOME_VARIABLE, Outcome, cause
from training_container.stop import StopRequest

HALVINGS_VARIABLE = "SPOTUNE_HALVINGS"
"""How often the planned micro-batch was halved, since a process ran out of memory."""
POLL_SECONDS = 0.05
FAREWELL_SECONDS = 10.0
"""How long the others may take to notice a failure by themselves; then they are killed, wherever they wait."""


@dataclass(frozen=True, slots=True)
class Worker:
    """One process of this host."""

    rank: int
    process: subprocess.Popen[bytes]
    outcome: Path

    def ended(self) -> Outcome | None:
        """How it ended; None while it runs."""
        code = self.process.poll()
        if code is None:
            return None
        with contextlib.suppress(FileNotFoundError, ValidationError):
            return Outcome.model_validate_json(self.outcome.read_bytes())
        return Outcome.of_dead(self.rank, code)


def launch(hosts: Hosts, stop: StopRequest) -> Outcome:
    """Run the job's processes on this host to their common end: the same outcome on all hosts.

    SIGTERM is passed on to each of them. Where one runs out of memory, all begin again with half the micro-batch.
    """
    address = os.environ.get("MASTER_ADDR", hosts.names[0]) if hosts.several else "127.0.0.1"
    port = int(os.environ.get("MASTER_PORT", MASTER_PORT)) if hosts.several else _free_port()
    folder = Path(tempfile.mkdtemp(prefix="spotune-"))
    meeting = {"MASTER_ADDR": address, "MASTER_PORT": str(port)}
    store = None
    try:
        for halvings in range(64):
            with _holding_back(signal.SIGTERM):
                workers = [_start(hosts, local, halvings, folder, meeting) for local in range(hosts.processes)]
            try:
                store = store or meet(hosts, address, port)
                outcome = _to_the_end(workers, Cluster(hosts, store, halvings), stop)
            finally:
                _kill(workers)
            if not outcome.too_large or stop.asked:
                break
        return outcome
    except HostLost as lost:
        return Outcome.of_lost(lost.host)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _start(hosts: Hosts, local: int, attempt: int, folder: Path, meeting: dict[str, str]) -> Worker:
    """A process that reads from a pipe which nobody writes to: it is cut when this one dies, and so ends, too."""
    rank = hosts.number * hosts.processes + local
    outcome = folder / f"{attempt}-{rank}.json"
    environment = {
        **os.environ,
        **hosts.network(),
        **meeting,
        "RANK": str(rank),
        "LOCAL_RANK": str(local),
        "WORLD_SIZE": str(hosts.ranks),
        "LOCAL_WORLD_SIZE": str(hosts.processes),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "TORCHELASTIC_RESTART_COUNT": str(attempt),
        HALVINGS_VARIABLE: str(attempt),
        OUTCOME_VARIABLE: str(outcome),
    }
    command = [sys.executable, "-m", "training_container"]
    return Worker(rank, subprocess.Popen(command, env=environment, stdin=subprocess.PIPE), outcome)


def _to_the_end(workers: list[Worker], cluster: Cluster, stop: StopRequest) -> Outcome:
    """Until all have ended; the first failure, here or on another host, ends them."""
    told = False
    while True:
        if stop.asked and not told:
            _signal(workers, signal.SIGTERM)
            told = True
        ended = [outcome for worker in workers if (outcome := worker.ended()) is not None]
        if any(outcome.failure for outcome in ended):
            cluster.cry()
            break
        if len(ended) == len(workers) or cluster.failed_elsewhere():
            break
        time.sleep(POLL_SECONDS)
    outcome = cluster.agree(_last_words(workers))
    cluster.part()
    return outcome


def _last_words(workers: list[Worker]) -> Outcome | None:
    """What those say that still end by themselves; None where none has ended."""
    patience = time.monotonic() + FAREWELL_SECONDS
    while time.monotonic() < patience and any(worker.ended() is None for worker in workers):
        time.sleep(POLL_SECONDS)
    ended = [outcome for worker in workers if (outcome := worker.ended()) is not None]
    return cause(ended) if ended else None


@contextlib.contextmanager
def _holding_back(number: signal.Signals) -> Iterator[None]:
    """A process that starts inside gets the signal when it listens: before, it would die of it."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {number})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})


def _signal(workers: list[Worker], number: signal.Signals) -> None:
    for worker in workers:
        with contextlib.suppress(ProcessLookupError):
            worker.process.send_signal(number)


def _kill(workers: list[Worker]) -> None:
    _signal(workers, signal.SIGKILL)
    for worker in workers:
        worker.process.wait()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
