"""Model groups and their versions in a dict: the twin of `dynamo_models.py`."""

from __future__ import annotations

import threading
from collections.abc import Iterator

from spotune.contracts.errors import VersionConflict
from spotune.contracts.models import ModelGroup, ModelVersion
from spotune.store.models import Pairs, numbered
from spotune.store.page import Page, page_of
from spotune.store.records import decode, encode


class MemoryModels:
    """Fulfils `ModelStore`."""

    def __init__(self) -> None:
        super().__init__()
        self._models_lock = threading.RLock()
        self._groups: dict[tuple[str, str], bytes] = {}
        self._versions: dict[tuple[str, str, int], bytes] = {}
        self._names: dict[tuple[str, str], tuple[str, int]] = {}

    def get_group(self, tenant: str, name: str) -> ModelGroup | None:
        """See `ModelStore`."""
        body = self._groups.get((tenant, name))
        return None if body is None else decode(ModelGroup, body)

    def list_groups(self, tenant: str, *, after: str | None, limit: int) -> Page[ModelGroup]:
        """See `ModelStore`."""
        with self._models_lock:
            names = sorted(name for owner, name in self._groups if owner == tenant and name > (after or ""))
            found = [decode(ModelGroup, self._groups[tenant, name]) for name in names[: limit + 1]]
        return page_of(found, limit)

    def commit_group(self, before: ModelGroup | None, group: ModelGroup, versions: Pairs) -> None:
        """See `ModelStore`."""
        group, pairs = numbered(before, group, versions)
        bodies = [encode(new) for _, new in pairs]
        with self._models_lock:
            _check(self.get_group(group.tenant, group.name), before, group.name)
            for old, new in pairs:
                _check(self.get_version(new.tenant, new.group, new.number), old, new.name)
                if old is None and (new.tenant, new.name) in self._names:
                    raise VersionConflict(new.name)
            self._groups[group.tenant, group.name] = encode(group)
            for (_, new), body in zip(pairs, bodies, strict=True):
                self._versions[new.tenant, new.group, new.number] = body
                self._names[new.tenant, new.name] = (new.group, new.number)

    def get_version(self, tenant: str, group: str, number: int) -> ModelVersion | None:
        """See `ModelStore`."""
        body = self._versions.get((tenant, group, number))
        return None if body is None else decode(ModelVersion, body)

    def find_version(self, tenant: str, name: str) -> ModelVersion | None:
        """See `ModelStore`."""
        place = self._names.get((tenant, name))
        return None if place is None else self.get_version(tenant, *place)

    def list_versions(self, tenant: str, group: str, *, after: int, limit: int) -> Page[ModelVersion]:
        """See `ModelStore`."""
        with self._models_lock:
            known = self.get_group(tenant, group)
            newest = min(after - 1, known.versions) if known and after > 0 else known.versions if known else 0
            found = [
                self.get_version(tenant, group, number) for number in range(newest, max(newest - limit - 1, 0), -1)
            ]
        return page_of([version for version in found if version is not None], limit)

    def replace_version(self, before: ModelVersion, version: ModelVersion) -> None:
        """See `ModelStore`."""
        body = encode(version.with_(version=before.version + 1))
        with self._models_lock:
            _check(self.get_version(version.tenant, version.group, version.number), before, version.name)
            self._versions[version.tenant, version.group, version.number] = body

    def unsettled_versions(self) -> Iterator[ModelVersion]:
        """See `ModelStore`."""
        with self._models_lock:
            kept = [decode(ModelVersion, body) for body in self._versions.values()]
        return iter(sorted((one for one in kept if not one.settled), key=lambda one: (one.changed_at, one.name)))


def _check(stored: ModelGroup | ModelVersion | None, before: ModelGroup | ModelVersion | None, name: str) -> None:
    if (stored and stored.version) != (before and before.version):
        raise VersionConflict(name)
