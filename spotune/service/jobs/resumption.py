"""What a retry takes over from the job before it: which checkpoint there is, whether it serves, and its copy."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from spotune.aws.base import AwsRefused, ObjectMissing
from spotune.contracts import layout
from spotune.contracts.checkpoint import (
    BASE_SCORES_NAME,
    CHAMPION_SCORES_NAME,
    CHECKPOINT_PREFIX,
    HISTORY_NAME,
    REFERENCE_NAME,
    STATE_NAME,
    Identity,
    Resumption,
    StateFile,
    differences,
    newest_whole,
)
from spotune.contracts.errors import PlanRefused
from spotune.contracts.events import Prepared
from spotune.contracts.job import JobRecord, ResolvedSetting
from spotune.contracts.request import JobRequest
from spotune.contracts.training import MANIFEST_NAME, PROGRESS_NAME, Manifest, Progress
from spotune.planner import NOTHING_DONE, Done
from spotune.service.installation import Installation
from spotune.service.jobs.checkpoints import lacks, read_contract, release_checkpoints
from spotune.service.jobs.preparation import CheckedFiles

Planning = Callable[[JobRequest, Done], Prepared]
"""Plans a request of which this much is done."""

Sizes = dict[str, int]
"""Bytes of the objects in a folder, by URI."""

_NOTES = (BASE_SCORES_NAME, CHAMPION_SCORES_NAME, HISTORY_NAME, REFERENCE_NAME)
"""What lies beside the checkpoints and a resume has a use for; a run goes on without them, too."""


_REFUSED = ("checkpoint_of_another_config", "checkpoint_of_another_model")
"""What a container says of a checkpoint that it does not go on from."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Found:
    """A checkpoint in S3 whose files are all there, in the sizes that its manifest names."""

    job: JobRecord
    """Whose it is."""
    written: StateFile
    best_step: int | None
    """Of the best checkpoint before it, as far as that is there, too."""
    total_steps: int
    """0 where neither the job had said, nor the one that it went on from."""
    base_scored: bool


def prepare_retry(
    here: Installation, request: JobRequest, earlier: JobRecord, files: CheckedFiles, plan: Planning
) -> Prepared:
    """Plan a retry: what is left to do where the earlier job's checkpoint serves, else all of it, saying why.

    Raises:
        PlanRefused, RequestRefused: as planning does.
    """
    found = find_checkpoint(here, earlier) if here.runs_in(earlier.region) else None
    if found is None:
        why = f"Starts from the beginning: job {earlier.id} left no checkpoint that can be gone on from."
        return _stated(plan(request, NOTHING_DONE), Resumption(job_id=earlier.id, message=why))
    changed = (*_changed_files(found.job, files), *_changed_region(here, found.job, request))
    prepared = None if changed else _going_on(_in_the_region_of(here, found.job, request), found, plan)
    if prepared is not None:
        return prepared
    prepared = plan(request, NOTHING_DONE)
    differing = (*changed, *_differences(found, prepared))
    names = ", ".join(one.partition(":")[0] for one in differing)
    why = (
        f"Starts from the beginning: the checkpoint of step {found.written.state.step} of job {found.job.id} "
        f"was made with another {names}."
    )
    return _stated(prepared, Resumption(job_id=found.job.id, differences=differing, message=why))


def find_checkpoint(here: Installation, job: JobRecord) -> Found | None:
    """The newest checkpoint of a job that can be gone on from.

    A retry that never had an instance has none of its own: then the copy of the one that it would have gone on from,
    which S3 keeps for longer, or that one.
    """
    at: JobRecord | None = job
    while at is not None:
        if at.error is not None and at.error.code in _REFUSED:
            return None
        found = _newest(here, at) if at.goes_on or _had_an_instance(at) else None
        if found is not None and (_had_an_instance(at) or _is_whole_copy(found)):
            return found
        at = here.store.get_job(at.tenant, at.resumption.job_id) if at.resumption and at.goes_on else None
    return None


def carry_while_it_waits(here: Installation, job: JobRecord) -> bool:
    """Copy what a retry goes on from as long as it has no attempt: it may wait longer than S3 keeps the earlier job's
    checkpoints. From its first attempt on, the launch copies and says what is in the way.

    A retry that ended meanwhile leaves its copy to S3, as any job that has ended does.

    Returns:
        False where S3 refuses it: call again.

    Raises:
        Unavailable: S3 does not answer.
    """
    taken = job.resumption
    if taken is not None and not job.attempts and not job.terminal:
        try:
            carry_over(here, job, taken)
        except ObjectMissing as gone:
            logger.warning("the launch of %s will find no checkpoint: %s", job.id, gone)
        except AwsRefused as refused:
            logger.warning("the checkpoint of %s cannot be copied: %s", job.id, refused)
            return False
    now = here.store.find_job(job.id)
    if now is not None and not now.open:
        release_checkpoints(here, now)
    return True


def carry_over(here: Installation, job: JobRecord, taken: Resumption) -> None:
    """Copy what a resume needs into the retry's own folder; the newest manifest comes last, and ends it.

    It may be cut off anywhere and begun again. Nothing that is there already is written again, and nothing after the
    end: the training job may have begun to write.

    Raises:
        ObjectMissing: the checkpoint is gone, or is another one than its manifest says.
        Unavailable: S3 does not answer.
    """
    bucket = here.place(job.region).artifacts_bucket
    source, target = (layout.job_uri(bucket, job.tenant, job_id) for job_id in (taken.job_id, job.id))
    there = _sizes(here, layout.checkpoints_uri(target))
    if layout.checkpoint_uri(target, taken.step) + MANIFEST_NAME in there:
        return
    for name in _NOTES:
        note = layout.checkpoints_uri(target) + name
        if note not in there and here.objects.head(layout.checkpoints_uri(source) + name) is not None:
            here.objects.copy(layout.checkpoints_uri(source) + name, note)
    for step in dict.fromkeys((taken.best_step or taken.step, taken.step)):
        _copy_checkpoint(here, layout.checkpoint_uri(source, step), layout.checkpoint_uri(target, step), there)


def _copy_checkpoint(here: Installation, source: str, target: str, there: Sizes) -> None:
    manifest = read_contract(here, Manifest, source + MANIFEST_NAME)
    if manifest is None:
        raise ObjectMissing(source + MANIFEST_NAME)
    for file in manifest.files:
        if there.get(target + file.name) != file.bytes:
            here.objects.copy(source + file.name, target + file.name)
    if fault := lacks(manifest, target, _sizes(here, target)):
        raise ObjectMissing(source, fault)
    if target + MANIFEST_NAME not in there:
        here.objects.copy(source + MANIFEST_NAME, target + MANIFEST_NAME)


def _had_an_instance(job: JobRecord) -> bool:
    return any(attempt.accepted for attempt in job.attempts)


def _is_whole_copy(found: Found) -> bool:
    """The best checkpoint is copied before the one to go on from."""
    taken = found.job.resumption
    return taken is not None and found.written.state.step == taken.step


def _going_on(request: JobRequest, found: Found, plan: Planning) -> Prepared | None:
    """The plan of what is left; None where the checkpoint does not serve it."""
    state = found.written.state
    resumption = Resumption(
        job_id=found.job.id, step=state.step, total_steps=found.total_steps, best_step=found.best_step, message=""
    )
    asked = _with_the_method_of(found.job, request)
    try:
        prepared = plan(asked, Done(share=resumption.done, base_scored=_base_scored(request, found)))
    except PlanRefused:
        return None  # perhaps another method fits
    if _differences(found, prepared):
        return None
    kept = ResolvedSetting(name="adapter.type", value=asked.adapter.type, reason="the checkpoint's")
    settings = prepared.settings if asked is request else (*prepared.settings, kept)
    return _stated(prepared.with_(settings=settings), resumption.with_(message=_going_on_words(found)))


def _going_on_words(found: Found) -> str:
    step = found.written.state.step
    if found.total_steps:
        return f"Goes on from step {step} of {found.total_steps} of job {found.job.id}; the plan counts the rest."
    return f"Goes on from step {step} of job {found.job.id}; how much is left is not known, so the plan counts it all."


def _with_the_method_of(earlier: JobRecord, request: JobRequest) -> JobRequest:
    """`auto` stays what it came to: prices move, and another method could not go on."""
    if earlier.config is None or not request.adapter.type == earlier.request.adapter.type == "auto":
        return request
    return request.with_(adapter=request.adapter.with_(type=earlier.config.method))


def _base_scored(request: JobRequest, found: Found) -> bool:
    same = request.training.generation_examples == found.job.request.training.generation_examples
    return same and found.base_scored


def _differences(found: Found, prepared: Prepared) -> tuple[str, ...]:
    written = found.written.identity
    return differences(written, Identity.of(prepared.config, written.data_sha256))


def _changed_files(earlier: JobRecord, files: CheckedFiles) -> Iterator[str]:
    """By their bytes; by name and size where only the head was read, for a plan that promises nothing."""
    pairs = (
        ("training_file", earlier.training, files.training),
        ("validation_file", earlier.validation, files.validation),
    )
    for name, old, new in pairs:
        if old is None or new is None:
            if old is not new:
                yield f"{name}: {old and old.uri} -> {new and new.uri}"
        elif old.sha256 != new.sha256 and (files.whole or (old.uri, old.bytes) != (new.uri, new.bytes)):
            yield f"{name}: {old.uri} ({old.sha256[:12]}) -> {new.uri} ({new.sha256[:12]})"


def _changed_region(here: Installation, earlier: JobRecord, request: JobRequest) -> Iterator[str]:
    """Checkpoints stay in their region: whoever forbids it begins anew."""
    region, allowed = here.place(earlier.region).region, request.constraints.regions
    if allowed is not None and region not in allowed:
        yield f"region: {region} -> {', '.join(allowed)}"


def _in_the_region_of(here: Installation, earlier: JobRecord, request: JobRequest) -> JobRequest:
    """Where there are several, a run goes on in the one that its checkpoint lies in."""
    if not here.further:
        return request
    regions = (here.place(earlier.region).region,)
    return request.with_(constraints=request.constraints.with_(regions=regions))


def _stated(prepared: Prepared, resumption: Resumption) -> Prepared:
    """Said among the settings, in the log (by the lifecycle) and, where work is lost, among the plan's warnings."""
    value = f"step {resumption.step} of job {resumption.job_id}" if resumption.used else "none"
    reason = resumption.message if not resumption.differences else "; ".join(resumption.differences)
    setting = ResolvedSetting(name="checkpoint", value=value, reason=reason)
    warnings = () if resumption.used else (resumption.message,)
    return prepared.with_(
        settings=(*prepared.settings, setting),
        plan=prepared.plan.with_(warnings=(*prepared.plan.warnings, *warnings)),
        resumption=resumption,
    )


def _newest(here: Installation, job: JobRecord) -> Found | None:
    """Reads the newest few alone."""
    folder = here.job_folder(job)
    sizes = _sizes(here, layout.checkpoints_uri(folder))
    known: dict[int, StateFile] = {}

    def whole(step: int) -> StateFile | None:
        state = known.get(step) or _whole(here, layout.checkpoint_uri(folder, step), sizes)
        if state is None or state.state.step != step:
            return None
        return known.setdefault(step, state)

    newest_first = (found.state for step in _steps(folder, sizes) if (found := whole(step)) is not None)
    newest = newest_whole(newest_first, lambda step: whole(step) is not None)
    if newest is None:
        return None
    progress = read_contract(here, Progress, layout.checkpoints_uri(folder) + PROGRESS_NAME)
    said = progress.total_steps if progress is not None else 0
    return Found(
        job=job,
        written=known[newest.step],
        best_step=newest.best_step if newest.best_step in known else None,
        total_steps=said or (job.resumption.total_steps if job.resumption is not None else 0),
        # Those of a copy may be of other examples than this job asked for.
        base_scored=_had_an_instance(job) and layout.checkpoints_uri(folder) + BASE_SCORES_NAME in sizes,
    )


def _steps(folder: str, sizes: Sizes) -> list[int]:
    """Of the folders with a manifest, newest first."""
    start, end = layout.checkpoints_uri(folder) + CHECKPOINT_PREFIX, "/" + MANIFEST_NAME
    names = [uri.removeprefix(start).removesuffix(end) for uri in sizes if uri.startswith(start) and uri.endswith(end)]
    return sorted((int(name) for name in names if name.isdecimal()), reverse=True)


def _whole(here: Installation, folder: str, sizes: Sizes) -> StateFile | None:
    """The state of a checkpoint whose files are there; their content is verified by the container."""
    manifest = read_contract(here, Manifest, folder + MANIFEST_NAME)
    if manifest is None or lacks(manifest, folder, sizes):
        return None
    return read_contract(here, StateFile, folder + STATE_NAME)


def _sizes(here: Installation, folder: str) -> Sizes:
    return {one.uri: one.bytes for one in here.objects.list(folder)}
