"""A `.dvc` file among a rule's new data stands for objects of the rule's DVC remote: these arrive in its stead.

Which ones a version of it names is kept beside the rule, so that a later version, or its deletion, takes back what is
not named any more. All of it may be done twice: what is decided already changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pydantic import TypeAdapter

from spotune.aws.base import ObjectMissing
from spotune.contracts import layout
from spotune.contracts.errors import Conflict, RequestRefused
from spotune.contracts.rules import Arrival, RuleRecord
from spotune.data.assembly.sources import version_of
from spotune.data.dvc import DVC_SUFFIX, MAX_FILE_BYTES, named_files
from spotune.retraining.arrivals import later
from spotune.service.installation import Installation
from spotune.service.retraining.file_checks import Unfit, quarantined
from spotune.service.retraining.looks import look_at_file, record
from spotune.service.retraining.settling import Gone, Listed, Outcome, Quarantined
from spotune.service.retraining.sources import may_feed

MOST_FILES = 1000
"""Of one `.dvc` file: they are read within one function's 15 minutes."""

_NAMED: TypeAdapter[list[Arrival]] = TypeAdapter(list[Arrival])
_TAKEN_IN = ("arrived", "listed", "superseded")
"""States of a version whose objects may be among the rule's; where its listing is there, they are."""


def look_at(here: Installation, rule: RuleRecord, arrival: Arrival) -> Iterator[Outcome]:
    """Read what arrived: a file of rows, or each file that a `.dvc` file stands for, and that file last.

    Raises:
        Unavailable: S3 does not answer; look again.
    """
    if not _is_listing(rule, arrival.uri):
        yield look_at_file(here, rule, arrival)
        return
    try:
        named = _named(here, rule, arrival)
    except ObjectMissing:
        yield Gone(arrival)
    except Unfit as unfit:
        yield Quarantined(arrival, unfit.reason, quarantined(here, arrival, unfit))
    else:
        # Kept before others are looked for: of two versions at once, one at least sees the other.
        here.objects.write(_listing_uri(here, rule, arrival), _NAMED.dump_json(named))
        if not _overtaken(here, rule, arrival):
            yield from _taken_in(here, rule, arrival, named)
        yield Listed(arrival, f"it stands for {len(named)} file(s)")


def named_until(here: Installation, rule: RuleRecord, deletion: Arrival) -> Iterator[Outcome]:
    """The objects that a deleted `.dvc` file stood for: they count no more. None where the key is another file's."""
    known = here.store.arrivals_of_object(rule.id, deletion.uri) if _is_listing(rule, deletion.uri) else ()
    for version in known:
        if later(deletion, version):
            yield from named_by(here, rule, version)


def named_by(here: Installation, rule: RuleRecord, version: Arrival) -> Iterator[Outcome]:
    """The objects that one version stands for, which is deleted: they count no more. None where it stands for none."""
    if version.state == "listed":
        yield from _let_go(here, rule, version, _listing(here, rule, version) or ())


def _taken_in(here: Installation, rule: RuleRecord, arrival: Arrival, named: list[Arrival]) -> Iterator[Outcome]:
    for one in named:
        new = record(here, one)
        if new is not None:
            yield look_at_file(here, rule, new)
    kept = {(one.uri, one.version_id) for one in named}
    for earlier in here.store.arrivals_of_object(rule.id, arrival.uri):
        if earlier.state in _TAKEN_IN and later(arrival, earlier):
            left = (one for one in _listing(here, rule, earlier) or () if (one.uri, one.version_id) not in kept)
            yield from _let_go(here, rule, arrival, left)


def _overtaken(here: Installation, rule: RuleRecord, arrival: Arrival) -> bool:
    """True where a later version of a `.dvc` file is taken in, or the file was deleted since."""
    for one in here.store.arrivals_of_object(rule.id, arrival.uri):
        taken_in = one.state in _TAKEN_IN and _listing(here, rule, one) is not None
        if later(one, arrival) and (taken_in or one.state == "deletion"):
            return True
    return False


def _named(here: Installation, rule: RuleRecord, arrival: Arrival) -> list[Arrival]:
    """Arrivals of the objects that a `.dvc` file names, as they are in the remote now."""
    remote = str(rule.request.source.dvc_remote).rstrip("/")
    if arrival.bytes > MAX_FILE_BYTES:
        raise Unfit(f"It has {arrival.bytes:,} bytes; a .dvc file has {MAX_FILE_BYTES:,} at most.")
    body = b"".join(here.objects.stream(arrival.uri, version_id=version_of(arrival), etag=arrival.etag))
    try:
        files = named_files(body, arrival.uri, lambda key: _of_remote(here, f"{remote}/{key}"))
    except (RequestRefused, Conflict) as refused:
        raise Unfit(str(refused)) from None
    if len(files) > MOST_FILES:
        raise Unfit(f"It stands for {len(files):,} files; of a rule's .dvc file there are {MOST_FILES:,} at most.")
    found = (_arrival(here, rule, arrival, f"{remote}/{file.key}", file.path) for file in files)
    return list({one.uri: one for one in found}.values())


def _arrival(here: Installation, rule: RuleRecord, listing: Arrival, uri: str, path: str) -> Arrival:
    info = here.objects.head(uri)
    if info is None or not may_feed(here, rule.tenant, uri):
        raise Unfit(f"{path} is not in the remote (looked for {uri}). Run dvc push, and upload the .dvc file again.")
    version_id = info.version_id or info.etag
    return listing.with_(
        uri=uri, version_id=version_id, etag=info.etag, bytes=info.bytes, sequencer="", state="arrived", sequence=None
    )


def _of_remote(here: Installation, uri: str) -> Iterator[bytes]:
    try:
        return here.objects.stream(uri)
    except ObjectMissing:
        raise Unfit(f"A folder's list is not in the remote (looked for {uri}). Run dvc push.") from None


def _let_go(here: Installation, rule: RuleRecord, version: Arrival, objects: Iterable[Arrival]) -> Iterator[Outcome]:
    """What a `.dvc` file stood for, but for what another one names."""
    left = list(objects)
    kept = _named_by_others(here, rule, version.uri) if left else set()
    for one in left:
        if (one.uri, one.version_id) not in kept:
            yield Gone(here.store.record_arrival(one.with_(state="gone", reason="no .dvc file names it any more")))


def _named_by_others(here: Installation, rule: RuleRecord, uri: str) -> set[tuple[str, str]]:
    """The objects of each other `.dvc` file, as its last version names them."""
    named: set[tuple[str, str]] = set()
    for other in _listings_beside(here, rule, uri):
        versions = here.store.arrivals_of_object(rule.id, other)
        for one in versions:
            over = any(later(each, one) for each in versions if each.state in (*_TAKEN_IN, "deletion"))
            if one.state in _TAKEN_IN and not over:
                named |= {(each.uri, each.version_id) for each in _listing(here, rule, one) or ()}
    return named


def _listings_beside(here: Installation, rule: RuleRecord, uri: str) -> set[str]:
    found: set[str] = set()
    after, more = None, True
    while more:
        page = here.store.list_arrivals(rule.tenant, rule.id, after=after, limit=MOST_FILES, state="listed")
        found |= {one.uri for one in page.items}
        more = page.has_more
        after = f"{page.items[-1].uri}#{page.items[-1].version_id}" if more else None
    return found - {uri}


def _listing(here: Installation, rule: RuleRecord, version: Arrival) -> list[Arrival] | None:
    """None where a version was not taken in yet."""
    try:
        return _NAMED.validate_json(here.objects.read(_listing_uri(here, rule, version)))
    except ObjectMissing:
        return None


def _listing_uri(here: Installation, rule: RuleRecord, version: Arrival) -> str:
    folder = layout.rule_uri(here.settings.data_bucket, rule.tenant, rule.id)
    return layout.listing_uri(folder, version.uri, version.version_id)


def _is_listing(rule: RuleRecord, uri: str) -> bool:
    return rule.request.source.dvc_remote is not None and uri.endswith(DVC_SUFFIX)
