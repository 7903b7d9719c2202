"""A commit of a model from the hub into the models bucket.

First everything small is brought and judged, so that whoever asks can see what they get and under which licence. Then
the weights, one file after the other: downloaded to this disk, hashed, read by their headers, sent, deleted here. The
manifest is written last. A call that is cut off anywhere is made again, and goes on where it stands.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from spotune.contracts.base import Timestamp
from spotune.contracts.base_model import Acceptance, BaseModelManifest, Licence
from spotune.contracts.errors import Conflict, RequestRefused
from spotune.contracts.training import ManifestFile
from spotune.mirror.bucket import ModelsBucket
from spotune.mirror.choice import INDEX, WEIGHTS, check_config, is_licence, small_files, weight_files, weight_map
from spotune.mirror.fetching import Advance, alone, bring, forget
from spotune.mirror.hub import Hub, HubCommit, HubFile
from spotune.mirror.licences import licence_of, must_be_accepted
from spotune.mirror.weights import tensor_sizes


@dataclass(frozen=True, slots=True)
class Offer:
    """What may be added: judged, and not in the bucket yet."""

    at: HubCommit
    small: tuple[HubFile, ...]
    weights: tuple[HubFile, ...]
    tensors: Mapping[str, str]
    """By name, the file that the index promises each of them in; empty where there is no index."""
    licence: Licence
    text: str
    """Of the licence; empty where the repository has none."""
    disk: Path
    """Where its files lie on their way."""

    @property
    def bytes(self) -> int:
        """Of all files."""
        return sum(file.bytes for file in (*self.small, *self.weights))

    @property
    def asks(self) -> bool:
        """True where somebody has to accept the licence."""
        return must_be_accepted(self.licence)

    @property
    def left_out(self) -> tuple[str, ...]:
        """Files of the repository that are not copied."""
        taken = {file.name for file in (*self.small, *self.weights)}
        return tuple(sorted(file.name for file in self.at.files if file.name not in taken))


def look(hub: Hub, name: str, revision: str, disk: Path) -> Offer:
    """Pin a revision to its commit, bring what is small and judge it.

    Args:
        disk: a folder of which this takes one of its own.

    Raises:
        RequestRefused: it is no model that may be added; says why.
        Conflict, NotAllowed, NotFound, SpotuneError, Unavailable: as `bring` and `Hub.commit`.
    """
    at = hub.commit(name, revision)
    small, folder = small_files(at.files), disk / name / at.commit
    with alone(folder):
        for file in small:
            bring(hub, at, file, folder, lambda count: None)
        check_config((folder / "config.json").read_bytes())
        index = (folder / INDEX).read_bytes() if any(file.name == INDEX for file in small) else None
        weights = weight_files(at.files, index)
        texts = {file.name: (folder / file.name).read_bytes() for file in small if is_licence(file.name)}
    licence, text = licence_of(at.card, texts, gated=at.gated)
    tensors = weight_map(index) if index is not None and weights[0].name != WEIGHTS else {}
    return Offer(at, small, weights, tensors, licence, text, folder)


def add(
    hub: Hub, bucket: ModelsBucket, offer: Offer, *, by: str, accepted: bool, now: Timestamp, advance: Advance
) -> BaseModelManifest:
    """Bring all files into the bucket and put the revision in force.

    Args:
        by: the ARN of whoever does this.
        accepted: they have read the licence and accept it.

    Raises:
        RequestRefused: the licence is not accepted; the weights are damaged, or not those that the index promises.
        Conflict: somebody took files of it away meanwhile.
        NotAllowed, NotAuthenticated, NotFound, SpotuneError, Unavailable: as `bring` and `ModelsBucket`.
    """
    if offer.asks and not accepted:
        raise _not_accepted(offer)
    name, folder = offer.at.name, f"{offer.at.commit}/"
    files: list[ManifestFile] = []
    sizes: dict[str, int] = {}
    with alone(offer.disk):
        for file in (*offer.small, *offer.weights):
            brought, tensors = _carry(hub, bucket, offer, file, advance)
            files.append(brought)
            sizes.update(tensors)
        _check_tensors(offer, sizes)
        manifest = BaseModelManifest(
            name=name,
            revision=offer.at.commit,
            parameters=sum(sizes.values()),
            folder=folder,
            files=tuple(files),
            source=hub.address,
            licence=offer.licence,
            accepted=Acceptance(by=by, at=now, text_sha256=offer.licence.text_sha256) if offer.asks else None,
            added_by=by,
            added_at=now,
        )
        _put_in_force(bucket, manifest)
    forget(offer.disk.parent)
    return manifest


def _carry(
    hub: Hub, bucket: ModelsBucket, offer: Offer, file: HubFile, advance: Advance
) -> tuple[ManifestFile, dict[str, int]]:
    """One file from hub to bucket, unless it is there; of weights, the sizes of its tensors, too."""
    name, folder, weights = offer.at.name, f"{offer.at.commit}/", file in offer.weights
    if file.sha256 is not None:
        known = ManifestFile(name=file.name, bytes=file.bytes, sha256=file.sha256)
        if bucket.holds(name, folder, known):
            advance(file.bytes)
            return known, _sizes_there(bucket, offer, file) if weights else {}
    brought, here = bring(hub, offer.at, file, offer.disk, advance), offer.disk / file.name
    with here.open("rb") as body:
        tensors = tensor_sizes(body, file.bytes, file.name) if weights else {}
    if not bucket.holds(name, folder, brought):
        bucket.put(here, name, folder, brought)
    if weights:
        here.unlink()  # the disk holds one of them at a time
    return brought, tensors


def _sizes_there(bucket: ModelsBucket, offer: Offer, file: HubFile) -> dict[str, int]:
    with bucket.opened(offer.at.name, f"{offer.at.commit}/", file.name) as body:
        return tensor_sizes(body, file.bytes, file.name)


def _check_tensors(offer: Offer, sizes: Mapping[str, int]) -> None:
    """Transformers would draw at random what is promised and not there."""
    missing = sorted(offer.tensors.keys() - sizes.keys())
    if missing or not sizes:
        raise RequestRefused(
            f"{len(missing)} tensors are in no file, though {INDEX} names them: {', '.join(missing[:3])}."
            if missing
            else "The weights hold no tensor.",
            code="model_incomplete",
            param="model",
            remedy="Take another revision, or tell the model's author.",
        )


def _put_in_force(bucket: ModelsBucket, manifest: BaseModelManifest) -> None:
    """Mark a revision whose files all lie there, also once it is marked.

    `remove` may be at work on the same model. Whatever it deletes before the second look is seen here; whatever it
    deletes later, it goes on until the mark is gone, too.
    """
    _check_whole(bucket, manifest)
    bucket.mark(manifest)
    try:
        _check_whole(bucket, manifest)
    except Conflict:
        bucket.unmark(manifest)
        raise


def _check_whole(bucket: ModelsBucket, manifest: BaseModelManifest) -> None:
    there = bucket.sizes(manifest.name, manifest.folder)
    lacking = [file.name for file in manifest.files if there.get(file.name) != file.bytes]
    if lacking:
        raise Conflict(
            f"{len(lacking)} files of {manifest.name} were taken away or replaced meanwhile: {', '.join(lacking[:3])}.",
            code="base_model_changed_meanwhile",
            param="model",
            remedy="Find out who else is at work on it, then run the same command again.",
        )


def _not_accepted(offer: Offer) -> RequestRefused:
    licence = offer.licence
    named = f"the licence {licence.id!r}" if licence.id else "a licence that its author does not name"
    where = f" ({licence.link})" if licence.link else ""
    return RequestRefused(
        f"{offer.at.name} comes under {named}{where}, which somebody has to accept for this installation.",
        code="licence_not_accepted",
        param="--accept-licence",
        remedy="Read it, and run the same command with --accept-licence; who accepted what is kept with the model.",
        details={"licence": licence.model_dump(mode="json"), "text": offer.text},
    )
