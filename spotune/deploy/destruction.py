"""`spotune destroy`: the stacks go, data stays unless it is to go, too.

    no new attempts -> live jobs stopped, or a refusal -> a note of what holds data -> stacks -> data -> code bucket

Killed at any step, the same command goes on: what is gone is passed over, and the note still names the rest. A
deployment that begins meanwhile takes the data over, and none of it is deleted any more.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from spotune.aws.training_jobs import TrainingJobs
from spotune.contracts.errors import Conflict, NotFound, Unavailable
from spotune.deploy import kept
from spotune.deploy.account import Account, AwsSaysNo, call, pages
from spotune.deploy.drawer import Drawer
from spotune.deploy.installation import REGIONS, Installation
from spotune.deploy.kept import Kept
from spotune.deploy.stacks import Stack, Tell

SECRET_DAYS = 7
"""A deleted secret can be restored for so long; AWS takes no less."""

Look = Callable[[], None]
"""Asked before something is deleted for good: raises where somebody has deployed meanwhile."""

_PATIENCE_SECONDS = 900
_NOT_THERE = ("ResourceNotFoundException", "NoSuchBucket", "404")


@dataclass(frozen=True, slots=True)
class RunningJob:
    """A training job of this installation that SageMaker bills at this moment."""

    name: str
    region: str


def destroy(installation: Installation, tell: Tell, *, delete_data: bool, stop_jobs: bool) -> tuple[Kept, ...]:
    """Take an installation away.

    Args:
        delete_data: delete table, buckets and secrets, too, those that an earlier call has kept among them.
        stop_jobs: stop training jobs that run, rather than refuse.

    Returns:
        What holds data and was kept.

    Raises:
        NotFound: there is nothing of this name.
        Conflict: training jobs run, a stack cannot be deleted, or somebody deploys meanwhile.
    """
    drawer = installation.drawer
    if drawer is None and installation.home.exists():
        raise Conflict(
            f"The code bucket of {installation.stage} is gone, in which is noted what is kept.",
            code="code_bucket_missing",
            remedy="Have it made anew with `spotune deploy`, then run the command again.",
        )
    if drawer is None:
        raise NotFound(
            f"There is no installation {installation.stage} in {installation.settings.region}.",
            code="not_deployed",
            remedy="Check stage and region in the settings.",
        )
    installation.home.rest(tell)
    regions = all_regions(installation, drawer)
    _end_jobs(installation, regions, tell, stop=stop_jobs)
    stacks = _stacks(installation, regions)
    things = kept.note(drawer, [thing for stack in stacks for thing in kept.held_by(stack)])
    if installation.home.exists():
        installation.home.protect(False)
    _delete_stacks(stacks[:1], tell)
    things = kept.note(drawer, things)  # again: who deployed meanwhile may have held it for taken over
    # With the home's role gone nothing starts any more. What came through before is seen by this look.
    _end_jobs(installation, regions, tell, stop=stop_jobs)
    _delete_stacks(stacks[1:], tell)
    things = kept.note(drawer, things)
    if not delete_data:
        return things
    look = partial(_require_gone, installation, drawer)
    for thing in things:
        look()
        tell(f"{thing.id}: deleting")
        _delete(installation.account, thing, installation.pause, look)
    look()
    _empty_bucket(drawer.client, drawer.bucket, look)
    installation.code.delete(tell)
    return ()


def all_regions(installation: Installation, drawer: Drawer) -> list[str]:
    """The home first. Those that were ever deployed, those that hold data yet, and those that are named by now."""
    deployed = [*(drawer.note(REGIONS) or ()), *(one.region for one in kept.noted(drawer))]
    return [*dict.fromkeys([installation.settings.region, *deployed, *installation.settings.further_regions])]


def _stacks(installation: Installation, regions: list[str]) -> list[Stack]:
    return [installation.home, *map(installation.further, regions[1:])]


def running_jobs(installation: Installation, regions: list[str]) -> list[RunningJob]:
    """Training jobs of this installation that have not ended, in all its regions."""

    def found() -> dict[str, list[RunningJob]]:
        services = {region: _service(installation, region) for region in regions}
        running = ((region, name) for region, service in services.items() for name in service.live())
        ours = [(region, name) for region, name in running if services[region].stage_of(name) == installation.stage]
        return {"jobs": [RunningJob(name, region) for region, name in ours]}

    jobs: list[RunningJob] = call(found)["jobs"]
    return jobs


def _end_jobs(installation: Installation, regions: list[str], tell: Tell, *, stop: bool) -> None:
    """No attempt starts any more, and none runs.

    Raises:
        Conflict: some run, and are not to be stopped; attempts start as before.
    """
    try:
        _hold(installation, tell)
        running = running_jobs(installation, regions)
        if running and not stop:
            raise Conflict(
                f"{len(running)} training jobs run: {', '.join(job.name for job in running[:5])}.",
                code="jobs_running",
                remedy="Wait for their end, or stop them with --stop-jobs: their checkpoints stay.",
                details={"jobs": [job.name for job in running]},
            )
        for job in running:
            tell(f"{job.name} in {job.region}: stopping")
            _stop(installation, job)
        _await(lambda: not running_jobs(installation, regions), installation.pause)
    except BaseException:  # whatever it was, an interrupt too: the installation goes on as before
        release(installation)
        raise


def release(installation: Installation) -> None:
    """Let attempts start again that a destruction has held back. One that was killed has left it so."""
    _switch(installation, on=True)


def _hold(installation: Installation, tell: Tell) -> None:
    """Have Lambda take no more commands off the queue, and wait until those that it has taken are done."""
    _switch(installation, on=False)
    parts = _launching(installation)
    if not {"LaunchFunction", "LaunchQueue"} <= parts.keys():
        return
    function = call(
        installation.account.client("lambda").get_function_configuration, FunctionName=parts["LaunchFunction"]
    )
    # A command that failed stays in flight for longer than any can run.
    until = time.monotonic() + function["Timeout"]
    if taken := _taken(installation, parts["LaunchQueue"]):
        tell(f"{taken} commands may run: waiting for their end, {function['Timeout']} s at most")
    while time.monotonic() < until and _taken(installation, parts["LaunchQueue"]):
        time.sleep(installation.pause)


def _switch(installation: Installation, *, on: bool) -> None:
    """Have Lambda take commands off the launch queue, or no longer."""
    source = _launching(installation).get("LaunchFunctionCommands")
    if source is None:
        return
    client = installation.account.client("lambda")

    def done() -> bool:
        state = call(client.get_event_source_mapping, UUID=source)["State"]
        if state in (("Enabled", "Enabling") if on else ("Disabled",)):
            return True
        try:
            call(client.update_event_source_mapping, UUID=source, Enabled=on)
        except AwsSaysNo as refused:
            if refused.aws_code != "ResourceInUseException":  # else it still carries out an earlier word
                raise
        return False

    _await(done, installation.pause)


def _taken(installation: Installation, queue: str) -> int:
    """Commands that were taken off the queue and are not done."""
    attribute = "ApproximateNumberOfMessagesNotVisible"
    client = installation.account.client("sqs")
    return int(call(client.get_queue_attributes, QueueUrl=queue, AttributeNames=[attribute])["Attributes"][attribute])


def _launching(installation: Installation) -> dict[str, str]:
    """What starts attempts, by its names in the template; less or nothing in a stack that never came so far."""
    if not installation.home.exists():
        return {}
    wanted = ("LaunchFunction", "LaunchFunctionCommands", "LaunchQueue")
    return {name: id_ for name, _, id_ in installation.home.resources() if name in wanted and id_}


def _service(installation: Installation, region: str) -> TrainingJobs:
    return TrainingJobs(installation.account.client("sagemaker", region))


def _stop(installation: Installation, job: RunningJob) -> None:
    def stop() -> dict[str, object]:
        _service(installation, job.region).stop(job.name)
        return {}

    call(stop)


def _delete_stacks(stacks: Iterable[Stack], tell: Tell) -> None:
    for stack in stacks:
        tell(f"{stack.name} in {stack.region}: deleting")
        stack.delete(tell)


def _require_gone(installation: Installation, drawer: Drawer) -> None:
    stacks = _stacks(installation, all_regions(installation, drawer))
    if back := [stack.name for stack in stacks if stack.status() is not None]:
        raise Conflict(
            f"{', '.join(back)} is there again: somebody deploys it. What is left of its data stays.",
            code="deployed_meanwhile",
            remedy="Agree on which it is to be, then run the command again.",
        )


def _await(done: Callable[[], bool], pause: float) -> None:
    until = time.monotonic() + _PATIENCE_SECONDS
    while not done():
        if time.monotonic() > until:
            raise Unavailable(
                f"AWS has not ended in {_PATIENCE_SECONDS // 60} minutes what it was told to end.",
                code="destruction_slow",
                remedy="Run the command again: it goes on where this one was.",
            )
        time.sleep(pause)


def _delete(account: Account, thing: Kept, pause: float, look: Look) -> None:
    """Delete one thing that holds data; nothing where it is gone. It can take hours: it looks around on its way."""
    try:
        if thing.type == "AWS::S3::Bucket":
            client = account.client("s3", thing.region)
            _empty_bucket(client, thing.id, look)
            call(client.delete_bucket, Bucket=thing.id)
        elif thing.type == "AWS::DynamoDB::Table":
            _delete_table(account.client("dynamodb", thing.region), thing.id, pause, look)
        else:
            client = account.client("secretsmanager", thing.region)
            call(client.delete_secret, SecretId=thing.id, RecoveryWindowInDays=SECRET_DAYS)
    except AwsSaysNo as refused:
        if refused.aws_code not in _NOT_THERE and "scheduled for deletion" not in refused.reason:
            raise


def _delete_table(client: Any, name: str, pause: float, look: Look) -> None:
    if _table_status(client, name) == "DELETING":
        return
    call(client.update_table, TableName=name, DeletionProtectionEnabled=False)
    _await(lambda: _table_status(client, name) == "ACTIVE", pause)
    look()
    call(client.delete_table, TableName=name)


def _table_status(client: Any, name: str) -> str:
    return str(call(client.describe_table, TableName=name)["Table"]["TableStatus"])


def _empty_bucket(client: Any, bucket: str, look: Look) -> None:
    """Delete every version of every object, and what unfinished uploads hold."""
    for page in pages(client, "list_object_versions", Bucket=bucket):
        entries = [*page.get("Versions", ()), *page.get("DeleteMarkers", ())]
        objects = [{"Key": entry["Key"], "VersionId": entry["VersionId"]} for entry in entries]
        if objects:
            look()
            call(client.delete_objects, Bucket=bucket, Delete={"Objects": objects, "Quiet": True})
    for page in pages(client, "list_multipart_uploads", Bucket=bucket):
        for upload in page.get("Uploads", ()):
            call(client.abort_multipart_upload, Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])
