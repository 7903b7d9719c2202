"""A base model in the models bucket: which files it has, where they come from, and under which licence.

`spotune.json` beside the files is this manifest, written last: without it there is no model. Another one in the model's
own folder is the same, and says which revision is in force.
"""

from __future__ import annotations

import hashlib

from spotune.contracts.base import Contract, Timestamp
from spotune.contracts.training import ManifestFile

PICKLED_SUFFIXES = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".msgpack", ".h5"})
"""Weights in these files can run code of their author's when they are read; they are never opened, and never copied."""


class Licence(Contract):
    """What the model's author allows, as the hub says it."""

    id: str = ""
    """The hub's short name of it, such as `apache-2.0` or `llama3.1`; empty where the author names none."""
    link: str = ""
    gated: bool = False
    """The hub gives the files only to accounts that the author has let in."""
    text_sha256: str = ""
    """Of the text that was shown; empty where the repository has none."""


class Acceptance(Contract):
    """That somebody accepted a licence which is not among those that ask nothing of its users."""

    by: str
    """The ARN that AWS knows them by."""
    at: Timestamp
    text_sha256: str = ""
    """Of the text that they were shown."""


class BaseModelManifest(Contract):
    """`spotune.json`."""

    name: str
    """As requests spell it."""
    revision: str = ""
    """The commit on the hub, or what else tells one state of the files from another."""
    parameters: int
    folder: str = ""
    """Where the files lie, within the model's own folder: one of the revision's own, with a trailing slash. Empty where
    they lie beside this manifest."""
    files: tuple[ManifestFile, ...] = ()
    """All of them but this one. Empty where nobody has hashed them."""
    source: str = ""
    """The hub's address."""
    licence: Licence | None = None
    accepted: Acceptance | None = None
    added_by: str = ""
    """The ARN that AWS knows them by."""
    added_at: Timestamp = 0

    @property
    def sha256(self) -> str:
        """Of the files' names and hashes: what a job is pinned to. Empty where nobody has hashed them."""
        if not self.files:
            return ""
        lines = sorted(f"{file.sha256} {file.bytes} {file.name}\n" for file in self.files)
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    @property
    def bytes(self) -> int:
        """Of all files."""
        return sum(file.bytes for file in self.files)
