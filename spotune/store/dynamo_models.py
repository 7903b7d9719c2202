"""Model groups and their versions in DynamoDB.

Groups of a tenant share a partition, and so do the versions of a group: both are listed by consistent queries.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import islice

from spotune.contracts.errors import VersionConflict
from spotune.contracts.models import ModelGroup, ModelVersion
from spotune.store import items, model_items
from spotune.store.counters import Write
from spotune.store.items import Item, number
from spotune.store.model_items import group_item, group_key, name_item, name_key, version_item, version_key
from spotune.store.models import Pairs, numbered
from spotune.store.page import Page, page_of
from spotune.store.records import is_id, readable
from spotune.store.table import DynamoTable
from spotune.store.transaction import ConditionFailed, call, new_token, put

NEW = "attribute_not_exists(pk)"
UNCHANGED = "version = :version"
LONGEST_NAME_BYTES = 1500
"""Of a model, which has its base's name in its own: DynamoDB takes keys of 2,048 bytes."""


class DynamoModels(DynamoTable):
    """Fulfils `ModelStore`."""

    def get_group(self, tenant: str, name: str) -> ModelGroup | None:
        """See `ModelStore`."""
        item = self._get(group_key(tenant, name)) if is_id(name) else None
        return None if item is None else items.record_of(ModelGroup, item)

    def list_groups(self, tenant: str, *, after: str | None, limit: int) -> Page[ModelGroup]:
        """See `ModelStore`."""
        start = group_key(tenant, after or "")
        beyond = " AND sk > :after" if after else ""
        found = self._query(
            limit + 1,
            KeyConditionExpression=f"pk = :pk{beyond}",
            ExpressionAttributeValues={":pk": start["pk"], **({":after": start["sk"]} if after else {})},
            ConsistentRead=True,
        )
        return page_of([items.record_of(ModelGroup, item) for item in islice(found, limit + 1)], limit)

    def commit_group(
        self,
        before: ModelGroup | None,
        group: ModelGroup,
        versions: Pairs,
    ) -> None:
        """See `ModelStore`."""
        token = new_token()
        group, pairs = numbered(before, group, versions)
        writes = [_guarded(group_item(group, token), group.name, before)]
        for old, new in pairs:
            writes.append(_guarded(version_item(new), new.name, old))
            if old is None:
                writes.append(put(name_item(new), new.name, NEW))
        self._transact(writes, token)

    def get_version(self, tenant: str, group: str, number: int) -> ModelVersion | None:
        """See `ModelStore`."""
        item = self._get(version_key(tenant, group, number)) if is_id(group) else None
        return None if item is None else items.record_of(ModelVersion, item)

    def find_version(self, tenant: str, name: str) -> ModelVersion | None:
        """See `ModelStore`."""
        item = self._get(name_key(tenant, name)) if len(name.encode()) <= LONGEST_NAME_BYTES else None
        return None if item is None else self.get_version(tenant, item["model_group"]["S"], int(item["number"]["N"]))

    def list_versions(self, tenant: str, group: str, *, after: int, limit: int) -> Page[ModelVersion]:
        """See `ModelStore`."""
        if not is_id(group):
            return Page((), has_more=False)
        found = self._newest_first(partial(version_key, tenant, group), after, limit)
        return page_of([items.record_of(ModelVersion, item) for item in found], limit)

    def replace_version(self, before: ModelVersion, version: ModelVersion) -> None:
        """See `ModelStore`."""
        write = _guarded(version_item(version.with_(version=before.version + 1)), version.name, before)
        try:
            call(self._client.put_item, TableName=self._table, **write.item["Put"])
        except ConditionFailed as error:
            raise VersionConflict(version.name) from error

    def unsettled_versions(self) -> Iterator[ModelVersion]:
        """See `ModelStore`."""
        found = self._in_flight(model_items.UNSETTLED)
        return readable(ModelVersion, ((f"model {item['gsi2sk']['S']}", items.body_of(item)) for item in found))


def _guarded(item: Item, name: str, before: ModelGroup | ModelVersion | None) -> Write:
    """What is written in the place of the record that was read, or of none."""
    if before is None:
        return put(item, name, NEW)
    return put(item, name, UNCHANGED, ExpressionAttributeValues={":version": number(before.version)})
