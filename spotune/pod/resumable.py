"""Which of a run's checkpoints in S3 a new pod fetches: not all that were ever made, which its disk need not hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pydantic import ValidationError

from spotune.contracts.checkpoint import CHECKPOINT_PREFIX
from spotune.contracts.layout import split_uri
from spotune.contracts.training import MANIFEST_NAME, Manifest
from spotune.pod.objects import Objects


def resumable(objects: Objects, uri: str, keep: int) -> Callable[[str], bool]:
    """Whether a name below the folder of checkpoints is needed: every file beside the checkpoints is, and of them the
    newest, one more than `keep`, should one not verify, and the best."""
    needed = needed_folders(_manifests(objects, uri), keep + 1)

    def wanted(name: str) -> bool:
        folder = name.partition("/")[0]
        return not folder.startswith(CHECKPOINT_PREFIX) or folder in needed

    return wanted


def needed_folders(manifests: Mapping[str, Manifest], newest: int) -> frozenset[str]:
    """The folders of the newest checkpoints and of the earliest one with the lowest held-out loss."""
    by_step = sorted(manifests, key=lambda name: manifests[name].step)
    losses = {name: loss for name in by_step if (loss := manifests[name].eval_loss) is not None}
    best = min(losses, key=lambda name: losses[name], default=None)
    return frozenset(by_step[-newest:]) | ({best} if best is not None else frozenset())


def _manifests(objects: Objects, uri: str) -> dict[str, Manifest]:
    """Of the checkpoints that were finished, by folder. A damaged one is no checkpoint."""
    _, prefix = split_uri(uri)
    found: dict[str, Manifest] = {}
    for source in objects.list(f"{uri}{CHECKPOINT_PREFIX}"):
        folder, _, name = source.key.removeprefix(prefix).partition("/")
        if name == MANIFEST_NAME:
            try:
                found[folder] = Manifest.model_validate_json(objects.read(source))
            except ValidationError:
                continue
    return found
