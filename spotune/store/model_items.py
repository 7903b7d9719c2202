"""Items of model groups and their versions. A group, its versions and their names have keys of their tenant's alone."""

from __future__ import annotations

from spotune.contracts.models import ModelGroup, ModelVersion
from spotune.store.items import Item, content, digits, indexed, number, text

UNSETTLED = "UNSETTLED"
"""`gsi2pk` of the versions that the outside is still to be told of."""


def group_key(tenant: str, name: str) -> Item:
    """A group's key. All of a tenant's share a partition."""
    return {"pk": text(f"GROUPS#{tenant}"), "sk": text(name)}


def version_key(tenant: str, group: str, version: int) -> Item:
    """A version's key. All of a group's share a partition; no tenant's name holds a `#`."""
    return {"pk": text(f"VERSIONS#{tenant}#{group}"), "sk": text(digits(version))}


def name_key(tenant: str, name: str) -> Item:
    """The key of what leads from a model's name to its version."""
    return {"pk": text(f"MODEL#{tenant}#{name}"), "sk": text("MODEL")}


def group_item(group: ModelGroup, writer: str) -> Item:
    """A group."""
    guard = {"version": number(group.version), "writer": text(writer)}
    return group_key(group.tenant, group.name) | content(group, group.tenant) | guard


def version_item(version: ModelVersion) -> Item:
    """A version; in `gsi2` as long as it is not settled."""
    key = version_key(version.tenant, version.group, version.number)
    item = key | content(version, version.tenant) | {"version": number(version.version)}
    if version.settled:
        return item
    return item | indexed("gsi2", UNSETTLED, version.changed_at, version.name)


def name_item(version: ModelVersion) -> Item:
    """What leads from a model's name to its version."""
    place = {"model_group": text(version.group), "number": number(version.number)}
    return name_key(version.tenant, version.name) | {"tenant": text(version.tenant)} | place
