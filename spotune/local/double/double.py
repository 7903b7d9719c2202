"""The double itself: SageMaker's training operations over the machine, a runner and a clock.

Every change follows one path: the machine changes the job, the job is written, its event is published, its acts are
carried out. A double killed between any two of these finds on its return what `machine.lost_double` can mend.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import partial
from math import inf
from typing import Any

from spotune.local.double import machine
from spotune.local.double.capacity import Capacity
from spotune.local.double.clock import Clock
from spotune.local.double.describe import describe, event_detail
from spotune.local.double.faults import in_use, invalid
from spotune.local.double.job import Job, Request
from spotune.local.double.listing import page
from spotune.local.double.machine import Act, Signal
from spotune.local.double.prices import spot_share
from spotune.local.double.quotas import Quotas
from spotune.local.double.rules import check_rules, check_tags
from spotune.local.double.runner import Runner
from spotune.local.double.settings import Timing
from spotune.local.double.storage import JobStore
from spotune.local.double.validation import validated

MAX_TAGS = 50

Publish = Callable[[str, dict[str, Any]], None]
"""Takes a job's ARN and the detail of its state-change event; must not block."""

log = logging.getLogger(__name__)


class Double:
    """CreateTrainingJob and its neighbours, in process. Requests and answers are the API's own documents.

    Supports: managed spot with interruptions, checkpoints, stops, limits, quotas, capacity, retries, events, tags.
    Not: tuning jobs, warm pools, instance groups, serverless jobs.
    """

    def __init__(
        self,
        runner: Runner,
        clock: Clock,
        store: JobStore,
        *,
        timing: Timing | None = None,
        quotas: Quotas | None = None,
        capacity: Capacity | None = None,
        publish: Publish = lambda arn, detail: None,
        region: str = "us-east-1",
        account: str = "000000000000",
    ) -> None:
        self.quotas = quotas or Quotas()
        self.capacity = capacity or Capacity()
        self.clock = clock
        self._runner = runner
        self._store = store
        self._timing = timing or Timing()
        self._publish = publish
        self._region = region
        self._arn = f"arn:aws:sagemaker:{region}:{account}:training-job/"
        self._lock = threading.RLock()
        self._closed = False
        self._armed: dict[str, float] = {}
        self._jobs: dict[str, Job] = {}
        self._recover()

    def create_training_job(self, request: Request) -> dict[str, Any]:
        """Accept a job.

        Raises:
            ServiceError: ValidationException, ResourceInUse or ResourceLimitExceeded.
        """
        request = validated("CreateTrainingJob", request)
        check_rules(request)
        missing = self._runner.missing_input(request)
        if missing is not None:
            raise invalid(
                f'No S3 objects found under S3 URL "{missing}" given in input data source. Please ensure that the '
                "bucket exists in the selected region, that objects exist under that S3 prefix, and that the role "
                f'"{request["RoleArn"]}" has "s3:ListBucket" permissions on the bucket.'
            )
        with self._lock:
            job = self._new_job(request)
            self._store.save(job)
            self._jobs[job.name] = job
            self._announce(job)
            self._arm(job)
            return {"TrainingJobArn": job.arn}

    def describe_training_job(self, request: dict[str, Any]) -> dict[str, Any]:
        """The job as it is now.

        Raises:
            ServiceError: ValidationException where there is no such job, as SageMaker answers.
        """
        request = validated("DescribeTrainingJob", request)
        with self._lock:
            return describe(self._job(request["TrainingJobName"]), self.clock.now())

    def stop_training_job(self, request: dict[str, Any]) -> dict[str, Any]:
        """Begin to stop the job; again while it stops changes nothing.

        Raises:
            ServiceError: ValidationException where there is no such job or it has ended.
        """
        request = validated("StopTrainingJob", request)
        with self._lock:
            job = self._job(request["TrainingJobName"])
            if not job.live:
                raise invalid(f"The request was rejected because the training job is in status {job.status}.")
            self._change(job, lambda now: machine.stop(job, "Stopped", now, self._timing))
        return {}

    def list_training_jobs(self, request: dict[str, Any]) -> dict[str, Any]:
        """One page of jobs.

        Raises:
            ServiceError: ValidationException.
        """
        request = validated("ListTrainingJobs", request)
        with self._lock:
            return page(self._jobs.values(), request)

    def add_tags(self, request: dict[str, Any]) -> dict[str, Any]:
        """Set tags of a job.

        Raises:
            ServiceError: ValidationException where there is no such job or the tags are not allowed.
        """
        request = validated("AddTags", request)
        check_tags(request["Tags"])
        with self._lock:
            job = self._job(request["ResourceArn"].removeprefix(self._arn))
            tags = job.tags | {tag["Key"]: tag["Value"] for tag in request["Tags"]}
            if len(tags) > MAX_TAGS:
                raise invalid(f"A resource takes {MAX_TAGS} tags at most, not {len(tags)}.")
            job.tags = tags
            self._store.save(job)
            return {"Tags": _tag_list(tags)}

    def list_tags(self, request: dict[str, Any]) -> dict[str, Any]:
        """Tags of a job.

        Raises:
            ServiceError: ValidationException where there is no such job.
        """
        request = validated("ListTags", request)
        with self._lock:
            return {"Tags": _tag_list(self._job(request["ResourceArn"].removeprefix(self._arn)).tags)}

    def tags_of(self, arn: str) -> dict[str, str]:
        """Tags of a job, by its ARN; none of what is no job here."""
        with self._lock:
            job = self._jobs.get(arn.removeprefix(self._arn))
            return dict(job.tags) if job is not None else {}

    def interrupt(self, name: str, *, notice_seconds: float = 0.0, restart_after_seconds: float = 0.0) -> None:
        """Take a running spot job's instances away, as EC2 does.

        Raises:
            ServiceError: ValidationException where it is no running spot job.
        """
        with self._lock:
            job = self._job(name)
            if not machine.interruptible(job):
                market = "spot" if job.spot else "on-demand"
                raise invalid(
                    f"{name} is an {market} job in {job.status}/{job.secondary}: only a spot job in Downloading or "
                    "Training can be interrupted."
                )
            self._change(job, lambda now: machine.interrupt(job, notice_seconds, restart_after_seconds, now))

    def look_again(self) -> None:
        """Capacity changed: let every job see it now, not at its next look."""
        with self._lock:
            now = self.clock.now()
            for job in [job for job in self._jobs.values() if job.live]:
                if job.secondary == "Pending":
                    job.due_at = now
                self._armed.pop(job.name, None)
                self._arm(job)

    def jobs(self) -> list[Job]:
        """All jobs; the caller may only read them."""
        with self._lock:
            return list(self._jobs.values())

    def peak_rss(self, name: str) -> int:
        """Bytes held at most by the job's processes together.

        Raises:
            ServiceError: ValidationException where there is no such job.
        """
        with self._lock:
            job = self._job(name)
            return max(job.peak_rss, self._runner.peak_rss(job))

    def close(self) -> None:
        """End everything that runs. The jobs stay as they are on disk: the next double treats them as lost."""
        with self._lock:
            self._closed = True
        self._runner.close()

    def _recover(self) -> None:
        with self._lock:
            alive_until = self._store.alive_until()
            for job in self._store.load():
                self._jobs[job.name] = job
                if job.live:
                    self._runner.recover(job)
                    self._change(job, partial(machine.lost_double, job, alive_until))

    def _job(self, name: str) -> Job:
        if name not in self._jobs:
            raise invalid("Requested resource not found.")
        return self._jobs[name]

    def _new_job(self, request: Request) -> Job:
        name = request["TrainingJobName"]
        if name in self._jobs or self._store.taken(name):
            raise in_use(f"Training job names must be unique within an AWS account and region, and {name} exists.")
        now = self.clock.now()
        tags = {tag["Key"]: tag["Value"] for tag in request.get("Tags", [])}
        kept = {key: value for key, value in request.items() if key != "Tags"}
        job = Job(name=name, arn=self._arn + name, request=kept, created_at=now, modified_at=now, tags=tags)
        if job.spot:
            job.billable_share = spot_share(job.instance_types[0], self._region)
        self.quotas.check(job, (other for other in self._jobs.values() if other.live))
        machine.created(job, self._timing)
        return job

    def _change(self, job: Job, step: Callable[[float], tuple[Act, ...]]) -> None:
        before = len(job.transitions)
        acts = step(self.clock.now())
        if Act.DISCARD in acts:
            job.peak_rss = max(job.peak_rss, self._runner.peak_rss(job))
        self._save(job)
        if len(job.transitions) != before:
            self._announce(job)
        for act in acts:
            self._carry_out(act, job)
        self._arm(job)

    def _save(self, job: Job) -> None:
        try:
            self._store.save(job)
        except OSError as error:
            # A full disk must not stop the job: what it does now is right, and its next change writes it all again.
            log.error("cannot write the state of %s: %s", job.name, error)

    def _announce(self, job: Job) -> None:
        self._publish(job.arn, event_detail(job, self.clock.now()))

    def _carry_out(self, act: Act, job: Job) -> None:
        if act is Act.DISCARD:
            self._runner.discard(job)
        else:
            getattr(self._runner, act.value)(job, partial(self._on_signal, job, job.launches))

    def _on_signal(self, job: Job, launch: int, signal: Signal) -> None:
        with self._lock:
            if self._closed or launch != job.launches:
                return
            self._change(job, lambda now: machine.on_signal(job, signal, now))

    def _arm(self, job: Job) -> None:
        due = min(machine.next_due(job, self._timing), self._capacity_lost_at(job))
        if due != inf and self._armed.get(job.name) != due:
            self._armed[job.name] = due
            self.clock.call_at(due, partial(self._on_time, job, due))

    def _on_time(self, job: Job, due: float) -> None:
        with self._lock:
            if self._closed or self._armed.get(job.name) != due:
                return
            del self._armed[job.name]
            if self._capacity_lost_at(job) <= self.clock.now():
                self._change(job, lambda now: machine.interrupt(job, 0.0, 0.0, now))
            else:
                self._change(job, lambda now: machine.on_time(job, now, self._timing, self._find_capacity))

    def _find_capacity(self, job: Job) -> str | None:
        return self.capacity.find(job, self.clock.now())

    def _capacity_lost_at(self, job: Job) -> float:
        if not machine.interruptible(job):
            return inf
        return self.capacity.lost_at(job, job.instance_type, self.clock.now())


def _tag_list(tags: dict[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]
