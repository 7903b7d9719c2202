"""From a request to something that can run: the files checked, the `auto`s resolved, the plan made."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice

from spotune import planner
from spotune.aws.base import ObjectMissing
from spotune.contracts.dataset import DatasetReport, GoldenReport
from spotune.contracts.errors import DatasetRefused, NotFound, RequestRefused
from spotune.contracts.events import Prepared
from spotune.contracts.files import DIRECT_UPLOAD_BYTES
from spotune.contracts.job import JobRecord
from spotune.contracts.layout import split_uri
from spotune.contracts.quality import JobQuality
from spotune.contracts.request import JobRequest
from spotune.data.checks import check_dataset
from spotune.data.dvc import DVC_SUFFIX, verified
from spotune.data.golden_checks import check_golden
from spotune.data.quality import SAMPLE_CHARACTERS, QualityCheck
from spotune.data.tokens import RowTokenizer
from spotune.service.files.dvc import tracked_object
from spotune.service.files.uploads import file_of
from spotune.service.installation import Installation
from spotune.service.jobs.history import current_corrections
from spotune.service.jobs.inputs import bytes_to_copy, own_inputs
from spotune.service.market import current_market
from spotune.service.models.base_models import BaseModel, check_cut, row_tokenizer
from spotune.service.models.champions import champion_config

IN_REQUEST_BYTES = DIRECT_UPLOAD_BYTES
"""Files up to this size together are checked while the caller waits; API Gateway gives up after 30 s."""
GOLDEN_FIELD = "gate.golden_file"
IN_REQUEST_CHARACTERS = 1_000_000
"""Of the text in which near duplicates and languages are looked for while the caller waits: a tenth of a second."""
TOKENIZED_BYTES = 16_000_000
"""Above this, token statistics are taken from a sample of rows (held in memory); every row is still checked."""


class FilesRefused(DatasetRefused):
    """Files of a request have faults: `reports` by the field that names the file, the first of them in the message."""

    def __init__(self, name: str, reports: dict[str, DatasetReport | GoldenReport]) -> None:
        param, report = next(iter(reports.items()))
        first = report.faults[0] if report.faults else None
        where = (
            f"line {first.line}, field {first.field or '-'}: {first.message}. {first.remedy}" if first else "no rows"
        )
        super().__init__(
            f"{name} has {report.fault_count} fault(s); the first: {where}",
            code=first.rule if first else "no_rows",
            param=param,
            details={"reports": {field: one.model_dump(mode="json") for field, one in reports.items()}},
        )
        self.reports = reports


def resolve_file(here: Installation, tenant: str, name: str, param: str) -> str:
    """The `s3://` URI of a request's file: an uploaded file's, the given one where it is the tenant's, or that of the
    object that a `.dvc` file of the tenant's stands for.

    Raises:
        NotFound: no such file or object for this tenant.
        RequestRefused: a URI outside the tenant's folder, a `.dvc` file that leads nowhere, or a file still being
            uploaded.
    """
    if name.startswith("s3://"):
        _check_own(here, tenant, name, param)
        uri = tracked_object(here, tenant, name, param) if name.endswith(DVC_SUFFIX) else name
        return _own_object(here, tenant, uri, param)
    record = file_of(here, tenant, name, param)
    if record.status != "processed":
        raise RequestRefused(
            f"File {name} is still being uploaded.",
            code="file_uploading",
            param=param,
            remedy=f"Complete it with POST /v1/files/{name}/complete.",
        )
    return record.uri


def size_of(here: Installation, *uris: str | None) -> int:
    """Bytes of these objects together.

    Raises:
        NotFound: one is gone from S3.
    """
    return sum(_size(here, uri) for uri in uris if uri is not None)


@dataclass(frozen=True, slots=True)
class CheckedFiles:
    """A request's files, without faults as far as they were read."""

    training: DatasetReport
    validation: DatasetReport | None
    golden: GoldenReport | None = None
    quality: JobQuality | None = None
    """None where only their first bytes were read: a sha256 is then that of the head."""

    @property
    def whole(self) -> bool:
        """True where all of their bytes were read."""
        return self.quality is not None


def check_files(
    here: Installation,
    request: JobRequest,
    *,
    model: BaseModel,
    training_uri: str,
    validation_uri: str | None,
    golden_uri: str | None = None,
    preview: bool = False,
    sample_characters: int = SAMPLE_CHARACTERS,
) -> CheckedFiles:
    """Read a request's files.

    Args:
        preview: read only the first `IN_REQUEST_BYTES` of each file and scale what they show; nothing is said of their
            quality.
        sample_characters: of each file's text in which near duplicates and languages are looked for.

    Raises:
        RequestRefused: the model's tokenizer does not serve for the rows, or for an output that is asked for.
        DatasetRefused: a file has faults; all are in `details["reports"]`.
    """
    architecture, tokenizer = planner.read_architecture(model.architecture), row_tokenizer(here, model.reference)
    check = partial(
        check_dataset,
        tokenizer=tokenizer,
        max_length=planner.sequence_limit(request, architecture),
        objective=request.objective,
        loss_on=request.training.loss_on,
    )
    if request.outputs.gguf is not None:
        check_cut(here, model.reference)
    look = None if preview else QualityCheck(sample_characters=sample_characters)
    second = look and QualityCheck(sample_characters=sample_characters, training=look)
    training = _check(here, request.training_file, training_uri, check, look)
    validation = golden = None
    if validation_uri is not None:
        validation = _check(here, request.validation_file or "", validation_uri, check, second)
    if golden_uri is not None:
        golden = _golden(here, request.gate.golden_file or "", golden_uri, tokenizer, architecture.context)
    _refuse_faults(request, training, validation, golden)
    if look is None:
        return CheckedFiles(training, validation, golden)
    quality = JobQuality(training=look.report, validation=second.report if second and validation else None)
    return CheckedFiles(training, validation, golden, quality)


def make_plan(
    here: Installation,
    job: JobRecord,
    request: JobRequest,
    files: CheckedFiles,
    *,
    model: BaseModel,
    done: planner.Done = planner.NOTHING_DONE,
) -> Prepared:
    """Resolve the `auto`s and make the plan.

    Args:
        request: the job's, with what its champion or an earlier job's checkpoint decides.
        done: what an earlier job's checkpoint spares.

    Raises:
        PlanRefused, RequestRefused: nothing meets the constraints, or the model cannot be planned for.
    """
    to_copy = _to_copy(here, job, request)
    return planner.prepare(
        request,
        job_id=job.id,
        model=model.reference,
        architecture_config=model.architecture,
        training=files.training,
        validation=files.validation,
        cap=job.cap,
        now=here.clock(),
        markets=tuple(current_market(here, region) for region in (here.settings.region, *to_copy)),
        corrections=current_corrections(here),
        done=done,
        judged=_judged(here, job, files),
        to_copy=to_copy,
        bounds=here.settings.bounds,
    )


def _judged(here: Installation, job: JobRecord, files: CheckedFiles) -> planner.Judged:
    champion, told = job.champion, champion_config(here, job)
    if champion is None or told is None:
        return planner.Judged(golden=files.golden)
    return planner.Judged(told, champion.method, champion.bytes, files.golden)


def _to_copy(here: Installation, job: JobRecord, request: JobRequest) -> dict[str, int]:
    """Bytes that each further region lacks."""
    try:
        return bytes_to_copy(here, job.tenant, job.model, own_inputs(job), named=request.constraints.regions or ())
    except ObjectMissing as missing:
        raise _changed(missing) from None


def _own_object(here: Installation, tenant: str, uri: str, param: str) -> str:
    _check_own(here, tenant, uri, param)
    _size(here, uri, param)
    _refuse_siblings(here, uri, param)
    return uri


def _check_own(here: Installation, tenant: str, uri: str, param: str) -> None:
    bucket, key = _split(uri, param)
    if bucket != here.settings.data_bucket or not key.startswith(f"{tenant}/") or ".." in key.split("/"):
        raise RequestRefused(
            f"{uri} is not in your folder.",
            code="uri_not_allowed",
            param=param,
            remedy=f"Copy the file to s3://{here.settings.data_bucket}/{tenant}/ first.",
        )


def _refuse_siblings(here: Installation, uri: str, param: str) -> None:
    """SageMaker's channel is a prefix: what else begins like the file's name would be downloaded with it."""
    others = [one.uri for one in islice(here.objects.list(uri), 2) if one.uri != uri]
    if others:
        raise RequestRefused(
            f"{uri} is not the only object that begins so: {others[0]} does, too.",
            code="uri_ambiguous",
            param=param,
            remedy="Put the file into a folder of its own, or give it a name that no other begins with.",
        )


def _split(uri: str, param: str) -> tuple[str, str]:
    try:
        return split_uri(uri)
    except ValueError as error:
        raise RequestRefused(
            f"{error}.", code="uri_invalid", param=param, remedy="Write s3://bucket/key or a file id."
        ) from None


def _size(here: Installation, uri: str, param: str | None = None) -> int:
    found = here.objects.head(uri)
    if found is None:
        raise NotFound(f"No object at {uri}.", code="file_not_found", param=param, remedy="Upload it again.")
    return found.bytes


def _check(
    here: Installation, name: str, uri: str, check: Callable[..., DatasetReport], quality: QualityCheck | None
) -> DatasetReport:
    """Without a look at its quality, only the head of a large file is read."""
    size = _size(here, uri) if quality is None else 0
    try:
        if size > IN_REQUEST_BYTES:
            return _scaled(check(_head(here, uri), uri=uri), size)
        return check(_stream(here, name, uri), uri=uri, sample_bytes=TOKENIZED_BYTES, quality=quality)
    except ObjectMissing as missing:
        raise _changed(missing) from None


def _golden(here: Installation, name: str, uri: str, tokenizer: RowTokenizer, context: int) -> GoldenReport:
    try:
        return check_golden(_stream(here, name, uri), uri=uri, tokenizer=tokenizer, max_length=context)
    except ObjectMissing as missing:
        raise _changed(missing) from None


def _stream(here: Installation, name: str, uri: str) -> Iterator[bytes]:
    """A file's bytes; of one that a `.dvc` file stands for, only if they are those that it stands for."""
    stream = here.objects.stream(uri)
    return verified(stream, uri) if name.endswith(DVC_SUFFIX) else stream


def _changed(missing: ObjectMissing) -> NotFound:
    return NotFound(
        f"{missing.uri} was replaced or deleted while it was read ({missing.reason}).",
        code="file_changed",
        remedy="Submit again once it stands still.",
    )


def _head(here: Installation, uri: str) -> Iterator[bytes]:
    """The whole lines within the first `IN_REQUEST_BYTES`."""
    head = bytearray()
    for chunk in here.objects.stream(uri):
        head += chunk
        if len(head) >= IN_REQUEST_BYTES:
            break
    cut = head.rfind(b"\n")
    yield bytes(head[: cut + 1] if cut >= 0 else head)


def _scaled(seen: DatasetReport, size: int) -> DatasetReport:
    factor = size / max(1, seen.bytes)
    tokens = seen.tokens and seen.tokens.with_(
        rows=round(seen.tokens.rows * factor),
        total=round(seen.tokens.total * factor),
        trained=round(seen.tokens.trained * factor),
    )
    return seen.with_(
        bytes=size,
        rows=round(seen.rows * factor),
        tokens=tokens,
        sampled=1 / factor,
        warnings=(*seen.warnings, f"Only the first {1 / factor:.1%} of the file was read for this plan."),
    )


def _refuse_faults(
    request: JobRequest, training: DatasetReport, validation: DatasetReport | None, golden: GoldenReport | None
) -> None:
    named: list[tuple[str, str | None, DatasetReport | GoldenReport | None]] = [
        ("training_file", request.training_file, training),
        ("validation_file", request.validation_file, validation),
        (GOLDEN_FIELD, request.gate.golden_file, golden),
    ]
    bad = [(param, name or param, report) for param, name, report in named if report is not None and not report.ok]
    if bad:
        raise FilesRefused(bad[0][1], {param: report for param, _, report in bad})
