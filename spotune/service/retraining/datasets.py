"""The dataset of one retraining: chosen once against a champion, pinned by its manifest, and then written from the
manifest alone.

The manifest comes first, and the first one stays. Whoever comes later, a second delivery or the same one after it was
killed, builds from what it says: equal bytes, however often and wherever it was cut off.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from pydantic import ValidationError

from spotune.aws.base import ObjectMissing
from spotune.contracts import layout
from spotune.contracts.errors import DatasetRefused
from spotune.contracts.rules import Arrival, DataManifest, Frozen, ManifestEntry, Retraining, RuleRecord
from spotune.data.assembly.choosing import choose_rows, count_new, known_after
from spotune.data.assembly.copying import Measured, dataset_bytes, rebuilt
from spotune.data.assembly.frozen import carve
from spotune.data.assembly.hashes import hash_file_bytes
from spotune.data.assembly.refusals import damaged_manifest, gone
from spotune.data.assembly.sources import Source, source_of
from spotune.retraining.due import Known
from spotune.service.files.reading import Reader, each
from spotune.service.installation import Installation
from spotune.service.retraining.file_checks import Unfit, check_file, is_there
from spotune.service.retraining.known_rows import keys_of_job
from spotune.service.retraining.settling import Gone, settle
from spotune.service.retraining.sources import may_feed


@dataclass(frozen=True, slots=True)
class Champion:
    """A group's champion, and what it was trained on: a manifest where a rule made it."""

    name: str | None = None
    manifest_uri: str | None = None
    job_id: str | None = None


def champion_of_rule(here: Installation, rule: RuleRecord) -> Champion:
    """The present champion of a rule's group."""
    group = here.store.get_group(rule.tenant, rule.request.group)
    if group is None or group.champion is None:
        return Champion()
    version = here.store.get_version(rule.tenant, group.name, group.champion)
    if version is None:
        return Champion()
    return Champion(version.name, version.lineage.manifest_uri, version.lineage.job_id)


def known_of(here: Installation, rule: RuleRecord, champion: Champion) -> Known:
    """What `due` asks of a champion. Its rows are read only where the rule fires by growth.

    Raises:
        DatasetChanged: its manifest is gone.
    """
    if champion.name is None or rule.request.trigger.min_growth is None:
        return Known(champion.name)
    if champion.manifest_uri is not None:
        return Known(champion.name, read_manifest(here, champion.manifest_uri).rows)
    job = here.store.get_job(rule.tenant, champion.job_id or "")
    return Known(champion.name, job.training.rows if job is not None and job.training is not None else 0)


def read_manifest(here: Installation, uri: str) -> DataManifest:
    """A manifest that was written.

    Raises:
        DatasetChanged: it is gone.
        DatasetRefused: it cannot be read (code `manifest_damaged`).
    """
    try:
        return DataManifest.model_validate_json(here.objects.read(uri))
    except ObjectMissing:
        raise gone(uri) from None
    except ValidationError:
        raise damaged_manifest(uri, "it cannot be read") from None


def count_new_rows(here: Installation, rule: RuleRecord, champion: Champion) -> int:
    """The new rows of a rule, each once, without the champion's and the frozen set's: what `due` wants counted."""
    pending = _accepted(here, rule.id, after=rule.claimed, through=rule.sequence)
    keys = None if rule.frozen is None else rule.frozen.keys_uri
    sources, known_uri = _sources(pending), known_uri_of(here, rule, champion)
    return count_new(sources, _reader(here, sources), known_uri=known_uri, keys_uri=keys)


def carve_frozen(here: Installation, rule: RuleRecord, retraining: Retraining) -> Frozen:
    """The evaluation set of a rule, from the new data of its first retraining.

    It lies under the hash of what it is made of: two that are carved at once do not meet, and the rule keeps one.

    Raises:
        DatasetRefused, DatasetChanged: none can be carved.
    """
    new = _accepted(here, rule.id, after=retraining.after, through=retraining.through)
    sources, known_uri = _sources(new), known_uri_of(here, rule, champion_of_rule(here, rule))
    open = _reader(here, sources)
    carved = carve(sources, open, frozen=retraining.request.frozen, rule_id=rule.id, known_uri=known_uri)
    made_of = "\n".join(entry.model_dump_json() for entry in carved.entries)
    folder = layout.frozen_uri(_rule_folder(here, rule), hashlib.sha256(made_of.encode()).hexdigest()[:16])
    uri, keys_uri = f"{folder}validation.jsonl", f"{folder}keys"
    here.objects.write_stream(keys_uri, carved.key_file())
    open.fetch(_data_of(carved.entries))
    body = Measured(dataset_bytes(carved.entries, open))
    here.objects.write_stream(uri, body)
    manifest = DataManifest(
        rule_id=rule.id,
        tenant=rule.tenant,
        retraining=retraining.number,
        created_at=retraining.created_at,
        entries=carved.entries,
        selection=retraining.request.selection,
        frozen_sha256=body.sha256,
        rows=carved.rows,
        replayed_rows=0,
        uri=uri,
        sha256=body.sha256,
    )
    manifest_uri = layout.manifest_uri(folder)
    here.objects.write(manifest_uri, _json(manifest))
    return Frozen(uri=uri, sha256=body.sha256, rows=carved.rows, keys_uri=keys_uri, manifest_uri=manifest_uri)


def known_uri_of(here: Installation, rule: RuleRecord, champion: Champion) -> str | None:
    """The key file of what the champion was trained on; None where nothing is known of it."""
    if champion.manifest_uri is not None:
        return layout.known_uri(_folder_of(champion.manifest_uri))
    return None if champion.job_id is None else keys_of_job(here, rule, champion.job_id)


def dataset_manifest(here: Installation, rule: RuleRecord, retraining: Retraining, known_uri: str | None) -> str:
    """Where the manifest of a retraining's dataset lies that is chosen against a champion with these known rows."""
    return layout.manifest_uri(layout.retraining_uri(_rule_folder(here, rule), retraining.number, known_uri))


def make_dataset(
    here: Installation,
    rule: RuleRecord,
    retraining: Retraining,
    frozen: Frozen,
    champion: Champion,
    known_uri: str | None,
) -> tuple[str, int]:
    """Choose and write a retraining's dataset, or go on where another delivery was; its manifest's URI and its rows.

    Args:
        champion: against which it is chosen.
        known_uri: the key file of what that was trained on.

    Raises:
        DatasetRefused: it cannot be made of these files, or no row is left.
        DatasetChanged: an object of it is gone, or another one by now.
    """
    uri = dataset_manifest(here, rule, retraining, known_uri)
    folder = _folder_of(uri)
    open = Reader(here.objects)
    if here.objects.head(uri) is None:
        here.objects.write_new(uri, _json(_chosen(here, rule, retraining, frozen, champion, known_uri, folder, open)))
    manifest = read_manifest(here, uri)
    _refuse_forged(here, rule, manifest, uri, frozen)
    open.fetch(_data_of(manifest.entries))
    here.objects.write_stream(manifest.uri, rebuilt(manifest, open))
    _keep_what_it_will_know(here, rule, retraining, manifest, folder, open)
    return uri, manifest.rows


def missing_of(here: Installation, retraining: Retraining) -> tuple[Arrival, ...]:
    """Which of the files that a retraining may be made of are not there any more, or others by now."""
    counted = _accepted(here, retraining.rule_id, after=0, through=retraining.through)
    there = each(partial(is_there, here), counted)
    return tuple(one for one, present in zip(counted, there, strict=True) if not present)


def mend_hashes(here: Installation, retraining: Retraining, uri: str) -> bool:
    """Read a file again whose hash file is damaged, or drop it where that cannot be; False where the hash file is none
    of the retraining's."""
    counted = _accepted(here, retraining.rule_id, after=0, through=retraining.through)
    found = next((one for one in counted if one.hashes_uri == uri), None)
    rule = here.store.find_rule(retraining.rule_id)
    if found is None or rule is None:
        return False
    try:
        check_file(here, rule, found)
    except (ObjectMissing, Unfit):
        settle(here, rule.id, [Gone(found)])
    return True


def _chosen(
    here: Installation,
    rule: RuleRecord,
    retraining: Retraining,
    frozen: Frozen,
    champion: Champion,
    known_uri: str | None,
    folder: str,
    open: Reader,
) -> DataManifest:
    selection = retraining.request.selection
    new = _accepted(here, rule.id, after=retraining.after, through=retraining.through)
    old = () if selection.rows == "new" else _accepted(here, rule.id, after=0, through=retraining.after)
    sources, earlier = _sources(new), _sources(old)
    open.fetch(_hashes_of([*sources, *earlier]))
    entries = choose_rows(
        sources,
        earlier,
        open,
        selection=selection,
        number=retraining.number,
        known_uri=known_uri,
        keys_uri=frozen.keys_uri,
    )
    _refuse_own(here, rule, entries, champion, frozen)
    open.fetch(_data_of(entries))
    body = Measured(dataset_bytes(entries, open))
    for _ in body:
        pass
    rows = sum(entry.taken for entry in entries)
    if rows == 0:
        raise DatasetRefused(
            f"No row of {len(new)} new file(s) is left: all are the champion's, of the evaluation set, or repeated.",
            code="no_new_rows",
            remedy="It fires again once there is more data.",
        )
    return DataManifest(
        rule_id=rule.id,
        tenant=rule.tenant,
        retraining=retraining.number,
        created_at=retraining.created_at,
        entries=entries,
        selection=selection,
        frozen_sha256=frozen.sha256,
        known_uri=known_uri,
        known_sha256=None if known_uri is None else _sha256_of(here, known_uri),
        rows=rows,
        replayed_rows=sum(entry.taken for entry in entries if entry.role == "replay"),
        uri=f"{folder}training.jsonl",
        sha256=body.sha256,
        parent=champion.manifest_uri,
    )


def _keep_what_it_will_know(
    here: Installation, rule: RuleRecord, retraining: Retraining, manifest: DataManifest, folder: str, open: Reader
) -> None:
    """The key file of what the tuned model will know: beside these rows, those of the champion that it goes on from."""
    goes_on = retraining.request.job.registry.start_from == "champion"
    earlier_uri = manifest.known_uri if goes_on else None
    counted = here.store.accepted_arrivals(rule.id, after=0, through=retraining.through)
    known = {(one.uri, one.version_id): one for one in map(source_of, counted)}
    sources = [known[entry.uri, entry.version_id] for entry in manifest.entries]
    open.fetch(_hashes_of(sources))
    chunks = known_after(sources, manifest.entries, open, earlier_uri=earlier_uri)
    here.objects.write_stream(layout.known_uri(folder), chunks)


def _refuse_forged(here: Installation, rule: RuleRecord, manifest: DataManifest, uri: str, frozen: Frozen) -> None:
    """A manifest lies where its tenant may write: it is not taken at its word for whose things are read and written."""
    home = f"s3://{here.settings.data_bucket}/{rule.tenant}/"
    if manifest.uri != f"{_folder_of(uri)}training.jsonl" or not (manifest.known_uri or home).startswith(home):
        raise damaged_manifest(uri, "what it names is not the rule's")
    _refuse_own(here, rule, manifest.entries, Champion(), frozen)


def _refuse_own(
    here: Installation, rule: RuleRecord, entries: Sequence[ManifestEntry], champion: Champion, frozen: Frozen
) -> None:
    """No rule learns from what the service wrote, however it came among the rule's files."""
    written = {frozen.sha256}
    if champion.manifest_uri is not None:
        written.add(read_manifest(here, champion.manifest_uri).sha256)
    for entry in entries:
        if entry.taken and not may_feed(here, rule.tenant, entry.uri):
            raise _own_output(entry.uri, "lies where the rule's tenant may not read, or where Spotune itself writes")
        if entry.taken and entry.sha256 in written:
            raise _own_output(entry.uri, "is a copy of a dataset that Spotune made for this rule")


def _own_output(uri: str, what: str) -> DatasetRefused:
    return DatasetRefused(
        f"{uri} {what}.",
        code="own_output",
        remedy="Delete the object: a rule that learned from its own results would never stop.",
    )


def _accepted(here: Installation, rule_id: str, *, after: int, through: int) -> tuple[Arrival, ...]:
    found = here.store.accepted_arrivals(rule_id, after=after, through=through)
    return tuple(one for one in found if one.state == "accepted")


def _reader(here: Installation, sources: Sequence[Source]) -> Reader:
    """With the hash files of these at hand."""
    reader = Reader(here.objects)
    reader.fetch(_hashes_of(sources))
    return reader


def _hashes_of(sources: Sequence[Source]) -> list[tuple[str, str, int]]:
    return [(one.hashes_uri, "", hash_file_bytes(one.rows)) for one in sources]


def _data_of(entries: Sequence[ManifestEntry]) -> list[tuple[str, str, int]]:
    return [(one.uri, one.version_id, one.bytes) for one in entries if one.taken]


def _sources(arrivals: Sequence[Arrival]) -> list[Source]:
    return [source_of(one) for one in arrivals]


def _rule_folder(here: Installation, rule: RuleRecord) -> str:
    return layout.rule_uri(here.settings.data_bucket, rule.tenant, rule.id)


def _folder_of(uri: str) -> str:
    return uri[: uri.rindex("/") + 1]


def _sha256_of(here: Installation, uri: str) -> str:
    digest = hashlib.sha256()
    for chunk in Reader(here.objects)(uri, ""):
        digest.update(chunk)
    return digest.hexdigest()


def _json(manifest: DataManifest) -> bytes:
    return manifest.model_dump_json(indent=1).encode()
