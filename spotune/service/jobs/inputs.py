"""A job's inputs in the region that it runs in, where that is not the home of model and data.

SageMaker reads from its own region alone. What a job reads is decided once, in its folder's `inputs.json`: one version
of each file and of the base model, by their ETags. They are copied by S3 itself before the first attempt starts, a
slice of time after the other; whoever finds all of them there need not look at the sources any more. Base models are
shared by all tenants, files lie in their tenant's folder.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from spotune.aws.base import AwsRefused, ObjectInfo, ObjectMissing, SourceChanged
from spotune.contracts import layout
from spotune.contracts.base import Seconds
from spotune.contracts.errors import Unavailable
from spotune.contracts.events import CopyStarted
from spotune.contracts.job import Attempt, Inputs, JobRecord, ModelReference
from spotune.contracts.training import REPORT_NAME
from spotune.service.installation import Installation, Place
from spotune.service.jobs.changes import apply

SLICE: Seconds = 45
"""How long one delivery copies. The reconciler queues the command again when it is a minute old, and each minute after:
a slice and the parts under way in it end before the next one."""

logger = logging.getLogger(__name__)


class InputsChanged(Exception):
    """A source is gone, or not what the job was planned with."""


@dataclass(frozen=True, slots=True)
class _Copy:
    source: ObjectInfo
    target: str


@dataclass(frozen=True, slots=True)
class _Copies:
    """All that a job needs in a region. `model` ends with the marker."""

    inputs: Inputs
    files: tuple[_Copy, ...]
    model: tuple[_Copy, ...]


def own_inputs(job: JobRecord) -> Inputs:
    """Where a job's inputs lie before any of them is copied."""
    champion = job.champion
    return Inputs(
        training_uri=job.training_uri,
        validation_uri=job.validation_uri,
        model_uri=job.model.uri,
        champion_uri=champion.uri if champion is not None and not champion.obstacle else None,
        golden_uri=job.golden_uri,
    )


def bytes_to_copy(
    here: Installation, tenant: str, model: ModelReference, own: Inputs, named: Iterable[str] = ()
) -> dict[str, int]:
    """What each further region lacks of a job's inputs, by region.

    A region that does not answer is left out, unless it is among those that the user named.

    Raises:
        Unavailable, AwsRefused: a named region does not answer.
        ObjectMissing: a file or the model is gone.
    """
    lacking = {}
    for place in here.further:
        try:
            lacking[place.region] = _lacking(here, _copies(here, place, tenant, model, own))
        except (Unavailable, AwsRefused) as error:
            if place.region in named:
                raise
            logger.warning("plans go without %s: %s", place.region, error)
    return lacking


def inputs_in_region(here: Installation, job: JobRecord, attempt: Attempt) -> Inputs | None:
    """Where a job's training jobs find their inputs; None where they are not all in its region yet: call again.

    Raises:
        InputsChanged: a source is gone, or another one than was planned with.
        ObjectMissing: the region's buckets are not there.
        Unavailable, AwsRefused: S3 does not answer, or refuses.
    """
    own, place = own_inputs(job), here.place(job.region)
    if place.region == here.settings.region:
        return own
    decided = _decided(here, job)
    if decided is not None and _all_there(here, decided):
        return decided if _is_booked(here, job, attempt) else None
    copies = _copies_now(here, place, job, own)
    if decided is None:
        decided = _decide(here, job, copies)
    if copies.inputs != decided:
        raise InputsChanged("the job's files or its base model were replaced while they were copied")
    return _carry(here, job, attempt, copies)


def _decided(here: Installation, job: JobRecord) -> Inputs | None:
    try:
        return Inputs.model_validate_json(here.objects.read(layout.inputs_uri(here.job_folder(job))))
    except ObjectMissing:
        return None


def _all_there(here: Installation, inputs: Inputs) -> bool:
    wanted = [inputs.model_uri + layout.MODEL_MARKER, inputs.training_uri, inputs.validation_uri, inputs.golden_uri]
    wanted.append(None if inputs.champion_uri is None else inputs.champion_uri + REPORT_NAME)
    return all(here.objects.head(uri) is not None for uri in wanted if uri is not None)


def _copies_now(here: Installation, place: Place, job: JobRecord, own: Inputs) -> _Copies:
    try:
        copies = _copies(here, place, job.tenant, job.model, own)
    except ObjectMissing as missing:
        raise InputsChanged(f"{missing.uri} is gone") from missing
    planned = job.plan.chosen.transfer_bytes if job.plan is not None else 0
    lacking = _lacking(here, copies)
    if lacking > planned:
        raise InputsChanged(f"{lacking} bytes are to be copied to {place.region}, and {planned} were planned and paid")
    return copies


def _decide(here: Installation, job: JobRecord, copies: _Copies) -> Inputs:
    """The first who writes decides; two deliveries at once read the same versions then."""
    here.objects.write_new(layout.inputs_uri(here.job_folder(job)), copies.inputs.model_dump_json().encode())
    return _decided(here, job) or copies.inputs


def _carry(here: Installation, job: JobRecord, attempt: Attempt, copies: _Copies) -> Inputs | None:
    if not _is_booked(here, job, attempt):
        return None
    until = here.clock() + SLICE
    try:
        if not _copy_all(here, copies, lambda: here.clock() < until):
            return None
    except SourceChanged as changed:
        raise InputsChanged(str(changed)) from changed
    return copies.inputs if _still_wanted(here, job, attempt) else None


def _is_booked(here: Installation, job: JobRecord, attempt: Attempt) -> bool:
    """True once the transfer is paid for: before the first byte, and where another job has copied all of it, too."""
    if job.transfer is not None:
        return True
    after = apply(here, job.id, CopyStarted(name=attempt.name))
    return after is not None and after.transfer is not None


def _still_wanted(here: Installation, job: JobRecord, attempt: Attempt) -> bool:
    """False where it was stopped in the minutes of the copy: the next delivery refuses its launch."""
    now = here.store.find_job(job.id)
    return now is not None and not now.terminal and not now.attempts[attempt.number - 1].stop_asked


def _copy_all(here: Installation, copies: _Copies, more_time: Callable[[], bool]) -> bool:
    *weights, marker = copies.model
    wanted = (*copies.files, *(() if _is_there(here, marker) else weights))
    if not all(_copy(here, one, more_time) for one in wanted):
        return False
    return _copy(here, marker, more_time)


def _copy(here: Installation, one: _Copy, more_time: Callable[[], bool]) -> bool:
    return _is_there(here, one) or here.objects.carry(one.source, one.target, more_time)


def _is_there(here: Installation, one: _Copy) -> bool:
    found = here.objects.head(one.target)
    return found is not None and found.bytes == one.source.bytes


def _lacking(here: Installation, copies: _Copies) -> int:
    """Bytes. Of a model that is there in part it counts all."""
    model = () if _is_there(here, copies.model[-1]) else copies.model
    return sum(one.source.bytes for one in (*model, *(one for one in copies.files if not _is_there(here, one))))


def _copies(here: Installation, place: Place, tenant: str, model: ModelReference, own: Inputs) -> _Copies:
    folder, parts = _model_copies(here, place, model)
    uris = [uri for uri in (own.training_uri, own.validation_uri, own.golden_uri) if uri is not None]
    files = {uri: _file_copy(here, place, tenant, uri) for uri in uris}
    champion_uri, champion = _champion_copies(here, place, tenant, own.champion_uri)
    return _Copies(
        inputs=Inputs(
            training_uri=files[own.training_uri].target,
            validation_uri=None if own.validation_uri is None else files[own.validation_uri].target,
            model_uri=folder,
            champion_uri=champion_uri,
            golden_uri=None if own.golden_uri is None else files[own.golden_uri].target,
        ),
        files=(*files.values(), *champion),
        model=parts,
    )


def _file_copy(here: Installation, place: Place, tenant: str, uri: str) -> _Copy:
    source = here.objects.head(uri)
    if source is None:
        raise ObjectMissing(uri)
    version = f"{source.etag}-{source.bytes}"
    return _Copy(source, layout.file_copy_uri(place.data_bucket, tenant, uri, version))


def _champion_copies(
    here: Installation, place: Place, tenant: str, uri: str | None
) -> tuple[str | None, tuple[_Copy, ...]]:
    """The champion's folder in a region, and what goes there, its report last; nothing where it was trained there."""
    if uri is None or uri.startswith(f"s3://{place.artifacts_bucket}/"):
        return uri, ()
    found = sorted(here.objects.list(uri), key=lambda one: one.uri == uri + REPORT_NAME)
    if not found or found[-1].uri != uri + REPORT_NAME:
        raise ObjectMissing(uri + REPORT_NAME)
    folder = layout.folder_copy_uri(place.data_bucket, tenant, uri, _version(uri, found))
    return folder, tuple(_Copy(one, folder + one.uri.removeprefix(uri)) for one in found)


def _model_copies(here: Installation, place: Place, model: ModelReference) -> tuple[str, tuple[_Copy, ...]]:
    """The model's folder in a region, and what goes there. While a model is exchanged, it has no marker."""
    found = sorted(here.objects.list(model.uri), key=lambda one: one.uri.endswith("/" + layout.MODEL_MARKER))
    if not found or not found[-1].uri.endswith("/" + layout.MODEL_MARKER):
        raise ObjectMissing(model.uri + layout.MODEL_MARKER)
    folder = layout.base_model_copy_uri(place.models_bucket, model.name, _version(model.uri, found))
    return folder, tuple(_Copy(one, folder + one.uri.removeprefix(model.uri)) for one in found)


def _version(folder: str, found: Iterable[ObjectInfo]) -> str:
    return hashlib.sha256("\n".join(sorted(_version_lines(folder, found))).encode()).hexdigest()[:24]


def _version_lines(folder: str, found: Iterable[ObjectInfo]) -> Iterator[str]:
    for one in found:
        yield f"{one.uri.removeprefix(folder)} {one.bytes} {one.etag}"
