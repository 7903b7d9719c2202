"""What a champion knows that no rule has trained: the rows of the file that a person gave its job."""

from __future__ import annotations

from spotune.aws.base import ObjectMissing
from spotune.contracts import layout
from spotune.contracts.errors import DatasetRefused
from spotune.contracts.rules import RuleRecord
from spotune.data.assembly.choosing import known_after
from spotune.data.assembly.copying import Measured
from spotune.data.assembly.hashes import hash_rows
from spotune.data.assembly.sources import Source, whole
from spotune.service.files.reading import Reader
from spotune.service.installation import Installation


def keys_of_job(here: Installation, rule: RuleRecord, job_id: str) -> str | None:
    """The key file of a job's training rows, made the first time that it is asked for. None where the file is gone or
    another by now: then nothing is known of it, and all of a rule's rows are new.

    Raises:
        Unavailable: S3 does not answer.
    """
    job = here.store.get_job(rule.tenant, job_id)
    if job is None or job.training is None:
        return None
    report = job.training
    uri = layout.known_of_job_uri(layout.rule_uri(here.settings.data_bucket, rule.tenant, rule.id), job_id)
    if here.objects.head(uri) is not None:
        return uri
    source = Source(report.uri, "", report.sha256, report.bytes, report.rows, f"{uri}.rows")
    try:
        body = Measured(here.objects.stream(report.uri))
        here.objects.write_stream(source.hashes_uri, hash_rows(body))
    except (ObjectMissing, DatasetRefused):
        return None
    if body.sha256 != report.sha256:
        return None
    here.objects.write_stream(uri, known_after([source], [whole(source)], Reader(here.objects), earlier_uri=None))
    return uri
