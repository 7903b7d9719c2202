"""The writes of one decision: the job first, its log, its commands, its run, ledgers and lines last."""

from __future__ import annotations

from collections.abc import Sequence

from spotune.contracts.job import JobRecord
from spotune.store import items
from spotune.store.counters import Write
from spotune.store.items import number, text
from spotune.store.records import Change
from spotune.store.transaction import put


def decision_writes(before: JobRecord | None, change: Change, counted: Sequence[Write], token: str) -> list[Write]:
    """In the order in which their refusals are told.

    Args:
        before: the job as it was decided on; None for a new one.
        change: what to write.
        counted: what moves beside the job.
        token: the transaction's.
    """
    job = change.job
    new = [items.log_item(event, job.tenant) for event in change.log]
    new += [items.entry_item(entry) for entry in change.entries]
    writes = [_job_write(before, job, token), *(put(item, job.id, "attribute_not_exists(pk)") for item in new)]
    if change.run is not None:
        # Without a condition: a job that is tried again ends again, and the newest outcome holds.
        writes.append(put(items.run_item(change.run), job.id))
    return [*writes, *counted]


def _job_write(before: JobRecord | None, job: JobRecord, token: str) -> Write:
    item = items.job_item(job, token)
    if before is None:
        return put(item, job.id, "attribute_not_exists(pk)")
    values = {":version": number(before.version), ":tenant": text(before.tenant)}
    return put(item, job.id, "version = :version AND tenant = :tenant", ExpressionAttributeValues=values)
