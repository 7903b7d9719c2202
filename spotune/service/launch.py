"""Runs what the lifecycle ordered. Every command may come twice; the second time changes nothing."""

from __future__ import annotations

import logging
import math
from functools import partial

from spotune import planner
from spotune.aws.base import AwsRefused, NameTaken, ObjectMissing, TrainingJobRefused, TrainingJobSpec
from spotune.contracts import layout
from spotune.contracts.commands import (
    CarryCheckpoint,
    CheckDataset,
    EndRetraining,
    Notify,
    RegisterModel,
    ReleaseCheckpoints,
    StartAttempt,
    StopAttempt,
    WarnOfMonth,
)
from spotune.contracts.errors import Unavailable
from spotune.contracts.events import AttemptAccepted, AttemptRefused, Refusal
from spotune.contracts.job import Attempt, Inputs, JobRecord
from spotune.contracts.subject import know_job
from spotune.contracts.training import CONFIG_NAME, CONFIG_VERSION, HOME_REGION_VARIABLE, TrainingConfig
from spotune.lifecycle.rungs import plan_of
from spotune.service.apart import apart
from spotune.service.installation import Installation
from spotune.service.jobs.changes import apply
from spotune.service.jobs.checkpoints import release_checkpoints
from spotune.service.jobs.inputs import InputsChanged, inputs_in_region
from spotune.service.jobs.observation import observe
from spotune.service.jobs.pruning import prune_checkpoints
from spotune.service.jobs.resumption import carry_over, carry_while_it_waits
from spotune.service.jobs.submit import check_recorded
from spotune.service.models.registration import register
from spotune.service.notifications.publication import notify, warn_of_month
from spotune.service.retraining.ends import end

logger = logging.getLogger(__name__)


def run_command(here: Installation, job_id: str, entry_id: str) -> None:
    """Run one outbox entry and take it off; an entry that is already done is left alone.

    Raises:
        Unavailable: AWS does not answer now; the entry stays for another delivery.
    """
    entry = here.store.get_command(job_id, entry_id)
    job = here.store.find_job(job_id)
    if entry is None or job is None:
        return
    know_job(job)
    match entry.command:
        case CheckDataset():
            if job.state == "validating":
                check_recorded(here, job)
        case CarryCheckpoint():
            if not carry_while_it_waits(here, job):
                return  # S3 refuses: the entry stays until it does not, or until the launch says so
        case StartAttempt(number=number):
            if not start_attempt(here, job, job.attempts[number - 1]):
                return  # its data is on the way: the entry stays, and the reconciler queues it again
        case StopAttempt(name=name):
            here.place(job.region).training_jobs.stop(name)
            observe(here, name, job)
        case Notify():
            notify(here, job, entry.command)
        case WarnOfMonth(month=month):
            warn_of_month(here, job, month)
        case RegisterModel():
            register(here, job)
        case EndRetraining():
            if not end(here, job):
                return  # it still runs somewhere, or its model is on its way into the registry: as above
        case ReleaseCheckpoints():
            release_checkpoints(here, job)
    here.store.complete_command(entry)


def start_attempt(here: Installation, job: JobRecord, attempt: Attempt) -> bool:
    """Create the attempt's training job, or adopt the one that already has its name.

    A reply that was lost is found again by describing the name; a second training job is never started.

    Returns:
        False where the job's data is not all in its region yet: call again.
    """
    know_job(job, attempt.name)
    if attempt.outcome is not None:
        observe(here, attempt.name, job)
        return True
    if _exists(here, job, attempt):
        _adopt(here, job, attempt.name)
        return True
    job, attempt = _with_checkpoint(here, job, attempt)
    if job.terminal or attempt.stop_asked or attempt.outcome is not None:
        apply(here, job.id, _refused(attempt, "cancelled", "stopped before launch"), job)
        return True
    try:
        inputs = inputs_in_region(here, job, attempt)
    except InputsChanged as changed:
        apply(here, job.id, _refused(attempt, "inputs", str(changed)))
        return True
    except (AwsRefused, ObjectMissing) as refused:
        apply(here, job.id, _refused(attempt, "not_permitted", str(refused)))
        return True
    if inputs is None:
        return False
    if attempt.number > 1:
        apart("superseded checkpoints", partial(prune_checkpoints, here, job), job=job.id, tenant=job.tenant)
    _create(here, job, attempt, inputs)
    return True


def _exists(here: Installation, job: JobRecord, attempt: Attempt) -> bool:
    """Whether SageMaker has the attempt's training job.

    Raises:
        Unavailable: it does not say; whatever the reason, nothing is started in doubt, and the command comes again.
    """
    try:
        return here.place(job.region).training_jobs.describe(attempt.name) is not None
    except AwsRefused as refused:
        raise Unavailable(
            f"SageMaker does not say whether {attempt.name} exists ({refused}).",
            code="aws_unavailable",
            remedy="Let the launch function describe training jobs; the command is tried again.",
        ) from refused


def _refused(attempt: Attempt, reason: Refusal, message: str) -> AttemptRefused:
    return AttemptRefused(name=attempt.name, reason=reason, message=message, ordered_at=attempt.requested_at)


def _with_checkpoint(here: Installation, job: JobRecord, attempt: Attempt) -> tuple[JobRecord, Attempt]:
    """Before a retry's first attempt: copy what it goes on from. The job as it is then: copying may take minutes.

    Before a pause, too: it may last longer than S3 keeps the earlier job's checkpoints.
    """
    taken = job.resumption
    if attempt.number > 1 or taken is None or not taken.used or job.terminal or attempt.stop_asked == "cancel":
        return job, attempt
    try:
        carry_over(here, job, taken)
    except ObjectMissing as gone:
        apply(here, job.id, _refused(attempt, "checkpoint_gone", str(gone)))
    except AwsRefused as refused:
        apply(here, job.id, _refused(attempt, "not_permitted", str(refused)))
    now = here.store.find_job(job.id) or job
    return now, now.attempts[attempt.number - 1]


def _create(here: Installation, job: JobRecord, attempt: Attempt, inputs: Inputs) -> None:
    # A job that was planned before the installation's limit was set runs within it all the same.
    attempt = attempt.with_(max_runtime=min(attempt.max_runtime, here.settings.bounds.longest))
    folder, training_jobs = here.job_folder(job), here.place(job.region).training_jobs
    config = layout.config_uri(folder, attempt.name)
    try:
        here.objects.write(config + CONFIG_NAME, attempt_config(job, attempt).model_dump_json(indent=1).encode())
        training_jobs.create(_spec(here, job, attempt, folder, config, inputs))
    except NameTaken:
        logger.info("training job %s exists; adopting it", attempt.name)
    except (AwsRefused, ObjectMissing) as refused:
        apply(here, job.id, _refused(attempt, "not_permitted", str(refused)), job)
        return
    except TrainingJobRefused as refused:
        # An earlier request of ours whose answer was lost may hold the very quota that this one was refused for.
        if not _exists(here, job, attempt):
            apply(here, job.id, _refused(attempt, refused.reason, str(refused)), job)
            return
    _adopt(here, job, attempt.name)


def _adopt(here: Installation, job: JobRecord, name: str) -> None:
    accepted = apply(here, job.id, AttemptAccepted(name=name), job)
    observe(here, name, accepted)


def attempt_config(job: JobRecord, attempt: Attempt) -> TrainingConfig:
    """The job's config in the container's version, fitted to the attempt's machines, its time cut to the attempt's."""
    if job.config is None:
        raise ValueError(f"job {job.id} was never prepared")
    plan = plan_of(job)
    # With the loading, which the container sees for itself: room for a download that is slower than planned.
    unseen = math.ceil(plan.chosen.start_seconds)
    limits = job.config.limits.with_(max_runtime_seconds=attempt.max_runtime, unseen_seconds=unseen)
    hardware = plan.rungs[attempt.rung].hardware or job.config.hardware
    return job.config.with_(version=CONFIG_VERSION, limits=limits, hardware=hardware, retry_of=job.retry_of)


def _spec(
    here: Installation, job: JobRecord, attempt: Attempt, folder: str, config: str, inputs: Inputs
) -> TrainingJobSpec:
    rung, told = plan_of(job).rungs[attempt.rung], attempt_config(job, attempt)
    file_bytes = sum(report.bytes for report in (job.training, job.validation, job.golden) if report is not None)
    champion_bytes = job.champion.bytes if job.champion is not None and inputs.champion_uri is not None else 0
    key = here.settings.key_in(job.region)
    types, volume_key = _encrypted(rung.instance_types, key)
    needed = planner.disk_gb(told, job.model.parameters, file_bytes, champion_bytes)
    return TrainingJobSpec(
        name=attempt.name,
        stage=here.settings.stage,
        job_id=job.id,
        tenant=job.tenant,
        attempt=attempt.number,
        role_arn=here.settings.role_of(job.tenant),
        image=here.place(job.region).training_image,
        market=attempt.market,
        instance_types=types,
        instance_count=attempt.instance_count,
        volume_gb=planner.volume_gb(types, needed),
        max_runtime=attempt.max_runtime,
        max_wait=attempt.max_wait,
        config_uri=config,
        training_uri=inputs.training_uri,
        validation_uri=inputs.validation_uri,
        model_uri=inputs.model_uri,
        champion_uri=inputs.champion_uri,
        golden_uri=inputs.golden_uri,
        checkpoints_uri=layout.checkpoints_uri(folder),
        output_uri=layout.output_uri(folder),
        environment={HOME_REGION_VARIABLE: here.settings.region},
        subnets=here.settings.subnets,
        security_groups=here.settings.security_groups,
        kms_key=key,
        volume_kms_key=volume_key,
        network_isolation=here.settings.network_isolation or not any(tracker.online for tracker in told.trackers),
    )


def _encrypted(types: tuple[str, ...], key: str) -> tuple[tuple[str, ...], str]:
    """Which of the types an attempt names, and the key of their volumes.

    One request has one key for all its types, and types with local storage take none: with a key of our own, those
    that store as the first one does are named.
    """
    if not key:
        return types, ""
    local = planner.has_local_storage(types[0])
    alike = tuple(name for name in types if planner.has_local_storage(name) == local)
    return alike, "" if local else key
