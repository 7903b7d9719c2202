"""What the registry needs of a store."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from spotune.contracts.models import ModelGroup, ModelVersion
from spotune.store.page import Page

Pairs = tuple[tuple[ModelVersion | None, ModelVersion], ...]
"""Versions as they were read, None where they are new, and as they become."""


class ModelStore(Protocol):
    """A group's version guards its champion: two promotions at once are one, and a conflict. Tenant-scoped reads return
    None (or an empty page) for another tenant's things, as for missing ones."""

    def get_group(self, tenant: str, name: str) -> ModelGroup | None:
        """One group, read consistently."""

    def list_groups(self, tenant: str, *, after: str | None, limit: int) -> Page[ModelGroup]:
        """A tenant's groups by name, after the group of this name."""

    def commit_group(
        self,
        before: ModelGroup | None,
        group: ModelGroup,
        versions: Pairs,
    ) -> None:
        """Write a group and versions of it in one transaction, each guarded by the version that was read; None: new.

        Raises:
            VersionConflict: a stored version is not the one that was read, or a new one exists; nothing was written.
            ValueError: a version is of another group.
        """

    def get_version(self, tenant: str, group: str, number: int) -> ModelVersion | None:
        """One version, read consistently."""

    def find_version(self, tenant: str, name: str) -> ModelVersion | None:
        """The version of this model name (`ft:...`), read consistently."""

    def list_versions(self, tenant: str, group: str, *, after: int, limit: int) -> Page[ModelVersion]:
        """A group's versions, newest first; `after` is a number, 0 for the newest."""

    def replace_version(self, before: ModelVersion, version: ModelVersion) -> None:
        """Replace a version (version + 1).

        Raises:
            VersionConflict: the stored version is not `before.version`.
        """

    def unsettled_versions(self) -> Iterator[ModelVersion]:
        """Versions of all tenants that the outside is still to be told of, the longest unchanged first. May lag by
        moments."""


def numbered(before: ModelGroup | None, group: ModelGroup, versions: Pairs) -> tuple[ModelGroup, Pairs]:
    """A group and versions of it, each with the version that follows the one that was read.

    Raises:
        ValueError: a version is of another group.
    """
    strangers = [new.name for _, new in versions if (new.tenant, new.group) != (group.tenant, group.name)]
    if strangers:
        raise ValueError(f"{', '.join(strangers)} cannot be written with the group {group.name}")
    pairs = tuple((old, new.with_(version=1 if old is None else old.version + 1)) for old, new in versions)
    return group.with_(version=1 if before is None else before.version + 1), pairs
