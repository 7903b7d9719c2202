"""What must hold whatever goes wrong: invariants 1 to 4 and 8 of the design, on the truth and not on what was said."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from math import ceil

from spotune.contracts import layout
from spotune.contracts.job import JobRecord, State, held_places
from spotune.contracts.lines import EVERYBODY, is_quota_line
from spotune.contracts.money import month_of
from spotune.local.double.job import Job
from spotune.store.records import decode
from tests.checkpoints import folder_of
from tests.faults.fairness import Fairness
from tests.faults.world import AWAY, HOME, JOBS_AT_A_TIME, JOBS_PER_TENANT, World

_RANK: dict[State, int] = {
    "validating": 0,
    "queued": 1,
    "starting": 1,
    "running": 1,
    "interrupted": 1,
    "evaluating": 1,
    "paused": 1,
    "succeeded": 2,
    "failed": 2,
    "cancelled": 2,
}
"""Attempts repeat the states between; what was checked is never unchecked, and what has ended stays as it ended."""


CHECKPOINT_FILES = ("manifest.json", "optimizer.pt", "state.json", "weights.safetensors")


class Watcher:
    """Looks at the truth after every step of the simulation."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._limit = world.here.settings.monthly_limit
        self._seen: dict[str, JobRecord] = {}
        self._decoded: dict[str, tuple[bytes, JobRecord]] = {}
        self.violations: list[str] = []
        self._fairness = Fairness()

    def look(self) -> None:
        """Compare with what was seen before."""
        self._one_live_training_job_each()
        for job in self._jobs():
            before = self._seen.get(job.id)
            if before is None or before.version != job.version:
                self._seen[job.id] = job
                self.violations += [f"{job.id}: {words}" for words in _broken(before, job)]
        for tenant in {job.tenant for job in self._seen.values()}:
            self._money_within_the_limit(tenant)
        self._lines_are_the_sums_of_their_jobs()
        self.violations += [f"{uri} went while SageMaker fetched it" for uri in self._world.deleted]
        self.violations += self._fairness.look(self.jobs())

    def look_at_the_end(self) -> None:
        """After everything has had its time without faults."""
        self.look()
        trained = defaultdict(list)
        for one in self._world.double.jobs():
            trained[one.name.rpartition("-")[0]].append(one)
        for job in self._jobs():
            self.violations += [f"{job.id}: {words}" for words in _unsettled(job, trained[job.id])]
            self.violations += [f"{job.id}: {words}" for words in self._gaps(job)]
            self.violations += [f"{job.id}: {words}" for words in self._astray(job, trained[job.id])]
            self.violations += [f"{job.id}: {words}" for words in self._lost(job, trained[job.id])]
        known = {job.id for job in self._jobs()}
        self.violations += [f"{one}: training jobs of no submission" for one in trained if one not in known]
        self.violations += [f"{job.id}: {words}" for job in self._jobs() for words in self._not_copied(job)]
        self._ledgers_are_the_sums_of_their_jobs()
        self._ends_are_told()

    def jobs(self) -> list[JobRecord]:
        """All jobs as the store has them."""
        return list(self._jobs())

    def _jobs(self) -> Iterator[JobRecord]:
        """Of all tenants: read past the store's own doors. A record that was not written since is not decoded again."""
        for job_id, (_, _, body) in self._world.store._jobs.kept.items():
            if self._decoded.get(job_id, (b"",))[0] is not body:
                self._decoded[job_id] = body, decode(JobRecord, body)
            yield self._decoded[job_id][1]

    def _one_live_training_job_each(self) -> None:
        live = Counter(one.name.rpartition("-")[0] for one in self._world.double.jobs() if one.live)
        self.violations += [f"{job_id}: {count} live training jobs" for job_id, count in live.items() if count > 1]

    def _money_within_the_limit(self, tenant: str) -> None:
        month, limit = month_of(self._world.clock.now()), self._limit
        ledger = self._world.store.ledger(tenant, month, limit=limit)
        if ledger.reserved < 0 or ledger.reserved + ledger.billed > limit:
            self.violations.append(f"{tenant}: {ledger.reserved} reserved and {ledger.billed} billed of {limit}")

    def _not_copied(self, job: JobRecord) -> Iterator[str]:
        """A retry that goes on from a checkpoint has all of it before anything trains."""
        began = any(one.name.rpartition("-")[0] == job.id for one in self._world.double.jobs())
        if job.resumption is None or not job.resumption.used or not began:
            return
        folder = layout.checkpoints_uri(self._world.here.job_folder(job))
        for name in (f"checkpoint-{step}/{file}" for step in (20, 40) for file in CHECKPOINT_FILES):
            if self._world.objects.head(folder + name) is None:
                yield f"trained without {name} of {job.resumption.job_id}"

    def _lost(self, job: JobRecord, trained: list[Job]) -> Iterator[str]:
        """Whatever goes from S3, the newest whole checkpoint stays, and the best one that it names. Simulated training
        leaves its checkpoints at home."""
        if any(one.status in ("Failed", "Stopped") for one in trained):
            folder = layout.checkpoints_uri(folder_of(job))
            for name in (f"checkpoint-{step}/{file}" for step in (20, 40) for file in CHECKPOINT_FILES):
                if self._world.objects.head(folder + name) is None:
                    yield f"lost {name}"

    def _ends_are_told(self) -> None:
        """At least once, under the job's own id, to whoever takes what the installation publishes."""
        told = {
            (str(sent["type"]), json.loads(str(sent["body"]))["data"]["id"]) for sent in self._world.deliveries.messages
        }
        ended = {(f"fine_tuning.job.{job.state}", job.id) for job in self._jobs() if job.terminal}
        self.violations += [f"{job_id}: {kind} was told to nobody" for kind, job_id in sorted(ended - told)]

    def _astray(self, job: JobRecord, trained: list[Job]) -> Iterator[str]:
        """All of a job is in its region, and what was carried there was paid for."""
        region = job.region or HOME
        for one in trained:
            if self._world.regions[one.name] != region:
                yield f"{one.name} ran in {self._world.regions[one.name]}, and the job is {region}'s"
            folders = str(one.request["InputDataConfig"]) + str(one.request["OutputDataConfig"])
            if (AWAY in folders) != (region == AWAY) or "s3://data/" in folders * (region == AWAY):
                yield f"{one.name} reads or writes outside {region}"
        if trained and (region == AWAY) != (job.transfer is not None):
            yield f"ran in {region}, and {job.transfer} was booked for carrying its data there"

    def _gaps(self, job: JobRecord) -> Iterator[str]:
        log = self._world.store.list_log(job.tenant, job.id, after=0, limit=10_000).items
        if [line.sequence for line in log] != list(range(job.event_seq, 0, -1)):
            yield f"its log has {len(log)} lines, not {job.event_seq} without a gap"

    def _ledgers_are_the_sums_of_their_jobs(self) -> None:
        """What is reserved by month; what is billed over all months, since a transfer belongs to no attempt."""
        reserved, billed, booked = Counter[tuple[str, str]](), Counter[str](), Counter[str]()
        for job in self._jobs():
            billed[job.tenant] += job.billed
            for attempt in job.attempts:
                reserved[job.tenant, attempt.month] += attempt.reserved
        for (tenant, month), expected in reserved.items():
            ledger = self._world.store.ledger(tenant, month, limit=self._limit)
            booked[tenant] += ledger.billed
            if ledger.reserved != expected:
                self.violations.append(f"{tenant} {month}: {ledger.reserved} reserved, by its jobs {expected}")
        if booked != billed:
            self.violations.append(f"the ledgers have {booked} billed, their jobs {billed}")

    def _lines_are_the_sums_of_their_jobs(self) -> None:
        held, waiting = Counter[str](), Counter[str]()
        for job in self._jobs():
            held.update(held_places(job))
            waiting.update([job.line] if job.line else [])
        for state, _ in self._world.store.lines():
            if (state.held, state.waiting) != (held[state.line], waiting[state.line]):
                told = f"counts {state.held} and {state.waiting}"
                self.violations.append(f"{state.line}: {told}, its jobs {held[state.line]} and {waiting[state.line]}")
            places = JOBS_AT_A_TIME if state.line == EVERYBODY else JOBS_PER_TENANT
            if state.held > places and not is_quota_line(state.line):
                self.violations.append(f"{state.line}: {state.held} at a time, where {places} may run")


def _broken(before: JobRecord | None, job: JobRecord) -> Iterator[str]:
    if job.billed + job.reserved > job.cap:
        yield f"{job.reserved} reserved and {job.billed} billed of a cap of {job.cap}"
    if job.reserved != sum(attempt.reserved for attempt in job.attempts):
        yield "its reservation is not that of its attempts"
    if before is None:
        return
    if _RANK[job.state] < _RANK[before.state] or (before.terminal and job.state != before.state):
        yield f"went from {before.state} back to {job.state}"
    if job.version < before.version or job.event_seq < before.event_seq:
        yield f"went back from version {before.version} to {job.version}"
    if job.billed < before.billed:
        yield f"was billed {before.billed} and then {job.billed}"


def _unsettled(job: JobRecord, trained: list[Job]) -> Iterator[str]:
    if not job.terminal and not job.waiting_for:
        yield f"is {job.state} for good, and says not what it waits for"
    if not job.terminal and "to be copied" in job.waiting_for:
        yield f"waits for good for {job.waiting_for}"
    if job.terminal and job.reserved:
        yield f"has ended with {job.reserved} reserved"
    attempts = {attempt.name: attempt for attempt in job.attempts}
    real = 0
    for one in trained:
        if one.name not in attempts:
            yield f"training job {one.name} is none of its attempts"
            continue
        if one.live and job.terminal:
            yield f"training job {one.name} lives on after the job's end"
        rate = attempts[one.name].on_demand_price * one.instance_count
        real += 0 if one.live else -(-rate * _billable(one) // 3600)
    carried = job.transfer or 0
    if job.terminal and job.billed != real + carried:
        yield f"is billed {job.billed}, SageMaker bills {real}, and carrying its data {carried}"
    if real + carried > job.cap:
        yield f"SageMaker bills {real} of a cap of {job.cap}"
    if job.state == "succeeded" and not any(one.status == "Completed" for one in trained):
        yield "succeeded without a training job that completed"


def _billable(one: Job) -> int:
    """BillableTimeInSeconds, as DescribeTrainingJob says it."""
    return ceil(one.billed(one.training_ended_at or 0) * one.billable_share) if one.training_started_at else 0
