"""Which of a run's checkpoints in S3 a new pod fetches: not all that were ever made, which its disk need not hold."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from functools import partial

from pydantic import ValidationError

from spotune.contracts.checkpoint import CHECKPOINT_PREFIX, needed_folders
from spotune.contracts.layout import split_uri
from spotune.contracts.training import MANIFEST_NAME, Manifest
from spotune.pod.objects import Objects, StoredObject


def resumable(objects: Objects, uri: str, keep: int) -> Callable[[str], bool]:
    """Whether a name below the folder of checkpoints is needed: every file beside the checkpoints is, and of those that
    are whole the newest `keep` and the best, as the trainer keeps them."""
    needed = needed_folders(_whole(objects, uri), keep)

    def wanted(name: str) -> bool:
        folder = name.partition("/")[0]
        return not folder.startswith(CHECKPOINT_PREFIX) or folder in needed

    return wanted


def _whole(objects: Objects, uri: str) -> dict[str, Manifest]:
    """The manifests, by folder, of checkpoints whose files are all in S3, as long as those say: each host brings its
    own, and may be lost before it has. A manifest that does not parse is none."""
    _, prefix = split_uri(uri)
    there = {source.key.removeprefix(prefix): source for source in objects.list(f"{uri}{CHECKPOINT_PREFIX}")}
    found: dict[str, Manifest] = {}
    for name, source in there.items():
        folder, _, file = name.partition("/")
        if file != MANIFEST_NAME:
            continue
        with contextlib.suppress(ValidationError):
            manifest = Manifest.model_validate_json(objects.read(source))
            if not manifest.lacks(partial(_size, there, folder)):
                found[folder] = manifest
    return found


def _size(there: Mapping[str, StoredObject], folder: str, name: str) -> int | None:
    source = there.get(f"{folder}/{name}")
    return None if source is None else source.size
