"""What a dataset is not made of, and why: each names the object."""

from __future__ import annotations

from spotune.contracts.dataset import RowFormat
from spotune.contracts.errors import Conflict, DatasetRefused


class DatasetChanged(Conflict):
    """An object of a dataset is gone, or not any more the one that was pinned. `uri` is the object's."""

    def __init__(self, uri: str, message: str, code: str, remedy: str) -> None:
        super().__init__(message, code=code, remedy=remedy)
        self.uri = uri


def changed(uri: str, wanted: str, found: str) -> DatasetChanged:
    """The object has other bytes. `wanted` and `found` say what of it differs."""
    return DatasetChanged(
        uri,
        f"{uri} is not the object that the dataset was made of: it has {found}, not {wanted}.",
        code="dataset_object_changed",
        remedy="Restore that version of it; the dataset cannot be built again without it.",
    )


def gone(uri: str, version_id: str = "") -> DatasetChanged:
    """There is no such object any more."""
    version = f" (version {version_id})" if version_id else ""
    return DatasetChanged(
        uri,
        f"{uri}{version} is gone.",
        code="dataset_object_gone",
        remedy="Restore that version of it; the dataset cannot be built again without it.",
    )


class HashesDamaged(Conflict):
    """A file of hashes is cut short or changed. `uri` is the file's; checking its data again writes it anew."""

    def __init__(self, uri: str, what: str) -> None:
        super().__init__(
            f"The hash file {uri} is damaged: {what}.",
            code="hash_file_damaged",
            remedy="Delete it; it is written again when the rows are checked again.",
        )
        self.uri = uri


def mixed_formats(first: str, first_format: RowFormat, other: str, other_format: RowFormat) -> DatasetRefused:
    """Two files of one dataset have rows of different formats."""
    return DatasetRefused(
        f"{other} has rows of the {other_format} format; {first}, which came before it, has {first_format} rows.",
        code="mixed_formats",
        remedy="Give the rows of another format a rule of their own.",
    )


def damaged_manifest(uri: str, what: str) -> DatasetRefused:
    """A manifest that cannot be true, as a whole or where it names `uri`."""
    return DatasetRefused(
        f"The manifest cannot be true at {uri}: {what}.",
        code="manifest_damaged",
        remedy="Take the manifest from where the retraining wrote it.",
    )
