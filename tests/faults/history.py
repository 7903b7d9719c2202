"""What every history is made of: time that passes event by event, and messages, events and passes of the reconciler
that come as they please.
"""

from __future__ import annotations

import logging
import sys
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Any

import spotune.service.apart as parts
from handlers.logs import InvocationFailed
from spotune.contracts.errors import SpotuneError
from spotune.service.apart import PartsFailed
from spotune.service.installation import install
from spotune.service.jobs.observation import observe
from spotune.service.reconcile import reconcile
from spotune.service.work import run
from tests.faults.checks import Watcher
from tests.faults.nemesis import Killed
from tests.faults.world import SKEW, World

RECEIVES = 5
"""Deliveries of a message before it goes to the dead letters."""
VISIBILITY = 300.0
"""Seconds until a message whose delivery failed comes again."""


@dataclass(frozen=True)
class Result:
    """What one seed came to."""

    seed: int
    jobs: int
    faults: Counter[str]
    states: Counter[str]
    violations: tuple[str, ...]
    arrivals: int = 0
    """Object versions that landed where a rule looks."""


class Enough(BaseException):
    """The first broken invariant is enough."""


class History(ABC):
    """One history from one seed: a storm of faults, then calm in which everything has to come to its end.

    Args:
        to_the_end: go on after the first broken invariant.
        storm: seconds of faults.
        calm: seconds at most that everything then has to come to its end.
        every: seconds between two passes of the reconciler.
    """

    def __init__(
        self, world: World, watcher: Watcher, *, to_the_end: bool, storm: float, calm: float, every: float
    ) -> None:
        self._world = world
        self._watcher = watcher
        self._to_the_end = to_the_end
        self._storm = storm
        self._calm = calm
        self._every = every
        self._chance = Random(f"workload {world.seed}")
        self._arrivals = 0

    def play(self) -> Result:
        """Set up, storm, calm, count."""
        logging.disable(logging.CRITICAL)
        logger, parts.logger = parts.logger, self  # type: ignore[assignment]
        try:
            return self._play()
        finally:
            parts.logger = logger
            logging.disable(logging.NOTSET)

    def _play(self) -> Result:
        nemesis = self._world.nemesis
        install(self._world.here)
        self._set_up()
        nemesis.interleave = self._another_process
        nemesis.calm = False
        self._plan_the_storm()
        for at in range(int(self._storm / self._every)):
            self._later(at * self._every + self._chance.uniform(0, self._every / 4), self._reconcile)
        with suppress(Enough):
            self._pass(self._storm)
            nemesis.calm = True
            self._calm_down()
            self._look_at_the_end()
        found = self._watcher.jobs()
        return Result(
            seed=self._world.seed,
            jobs=len(found),
            faults=+nemesis.faults,
            states=Counter(job.state for job in found),
            violations=tuple(dict.fromkeys(self._watcher.violations)),
            arrivals=self._arrivals,
        )

    @abstractmethod
    def _set_up(self) -> None:
        """What is there before the first fault."""

    @abstractmethod
    def _plan_the_storm(self) -> None:
        """Who does what, and when."""

    @abstractmethod
    def _another_process(self) -> None:
        """Something else that may run at the same time, from its beginning to its end."""

    def _calm_down(self) -> None:
        """No new fault: what is still open has its time, with the reconciler alone to wake it."""
        passed, pause = 0.0, self._every
        while passed < self._calm and self._open():
            self._pass(pause)
            self._reconcile()
            passed, pause = passed + pause, min(pause * 1.02, 3600.0)

    def _open(self) -> bool:
        """Jobs on their way, or commands that are still to be run."""
        waiting = next(self._world.store.pending_commands(self._world.clock.now() + SKEW), None) is not None
        return waiting or any(not job.terminal and job.state != "paused" for job in self._watcher.jobs())

    def _pass(self, seconds: float) -> None:
        """Let time pass event by event, delivering what each leaves behind."""
        self._world.clock.advance(seconds)
        self._deliver()

    def _later(self, seconds: float, act: Callable[[], Any]) -> None:
        clock = self._world.clock
        clock.call_at(clock.now() + seconds, partial(self._step, act))

    def _step(self, act: Callable[[], Any]) -> None:
        with suppress(Killed, SpotuneError):
            act()
        self._deliver()
        self._look()

    def _look(self) -> None:
        self._watcher.look()
        if self._watcher.violations and not self._to_the_end:
            raise Enough

    def _look_at_the_end(self) -> None:
        self._watcher.look_at_the_end()

    def exception(self, *_: object) -> None:
        """A part of the reconciler's pass failed, and was set apart."""
        self._crashed(sys.exception() or RuntimeError("no exception"))

    def _crashed(self, error: BaseException) -> None:
        """Whatever is no refusal and no kill is a fault of ours, also where a function hides it from Lambda."""
        if isinstance(error, InvocationFailed) and error.__context__ is not None:
            error = error.__context__
        if not isinstance(error, Killed | SpotuneError | PartsFailed):
            self._watcher.violations.append(f"crash: {type(error).__name__}: {error}")

    def _deliver(self) -> None:
        """Put what was sent on its way: late, twice, out of order, or never."""
        nemesis, chance = self._world.nemesis, self._chance
        for message in self._world.queue.take():
            self._deliver_message(message, chance.uniform(0, 2))
            if nemesis.strikes("message duplicated", 0.1):
                self._deliver_message(message, chance.uniform(0, 900))
        events, self._world.events[:] = list(self._world.events), []
        for name in events:
            self._deliver_event(partial(self._observe, name))

    def _deliver_event(self, act: Callable[[], Any]) -> None:
        nemesis, chance = self._world.nemesis, self._chance
        if nemesis.strikes("event dropped", 0.15):
            return
        late = nemesis.strikes("event late", 0.15)
        self._later(chance.uniform(60, 3600) if late else chance.uniform(0, 1), act)
        if nemesis.strikes("event duplicated", 0.15):
            self._later(chance.uniform(0, 3600), act)

    def _deliver_message(self, message: dict[str, Any], delay: float, received: int = 1) -> None:
        def receive() -> None:
            try:
                run(self._world.here, message)
            except (Killed, Exception) as error:
                self._crashed(error)
                if received < RECEIVES:
                    self._deliver_message(message, VISIBILITY, received + 1)
                elif not self._world.nemesis.calm:
                    self._world.nemesis.faults["dead letter"] += 1

        self._later(delay, receive)

    def _observe(self, name: str, tries: int = 3) -> None:
        """EventBridge invokes the function; Lambda tries a failed one twice more."""
        try:
            observe(self._world.here, name)
        except (Killed, Exception) as error:
            self._crashed(error)
            if tries > 1:
                self._later(60.0, partial(self._observe, name, tries - 1))

    def _reconcile(self) -> None:
        with suppress(Killed, SpotuneError):
            repairs = reconcile(self._world.here)
            if repairs.counts_corrected or repairs.orphans_stopped:
                self._watcher.violations.append(f"repaired what cannot have been broken: {repairs}")
        self._deliver()
        self._look()
