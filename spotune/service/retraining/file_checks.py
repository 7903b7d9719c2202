"""One object version, read once and by itself: whether its rows may be trained on, and what tells them apart."""

from __future__ import annotations

from collections.abc import Iterator

from spotune.aws.base import AwsRefused, ObjectMissing
from spotune.contracts import layout
from spotune.contracts.dataset import Fault
from spotune.contracts.rules import Arrival, QuarantineReport, RuleRecord
from spotune.data.assembly.copying import Measured
from spotune.data.assembly.hashes import hash_examples
from spotune.data.assembly.refusals import DatasetChanged
from spotune.data.assembly.sources import version_of
from spotune.data.dvc import verified
from spotune.data.faults import FaultList
from spotune.data.formats import read_examples
from spotune.retraining.arrivals import Checked
from spotune.service.installation import Installation
from spotune.service.notifications.publication import tell_of_quarantine

LARGEST_BYTES = 1024**3
"""Ten of them are read one after another within a function's 15 minutes."""

_NOT_OURS_TO_READ = frozenset({"AccessDenied", "Forbidden", "403"})


class Unfit(Exception):
    """A file that cannot be trained on: why, and its faults one by one."""

    def __init__(self, reason: str, faults: tuple[str, ...] = ()) -> None:
        super().__init__(reason)
        self.reason = reason
        self.faults = faults


def check_file(here: Installation, rule: RuleRecord, arrival: Arrival) -> Checked:
    """Read the very version that arrived, and keep the hashes of its rows beside the rule.

    A second time reads it again and writes the same.

    Raises:
        Unfit: it is no dataset for this rule, too large, or not ours to read.
        ObjectMissing: that version is not there any more.
        Unavailable: S3 does not answer.
    """
    if arrival.bytes > LARGEST_BYTES:
        raise Unfit(
            f"It has {arrival.bytes:,} bytes; a file of a rule has {LARGEST_BYTES:,} at most. Split it by lines."
        )
    folder = layout.rule_uri(here.settings.data_bucket, rule.tenant, rule.id)
    hashes = layout.hashes_uri(folder, arrival.uri, arrival.version_id)
    try:
        stream = here.objects.stream(arrival.uri, version_id=version_of(arrival), etag=arrival.etag)
        body = Measured(verified(stream, arrival.uri) if _is_tracked(rule, arrival.uri) else stream)
        faults = FaultList()
        here.objects.write_stream(hashes, _hashed(body, faults, rule))
    except ObjectMissing as missing:
        if missing.reason in _NOT_OURS_TO_READ:
            raise Unfit(f"S3 does not let Spotune read it ({missing.reason}): open the object to its roles.") from None
        raise
    except DatasetChanged as changed:
        raise Unfit(str(changed)) from None
    except AwsRefused as refused:
        raise Unfit(f"S3 does not hand it out ({refused}).") from refused
    if faults.format is None:  # a file without rows is a fault
        raise ValueError(f"{arrival.uri} has neither rows nor faults")
    return Checked(body.sha256, faults.rows, hashes, faults.format)


def is_there(here: Installation, arrival: Arrival) -> bool:
    """True where that version is there still; where its bucket keeps none, an object with its ETag."""
    found = here.objects.head(arrival.uri, version_id=version_of(arrival))
    return found is not None and found.etag == arrival.etag


def quarantined(here: Installation, arrival: Arrival, unfit: Unfit) -> str:
    """Keep the report on a file that is not trained on, and tell its tenant; where the report lies.

    Told first and remembered then: a process killed in between tells it again under the same id, and never not at all.

    Raises:
        Unavailable, AwsRefused: it could not be kept, or told to all.
    """
    folder = layout.rule_uri(here.settings.data_bucket, arrival.tenant, arrival.rule_id)
    uri = layout.quarantine_uri(folder, arrival.uri, arrival.version_id)
    report = QuarantineReport(
        uri=arrival.uri,
        version_id=arrival.version_id,
        reason=unfit.reason,
        faults=unfit.faults,
        created_at=here.clock(),
    )
    here.objects.write(uri, report.model_dump_json(indent=1).encode())
    tell_of_quarantine(here, arrival, unfit.reason, uri)
    return uri


def _is_tracked(rule: RuleRecord, uri: str) -> bool:
    """A `.dvc` file's object: its name is its hash."""
    remote = rule.request.source.dvc_remote
    return remote is not None and uri.startswith(remote.rstrip("/") + "/")


def _hashed(body: Measured, faults: FaultList, rule: RuleRecord) -> Iterator[bytes]:
    """The hash file; nothing of it is kept where the last row shows the data unfit."""
    yield from hash_examples(read_examples(body, faults, rule.request.job.objective))
    if faults.count:
        first = min(faults.faults, key=lambda fault: fault.line)
        more = f" Faults beside it: {faults.count - 1:,}." if faults.count > 1 else ""
        raise Unfit(f"{_words(first)}{more}", tuple(_words(fault) for fault in faults.faults))


def _words(fault: Fault) -> str:
    where = f"line {fault.line}" if fault.line else "the file"
    field = f", field {fault.field}" if fault.field else ""
    return f"{where}{field}: {fault.message} [{fault.rule}] {fault.remedy}"
