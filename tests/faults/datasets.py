"""The dataset of each retraining, row by row, against what lay in S3."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from spotune.contracts.job import JobRecord
from spotune.contracts.rules import Arrival, DataManifest, Retraining, RuleRecord
from tests.faults.counted import TAKEN
from tests.faults.landing import Landing, numbers_in

File = tuple[str, str]
"""URI and sha256."""


class Datasets:
    """Of one rule's retrainings, to be looked at in their order.

    Args:
        known: what each model knows, by the manifest that it was trained by; of all rules together.
        makers: the job of each model, in the same way.
    """

    def __init__(
        self,
        rule: RuleRecord,
        arrivals: list[Arrival],
        s3: Landing,
        known: dict[str, set[int]],
        makers: dict[str, str],
    ) -> None:
        self._arrivals = arrivals
        self._all = rule.request.selection.rows == "all"
        self._s3 = s3
        self._frozen = set() if rule.frozen is None else set(numbers_in(s3.read(rule.frozen.uri)) or ())
        self._known = known
        self._makers = makers
        self._rows: dict[File, set[int]] = {}
        for change in s3.changes:
            if change.body is not None and change.numbers is not None:
                self._rows[change.uri, hashlib.sha256(change.body).hexdigest()] = set(change.numbers)

    def look(self, one: Retraining, job: JobRecord | None) -> Iterator[str]:
        """What is wrong with the dataset of this retraining."""
        if one.manifest_uri is None:
            return
        manifest = DataManifest.model_validate_json(self._s3.read(one.manifest_uri))
        body = self._s3.read(manifest.uri)
        found, digest = numbers_in(body) or (), hashlib.sha256(body).hexdigest()
        if digest != manifest.sha256 or not len(found) == manifest.rows == one.rows:
            yield f"dataset {one.number} is not the one that its manifest pins"
        if job is not None and job.training is not None and job.training.sha256 != digest:
            yield f"{job.id} was trained on other data than dataset {one.number}"
        if job is not None:
            champion = None if job.champion is None else f"ftjob-{job.champion.name.rpartition(':')[2]}"
            if champion != self._makers.get(manifest.parent or ""):
                yield f"{job.id} meets {champion}'s model, and dataset {one.number} was chosen against another's"
            self._makers[one.manifest_uri] = job.id
        known = self._known.get(manifest.parent or "", set())
        went_on = job is not None and job.champion is not None and job.champion.start
        self._known[one.manifest_uri] = set(found) | (known if went_on else set())
        yield from (f"dataset {one.number} {words}" for words in self._wrong_rows(one, manifest, found, known))

    def _wrong_rows(
        self, one: Retraining, manifest: DataManifest, found: tuple[int, ...], known: set[int]
    ) -> Iterator[str]:
        rows = set(found)
        if len(rows) != len(found):
            yield f"has {len(found) - len(rows)} rows twice"
        if frozen := rows & self._frozen:
            yield f"has {len(frozen)} rows of the evaluation set"
        new = {(entry.uri, entry.sha256) for entry in manifest.entries if self._all or entry.role == "new"}
        if missing := self._claimed(one) - {sha256 for _, sha256 in new}:
            yield f"leaves out {sorted(missing)[:2]}"
        if strange := new - self._rows.keys():
            yield f"is made of {sorted(strange)[:2]}, which is no new data"
        wanted = set[int]().union(*(self._rows.get(file, set()) for file in new)) - self._frozen
        wanted -= set() if self._all else known
        replayed = set() if self._all else rows - wanted
        if replayed - known or (not self._all and len(replayed) != manifest.replayed_rows):
            yield f"replays {len(replayed)} rows, {sorted(replayed - known)[:5]} of them unknown to the champion"
        if wanted - rows or (rows - wanted) - replayed:
            yield f"lacks rows {sorted(wanted - rows)[:5]} and has {sorted(rows - wanted)[:5]} too many"

    def _claimed(self, one: Retraining) -> set[str]:
        """What it must be made of, by its bytes: arrivals of its own that count to this day, and earlier ones that were
        not set aside. By now a copy may stand for the one that it had."""
        return {
            arrival.sha256 or ""
            for arrival in self._arrivals
            if (arrival.state in TAKEN and one.after < (arrival.sequence or 0) <= one.through)
            or (self._all and arrival.state == "accepted" and 0 < (arrival.sequence or 0) <= one.after)
        }
