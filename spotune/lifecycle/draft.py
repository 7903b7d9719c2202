"""A decision in the making: the job as it changes, with everything that must be written beside it."""

from __future__ import annotations

from typing import Literal

from spotune.contracts.base import MicroUSD, Timestamp, dollars
from spotune.contracts.commands import Command, EndRetraining, Notify, ReleaseCheckpoints, WarnOfMonth
from spotune.contracts.job import Attempt, Decision, JobError, JobRecord, LedgerChange, LogEvent, State
from spotune.contracts.money import warning_level
from spotune.lifecycle.finished import finished_run
from spotune.lifecycle.lines import line_changes
from spotune.lifecycle.news import WAITING, news_of


class Draft:
    """Collects changes to one job; `decision()` closes it. Each draft raises the job's version by one.

    `no_funds` says, where it is not empty, that a monthly limit allows no reservation now, and why; `full_line` names
    the line that has no place for another attempt. `in_turn`: the job was called from its line.
    """

    def __init__(self, job: JobRecord, now: Timestamp, no_funds: str = "", full_line: str = "") -> None:
        self.job = job
        self.now = now
        self.no_funds = no_funds
        self.full_line = full_line
        self.in_turn = False
        self._before = job
        self._version = job.version + 1
        self._commands: list[Command] = []
        self._log: list[LogEvent] = []
        self._ledgers: dict[str, LedgerChange] = {}

    def set(self, **changes: object) -> None:
        """Replace fields of the job."""
        self.job = self.job.with_(**changes)

    def say(self, message: str, *, level: Literal["info", "warn", "error"] = "info", **data: object) -> None:
        """Add a line to the job's log."""
        sequence = self.job.event_seq + 1
        self._log.append(
            LogEvent(
                job_id=self.job.id, sequence=sequence, created_at=self.now, level=level, message=message, data=data
            )
        )
        self.set(event_seq=sequence)

    def command(self, command: Command) -> None:
        """Put a command into the outbox."""
        self._commands.append(command)

    def replace_attempt(self, attempt: Attempt) -> None:
        """Put a changed attempt in the place of the one with its number."""
        self.set(attempts=tuple(attempt if old.number == attempt.number else old for old in self.job.attempts))

    def reserve(self, attempt: Attempt) -> None:
        """Set aside what an attempt has reserved."""
        self.set(reserved=self.job.reserved + attempt.reserved)
        self._move(attempt, reserve=attempt.reserved)

    def settle(self, attempt: Attempt, billed: MicroUSD) -> Attempt:
        """Give back what an attempt reserved and held, and book what it cost; returns the attempt without them."""
        self.set(reserved=self.job.reserved - attempt.reserved, billed=self.job.billed + billed)
        self._move(attempt, release=attempt.reserved, settle=billed)
        self._warn_of_the_cap(self.job.billed - billed)
        return attempt.with_(reserved=0, held={}, billed=attempt.billed + billed)

    def _move(self, attempt: Attempt, **amounts: MicroUSD) -> None:
        """In the ledger of the attempt's month."""
        before = self._ledgers.get(attempt.month, LedgerChange(month=attempt.month))
        moved = {name: getattr(before, name) + amount for name, amount in amounts.items()}
        self._ledgers[attempt.month] = before.with_(**moved)

    def _warn_of_the_cap(self, before: MicroUSD) -> None:
        """Once a threshold, in the decision that passes it."""
        cap, billed = self.job.cap, self.job.billed
        if (level := warning_level(billed, cap)) > warning_level(before, cap):
            words = f"{dollars(billed)} of the {dollars(cap)} cap are billed: {level} % or more."
            self.say(words, level="warn", reached=level, billed=billed, limit=cap)
            self.command(Notify(type="budget.warning", sequence=self.job.event_seq))

    def finish(self, state: State, error: JobError | None = None) -> None:
        """Enter a terminal state."""
        self.set(state=state, error=error, finished_at=self.now, waiting_for="", line="")

    def _ends_anew(self) -> bool:
        """True where the job ends now, or is billed for something that outlived it."""
        return not self._before.terminal or self._before.billed != self.job.billed

    def _may_have_checkpoints(self) -> bool:
        """Its own, or the copy of what it would have gone on from."""
        return self.job.goes_on or any(attempt.accepted for attempt in self.job.attempts)

    def decision(self) -> Decision:
        """The finished decision, with what the outside is to be told of it."""
        for change in self._ledgers.values():
            if change.settle:
                self.command(WarnOfMonth(month=change.month))
        if (news := news_of(self._before, self.job)) is not None:
            if not self._log:
                self.say(f"Waiting for {self.job.waiting_for}." if self.job.waiting_for else f"Now {self.job.state}.")
            self.command(Notify(type=news, sequence=self.job.event_seq))
            self.set(wait_told=news == WAITING)
        if self.job.retraining and self.job.terminal and self._ends_anew():
            self.command(EndRetraining())
        if self._before.open and not self.job.open and self._may_have_checkpoints():
            self.command(ReleaseCheckpoints())
        self.set(version=self._version, updated_at=self.now)
        return Decision(
            job=self.job,
            commands=tuple(self._commands),
            ledgers=tuple(self._ledgers.values()),
            lines=line_changes(self._before, self.job, in_turn=self.in_turn),
            log=tuple(self._log),
            run=finished_run(self.job) if self._before.open else None,
        )
