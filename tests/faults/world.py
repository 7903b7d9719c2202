"""An installation on the scripted double, on one virtual clock, with a nemesis at every edge."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from random import Random
from typing import Any

from botocore.exceptions import ClientError

from spotune.aws.memory import (
    MemoryDeliveries,
    MemoryMarket,
    MemoryMetrics,
    MemoryQueue,
    MemorySecret,
    MemoryTopic,
    MemoryWebhooks,
)
from spotune.aws.memory_models import MemoryModelRegistry
from spotune.aws.memory_objects import MemoryObjects
from spotune.aws.training_jobs import TrainingJobs
from spotune.contracts import layout
from spotune.contracts.base import MICRO
from spotune.contracts.job import JobRecord
from spotune.contracts.training import MANIFEST_NAME, REPORT_NAME, Manifest, TrainingReport
from spotune.local.double.clock import VirtualClock
from spotune.local.double.faults import ServiceError, invalid
from spotune.local.double.job import Request
from spotune.local.double.scripted_runner import Script, ScriptedDouble
from spotune.local.double.settings import Timing
from spotune.service.installation import Installation, Outlets, Place, Settings
from spotune.store.memory import MemoryStore
from tests import tiny_model
from tests.checkpoints import leave_checkpoint, leave_notes
from tests.factories import report
from tests.faults.nemesis import Faulty, Nemesis, after_call, before_call

MONTHLY_LIMIT = 4 * MICRO
DEFAULT_BUDGET = MICRO
JOBS_AT_A_TIME, JOBS_PER_TENANT = 7, 4
TO_THE_MONTHS_END = 16 * 86_400 + 14 * 3600.0
"""Seconds from where the clock begins to two hours before the month ends: every second history crosses it."""
SKEW = 60.0
"""Seconds that a Lambda's clock may be off."""

TIMING = Timing(capacity_retry=120, capacity_patience=1800)

_SETTINGS = Settings(
    stage="faults",
    table="table",
    data_bucket="data",
    artifacts_bucket="artifacts",
    models_bucket="models",
    mirror_bucket="models",
    queue_url="queue",
    training_role="arn:aws:iam::123456789012:role/training",
    training_image="123456789012.dkr.ecr.us-east-1.amazonaws.com/spotune:1",
    monthly_limit=MONTHLY_LIMIT,
    default_budget=DEFAULT_BUDGET,
    jobs=JOBS_AT_A_TIME,
    jobs_per_tenant=JOBS_PER_TENANT,
)

_STORE_WRITES = frozenset(
    {
        "create_job",
        "commit",
        "complete_command",
        "put_file",
        "put_key",
        "delete_file",
        "count_request",
        "note_told_level",
        "create_rule",
        "replace_rule",
        "record_arrival",
        "commit_arrivals",
        "begin_retraining",
        "commit_retraining",
        "commit_group",
        "replace_version",
    }
)
_STORE_CONFLICTS = frozenset(
    {"commit", "replace_rule", "commit_arrivals", "begin_retraining", "commit_retraining", "commit_group"}
)
_OBJECT_WRITES = frozenset({"write", "write_new", "write_stream", "copy", "carry", "delete", "mark"})

HOME, AWAY = "us-east-1", "eu-west-1"
"""Where an installation runs, and where some of its jobs do."""


@dataclass
class World:
    """All of one simulation's parts. `here` is what the product sees; the others are the truth."""

    seed: int
    nemesis: Nemesis
    double: ScriptedDouble
    store: MemoryStore
    objects: MemoryObjects
    queue: MemoryQueue
    deliveries: MemoryDeliveries
    here: Installation
    events: list[str] = field(default_factory=list)
    """Training jobs whose state changed and whose event is to be delivered."""
    regions: dict[str, str] = field(default_factory=dict)
    """Where each training job was created."""
    deleted: list[str] = field(default_factory=list)
    """What went from S3 while SageMaker fetched it."""

    @property
    def clock(self) -> VirtualClock:
        """The one that everything goes by."""
        return self.double.virtual_clock


def make_world(
    seed: int,
    nemesis: Nemesis | None = None,
    *,
    objects: MemoryObjects | None = None,
    report_of: Callable[[JobRecord], TrainingReport] = lambda job: report(job_id=job.id),
    **changes: Any,
) -> World:
    """A fresh installation with the tiny base model in it, and no fault yet.

    Args:
        objects: what S3 is.
        report_of: what a training job's report says.
        changes: to the installation's settings.
    """
    nemesis = nemesis or Nemesis(Random(seed))
    nemesis.calm = True
    events: list[str] = []
    objects = objects or MemoryObjects()
    double = ScriptedDouble(
        lambda request: _script(seed, request, nemesis),
        timing=TIMING,
        publish=lambda arn, detail: _changed(objects, store, nemesis, events, report_of, detail),
    )
    clock = double.virtual_clock
    clock.advance(TO_THE_MONTHS_END if seed % 2 else 0)
    objects._clock = clock.now
    deleted: list[str] = []
    _watch_deletions(objects, double, deleted)
    store, queue, deliveries = MemoryStore(), MemoryQueue(), MemoryDeliveries()
    regions: dict[str, str] = {}
    away = Place(
        region=AWAY,
        data_bucket=f"data-{AWAY}",
        artifacts_bucket=f"jobs-{AWAY}",
        models_bucket=f"models-{AWAY}",
        training_image=f"123456789012.dkr.ecr.{AWAY}.amazonaws.com/spotune:1",
        training_jobs=TrainingJobs(_SageMaker(double, nemesis, AWAY, regions)),
        market=MemoryMarket(),
    )
    here = Installation(
        settings=replace(_SETTINGS, **changes),
        store=Faulty(store, nemesis, "store", writes=_STORE_WRITES, conflicts=_STORE_CONFLICTS),  # type: ignore[arg-type]
        objects=Faulty(objects, nemesis, "s3", writes=_OBJECT_WRITES),  # type: ignore[arg-type]
        training_jobs=TrainingJobs(_SageMaker(double, nemesis, HOME, regions)),
        queue=Faulty(queue, nemesis, "queue", writes=frozenset({"send"})),  # type: ignore[arg-type]
        market=MemoryMarket(),
        metrics=MemoryMetrics(),
        outlets=Outlets(
            deliveries=Faulty(deliveries, nemesis, "deliveries", writes=frozenset({"send"})),  # type: ignore[arg-type]
            topic=MemoryTopic(),
            webhooks=MemoryWebhooks(),
            secret=MemorySecret(),
        ),
        model_registry=MemoryModelRegistry(),
        clock=_SkewedClock(clock, nemesis),
        further=(away,),
    )
    folder = layout.base_model_uri("models", tiny_model.NAME)
    for name, body in tiny_model.files().items():
        objects.write(folder + name, body)
    return World(seed, nemesis, double, store, objects, queue, deliveries, here, events, regions, deleted)


def _watch_deletions(objects: MemoryObjects, double: ScriptedDouble, deleted: list[str]) -> None:
    delete = objects.delete

    def watched(uri: str) -> None:
        fetching = [job for job in double.jobs() if job.secondary in ("Downloading", "Restarting")]
        if any(uri.startswith(job.request["CheckpointConfig"]["S3Uri"]) for job in fetching):
            deleted.append(uri)
        delete(uri)

    objects.delete = watched  # type: ignore[method-assign]


class _SkewedClock:
    """Each process has its own idea of the time."""

    def __init__(self, clock: VirtualClock, nemesis: Nemesis) -> None:
        self._clock = clock
        self._nemesis = nemesis

    def __call__(self) -> float:
        off = self._nemesis.chance.uniform(-SKEW, SKEW) if self._nemesis.strikes("clock skew", 0.02) else 0.0
        return self._clock.now() + off


class _SageMaker:
    """boto3's client of one region in front of the double: its errors, its times, and what happens on the wire.

    The regions share the double; what was created in one of them is not there in the other.
    """

    def __init__(self, double: ScriptedDouble, nemesis: Nemesis, region: str, regions: dict[str, str]) -> None:
        self._double = double
        self._nemesis = nemesis
        self._region = region
        self._regions = regions

    def create_training_job(self, **request: Any) -> dict[str, Any]:
        return self._call("CreateTrainingJob", self._create, request)

    def describe_training_job(self, **request: Any) -> dict[str, Any]:
        return _with_datetimes(
            self._call("DescribeTrainingJob", self._here(self._double.describe_training_job), request)
        )

    def list_training_jobs(self, **request: Any) -> dict[str, Any]:
        answer = self._call("ListTrainingJobs", self._double.list_training_jobs, request)
        shown = [one for one in answer["TrainingJobSummaries"] if self._is_here(one["TrainingJobName"])]
        return {**answer, "TrainingJobSummaries": shown}

    def stop_training_job(self, **request: Any) -> dict[str, Any]:
        return self._call("StopTrainingJob", self._here(self._double.stop_training_job), request)

    def _create(self, request: dict[str, Any]) -> dict[str, Any]:
        answer: dict[str, Any] = self._double.create_training_job(request)
        self._regions[request["TrainingJobName"]] = self._region
        return answer

    def _here(self, work: Any) -> Any:
        def found(request: dict[str, Any]) -> Any:
            if not self._is_here(request["TrainingJobName"]):
                raise invalid("Requested resource not found.")
            return work(request)

        return found

    def _is_here(self, name: str) -> bool:
        return self._regions.get(name, self._region) == self._region

    def _call(self, operation: str, work: Any, request: dict[str, Any]) -> dict[str, Any]:
        before_call(self._nemesis, operation)
        try:
            answer: dict[str, Any] = work(request)
        except ServiceError as error:
            raise ClientError({"Error": {"Code": error.code, "Message": str(error)}}, operation) from error
        after_call(self._nemesis, operation)
        return answer


def _with_datetimes(answer: dict[str, Any]) -> dict[str, Any]:
    times = {name: datetime.fromtimestamp(value, UTC) for name, value in answer.items() if name.endswith("Time")}
    return answer | times


def _script(seed: int, request: Request, nemesis: Nemesis) -> Script:
    """What one training job does; chance is its own, so that other faults do not change it."""
    chance = Random(f"{seed}:{request['TrainingJobName']}")
    duration = chance.choice([60.0, 300.0, 600.0, 600.0, 2400.0, 9000.0])
    interruptions = tuple(sorted(chance.uniform(0, duration) for _ in range(chance.choice([0, 0, 1, 2, 4]))))
    exit_code = 0 if nemesis.calm else chance.choice([0] * 12 + [1, 2, 137])
    breakdowns = _breakdowns(Random(f"{seed}:{request['TrainingJobName']}:breakdowns"), duration, nemesis)
    if not nemesis.calm:
        nemesis.faults["interruption"] += len(interruptions) if request["EnableManagedSpotTraining"] else 0
        nemesis.faults["container failed"] += exit_code != 0
    return Script(
        duration=duration,
        exit_code=exit_code,
        failure='{"code": "bad_rows", "message": "line 3"}' if exit_code == 2 else "",
        interruptions=interruptions,
        breakdowns=breakdowns,
        restart_after=chance.choice([0.0, 60.0, 1800.0]),
        save_interval=_save_interval(chance, nemesis),
        stop=chance.choice([5.0, 5.0, 110.0, float("inf")]),
    )


def _breakdowns(chance: Random, duration: float, nemesis: Nemesis) -> tuple[float, ...]:
    """SageMaker's own, after which its RetryStrategy starts the training job anew."""
    if nemesis.calm or chance.random() >= 0.15:
        return ()
    nemesis.faults["sagemaker lost the instances"] += 1
    return (chance.uniform(0, duration),)


def _save_interval(chance: Random, nemesis: Nemesis) -> float:
    """Seconds of work that an interruption may cost; all of it where the sync has silently stopped."""
    interval = chance.choice([120.0, 300.0, 1800.0])
    if nemesis.calm or chance.random() >= 0.05:
        return interval
    nemesis.faults["checkpoint sync stopped"] += 1
    return float("inf")


def _changed(
    objects: MemoryObjects,
    store: MemoryStore,
    nemesis: Nemesis,
    events: list[str],
    report_of: Callable[[JobRecord], TrainingReport],
    detail: dict[str, Any],
) -> None:
    name = str(detail["TrainingJobName"])
    _leave_a_checkpoint(objects, nemesis, name, detail["OutputDataConfig"]["S3OutputPath"])
    job = store.find_job(name.rpartition("-")[0])
    if detail["TrainingJobStatus"] in ("Failed", "Stopped") and job is not None:
        for step, best in ((10, None), (30, 20), (40, 20), (20, 20)):
            leave_checkpoint(objects, job, step, best_step=best)
        leave_notes(objects, job, step=45, total_steps=100)
    if detail["TrainingJobStatus"] == "Completed" and job is not None:
        body = report_of(job).model_dump_json().encode()
        if nemesis.strikes("report truncated", 0.02):
            body = body[: len(body) // 2]
        objects.write(detail["ModelArtifacts"]["S3ModelArtifacts"] + REPORT_NAME, body)
    events.append(name)


def _leave_a_checkpoint(objects: MemoryObjects, nemesis: Nemesis, name: str, output: str) -> None:
    """A manifest in S3, perhaps cut off, as a kill in the middle of its upload leaves it."""
    job_id, _, attempt = name.rpartition("-")
    folder = layout.checkpoints_uri(output.removesuffix("output/"))
    manifest = Manifest(job_id=job_id, step=int(attempt), created_at=0, tokens_seen=0, config_sha256="", files=())
    body = manifest.model_dump_json().encode()
    if nemesis.strikes("checkpoint truncated", 0.1):
        body = body[: len(body) // 2]
    objects.write(f"{folder}checkpoint-{attempt}/{MANIFEST_NAME}", body)
