"""What the launchers of several hosts tell each other: that they live, that something failed, and what."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from training_container.hosts import Hosts
from training_container.outcome import Outcome, cause

if TYPE_CHECKING:
    from torch._C._distributed_c10d import TCPStore

PULSE_SECONDS = 1.0
LOST_SECONDS = 60.0
"""Without a pulse after which a host is taken for lost."""
MEETING = timedelta(minutes=15)
"""For the hosts' start: their images and data do not arrive at the same moment."""
LAST_WORDS_SECONDS = 30.0
"""After a failure, for the other hosts to say what they saw of it."""


class HostLost(Exception):
    """A host that takes part does not answer."""

    def __init__(self, host: str) -> None:
        super().__init__(host)
        self.host = host


class Cluster:
    """The launchers' common store, which is the processes' meeting point, too. One host is a cluster by itself."""

    def __init__(self, hosts: Hosts, store: TCPStore, attempt: int) -> None:
        self._hosts = hosts
        self._store = store
        self._attempt = attempt
        self._pulses = {name: (0, time.monotonic()) for name in hosts.names}
        self._looked_at = 0.0

    def failed_elsewhere(self) -> bool:
        """True where a process of another host failed. Asks, and gives a sign of life, once a second at most.

        Raises:
            HostLost: a host gave none for `LOST_SECONDS`.
        """
        now = time.monotonic()
        if not self._hosts.several or now - self._looked_at < PULSE_SECONDS:
            return False
        self._looked_at = now
        with self._connected():
            self._store.add(f"pulse/{self._hosts.current}", 1)
            for name in self._hosts.names:
                self._listen(name, now)
            return self._store.add(self._key("failed"), 0) > 0

    def cry(self) -> None:
        """Tell the other hosts that this one's processes have failed."""
        if self._hosts.several:
            with self._connected():
                self._store.add(self._key("failed"), 1)

    def agree(self, own: Outcome | None) -> Outcome:
        """The outcome of the job, the same on all hosts. `own` is None where this host's processes did nothing wrong.

        Raises:
            HostLost: a host did not live to say.
        """
        if not self._hosts.several:
            assert own is not None
            return own
        with self._connected():
            self._store.set(self._key(f"end/{self._hosts.current}"), own.model_dump_json() if own else "")
            said = [self._end_of(name) for name in self._hosts.names]
        return cause(outcome for outcome in said if outcome is not None)

    def part(self) -> None:
        """Leave, the first host last: the others may still be reading from it."""
        if not self._hosts.several:
            return
        with self._connected():
            gone = self._store.add(self._key("gone"), 1)
            patience = time.monotonic() + PULSE_SECONDS * 10
            while self._hosts.number == 0 and gone < len(self._hosts.names) and time.monotonic() < patience:
                time.sleep(0.05)
                gone = self._store.add(self._key("gone"), 0)

    def _end_of(self, name: str) -> Outcome | None:
        key = self._key(f"end/{name}")
        patience: float | None = None
        while not self._store.check([key]):
            failed = self.failed_elsewhere()
            if failed and patience is None:
                patience = time.monotonic() + LAST_WORDS_SECONDS
            if patience is not None and time.monotonic() > patience:
                raise HostLost(name)
            time.sleep(0.05)
        said = self._store.get(key)
        return Outcome.model_validate_json(said) if said else None

    def _listen(self, name: str, now: float) -> None:
        count = self._store.add(f"pulse/{name}", 0)
        if count != self._pulses[name][0]:
            self._pulses[name] = (count, now)
        elif now - self._pulses[name][1] > LOST_SECONDS:
            raise HostLost(name)

    def _key(self, name: str) -> str:
        return f"launch/{self._attempt}/{name}"

    @contextmanager
    def _connected(self) -> Iterator[None]:
        """The store's errors mean that the first host, where it lies, is gone."""
        from torch.distributed import DistError

        try:
            yield
        except (DistError, RuntimeError) as error:
            raise HostLost(self._hosts.names[0]) from error


def meet(hosts: Hosts, address: str, port: int) -> TCPStore:
    """Open the store on the first host, or reach it from another.

    Raises:
        HostLost: the first host cannot be reached.
    """
    from torch._C._distributed_c10d import TCPStore

    try:
        return TCPStore(address, port, is_master=hosts.number == 0, wait_for_workers=False, timeout=MEETING)
    except RuntimeError as error:
        raise HostLost(hosts.names[0]) from error
