"""What a person does with model groups: look, promote, go back, approve, reject, deprecate, delete, compare."""

from __future__ import annotations

from collections.abc import Callable

from spotune.contracts.errors import (
    Conflict,
    NotFound,
    RequestRefused,
    SpotuneError,
    Unavailable,
    VersionConflict,
)
from spotune.contracts.models import ModelGroup, ModelVersion
from spotune.contracts.pull import URL_SECONDS
from spotune.contracts.registry import VersionComparison, VersionFile, VersionFilesObject
from spotune.lifecycle import comparison, registry
from spotune.lifecycle.registry import Act, Move
from spotune.service.installation import Installation
from spotune.service.models.files import fault_of
from spotune.store.page import Page

MOST_TRIES = 10
"""A version conflict means that somebody else moved the group on: so many in a row are a fault."""

Crowning = Callable[[ModelGroup, ModelVersion | None], tuple[ModelVersion | None, Move | None]]
"""What an act makes of a group and its champion: the version that it is about as it was read, and what changes."""


def group_of(here: Installation, tenant: str, name: str) -> ModelGroup:
    """A tenant's group.

    Raises:
        NotFound: there is none of this name, for this tenant.
    """
    group = here.store.get_group(tenant, name)
    if group is None:
        raise NotFound(
            f"No model group {name!r}.",
            code="model_group_not_found",
            param="group",
            remedy="List yours with `spotune models list` or GET /v1/model_groups.",
        )
    return group


def version_of(here: Installation, tenant: str, group: str, number: int) -> ModelVersion:
    """A version of a group.

    Raises:
        NotFound: there is none of this number, for this tenant.
    """
    version = here.store.get_version(tenant, group, number)
    if version is None:
        raise NotFound(
            f"Model group {group!r} has no version {number}.",
            code="model_version_not_found",
            param="version",
            remedy=f"List them with `spotune models versions {group}` or GET /v1/model_groups/{group}/versions.",
        )
    return version


def champion_of(here: Installation, group: ModelGroup) -> ModelVersion | None:
    """A group's champion."""
    if group.champion is None:
        return None
    return here.store.get_version(group.tenant, group.name, group.champion)


def list_groups(here: Installation, tenant: str, *, after: str | None, limit: int) -> Page[ModelGroup]:
    """A page of a tenant's groups, by name."""
    return here.store.list_groups(tenant, after=after, limit=limit)


def list_versions(here: Installation, tenant: str, group: str, *, after: str | None, limit: int) -> Page[ModelVersion]:
    """A page of a group's versions, newest first, after the one of this model name.

    Raises:
        NotFound: there is no such group, for this tenant.
        RequestRefused: no version of the group has this name.
    """
    group_of(here, tenant, group)
    last = None if after is None else here.store.find_version(tenant, after)
    if after is not None and (last is None or last.group != group):
        raise RequestRefused(
            f"No model {after!r} in group {group}.",
            code="unknown_cursor",
            param="after",
            remedy="Use the last_id of a page.",
        )
    return here.store.list_versions(tenant, group, after=0 if last is None else last.number, limit=limit)


def files_of(here: Installation, tenant: str, group: str, number: int) -> VersionFilesObject:
    """A version's files as they were registered, with URLs to read them from.

    Raises:
        NotFound: there is no such version, for this tenant.
        Conflict: it was deleted, or its files were not whole when it was registered.
    """
    version = version_of(here, tenant, group, number)
    if version.status == "deleted" or not version.files:
        raise Conflict(
            f"{version.name} has no files to read: they were deleted, or not whole when it was registered.",
            code="model_files_gone",
            param="version",
            remedy="Choose another version; `spotune models versions` lists them.",
        )
    files = [
        VersionFile(
            id=file.name,
            bytes=file.bytes,
            sha256=file.sha256,
            url=here.objects.presign_read(version.uri + file.name, URL_SECONDS),
        )
        for file in version.files
    ]
    return VersionFilesObject(model=version.name, files=tuple(files), expires_at=int(here.clock()) + URL_SECONDS)


def promote(here: Installation, tenant: str, name: str, number: int, *, by: str, why: str) -> ModelGroup:
    """Make a version the champion. One that is so already stays so.

    Raises:
        NotFound: there is no such version, for this tenant.
        Conflict: it may not become champion, or another one became champion at the same time.
    """

    def act(group: ModelGroup, champion: ModelVersion | None) -> tuple[ModelVersion | None, Move | None]:
        version = version_of(here, tenant, name, number)
        fault = fault_of(here, version) if version.status in registry.PROMOTABLE else ""
        return version, registry.promote(group, champion, version, _act(here, by, why), fault=fault)

    return _crown(here, tenant, name, act)


def approve(here: Installation, tenant: str, name: str, number: int, *, by: str, why: str) -> ModelVersion:
    """Let in what waits for a person: it becomes champion, unless another one did since it was judged.

    Raises:
        NotFound: there is no such version, for this tenant.
        Conflict: it does not wait, or its files are not there.
    """

    def act(group: ModelGroup, champion: ModelVersion | None) -> tuple[ModelVersion | None, Move | None]:
        version = version_of(here, tenant, name, number)
        fault = fault_of(here, version) if version.status == "awaiting_approval" else ""
        return version, registry.approve(group, champion, version, _act(here, by, why), fault=fault)

    _crown(here, tenant, name, act)
    return version_of(here, tenant, name, number)


def roll_back(
    here: Installation, tenant: str, name: str, *, by: str, why: str, champion: int | None = None
) -> ModelGroup:
    """Go back to the champion before. Again, further back.

    Args:
        champion: the version to go back from; where it is not champion any more by a rollback, nothing changes.

    Raises:
        NotFound: there is no such group, for this tenant.
        Conflict: there is none to go back to, its files are gone, or another one is champion than `champion`.
    """

    def act(group: ModelGroup, present: ModelVersion | None) -> tuple[ModelVersion | None, Move | None]:
        if champion is not None and group.champion != champion:
            last = group.history[-1] if group.history else None
            if last is not None and last.rollback and last.before == champion:
                return None, None
            raise _champion_changed(group)
        if present is None:
            raise Conflict(
                f"Group {name} has no champion.",
                code="nothing_to_roll_back_to",
                remedy="Promote the version that you want; `spotune models versions` lists them.",
            )
        former = _nearest_former(here, group)
        fault = "" if former is None else fault_of(here, former)
        return former, registry.roll_back(group, present, former, _act(here, by, why), fault=fault)

    return _crown(here, tenant, name, act)


def reject(here: Installation, tenant: str, name: str, number: int, *, by: str, why: str) -> ModelVersion:
    """Turn away what waits for a person.

    Raises:
        NotFound: there is no such version, for this tenant.
        Conflict: it does not wait.
    """
    return _change(here, tenant, name, number, lambda one: registry.reject(one, _act(here, by, why)))


def deprecate(here: Installation, tenant: str, name: str, number: int, *, by: str, why: str) -> ModelVersion:
    """Pass a version over from now on: no rollback leads to it.

    Raises:
        NotFound: there is no such version, for this tenant.
        Conflict: it is champion, or was rejected or deleted.
    """
    return _change(here, tenant, name, number, lambda one: registry.deprecate(one, _act(here, by, why)))


def delete(here: Installation, tenant: str, model: str, *, by: str) -> None:
    """Delete a registered model's files; its record stays. The files go within minutes.

    Raises:
        NotFound: there is no registered model of this name, for this tenant.
        Conflict: it is champion, a job that has not ended compares itself with it or goes on from it, or it is of no
            group.
    """
    version = here.store.find_version(tenant, model)
    if version is None or version.status == "deleted":
        raise _nothing_to_delete(here, tenant, model, version)

    def act(one: ModelVersion) -> ModelVersion | None:
        changed = registry.delete(one, _act(here, by, "Deleted."))
        _check_unused(here, one)
        return changed

    _change(here, tenant, version.group, version.number, act)


def compare(here: Installation, tenant: str, name: str, a: int, b: int) -> VersionComparison:
    """Two versions of a group, metric by metric.

    Raises:
        NotFound: there is no such version, for this tenant.
    """
    return comparison.compare(version_of(here, tenant, name, a), version_of(here, tenant, name, b))


def _crown(here: Installation, tenant: str, name: str, act: Crowning) -> ModelGroup:
    """Carry out an act that may change the champion; the group as it is then.

    What changes nothing but the group's count or a mirror is decided again; a champion that changed meanwhile is told.
    """
    first: ModelGroup | None = None
    for _ in range(MOST_TRIES):
        group = group_of(here, tenant, name)
        champion = champion_of(here, group)
        version, move = act(group, champion)
        if move is None:
            return group
        first = first or group
        if group.champion != first.champion:
            raise _champion_changed(group)
        read = {one.number: one for one in (version, champion) if one is not None}
        try:
            here.store.commit_group(group, move.group, tuple((read[one.number], one) for one in move.versions))
        except VersionConflict:
            continue
        return move.group
    raise _contention(name)


def _change(
    here: Installation, tenant: str, name: str, number: int, act: Callable[[ModelVersion], ModelVersion | None]
) -> ModelVersion:
    """Carry out an act on one version that leaves the champion alone; the version as it is then."""
    for _ in range(MOST_TRIES):
        version = version_of(here, tenant, name, number)
        changed = act(version)
        if changed is None:
            return version
        try:
            here.store.replace_version(version, changed)
        except VersionConflict:
            continue
        return changed
    raise _contention(name)


def _nearest_former(here: Installation, group: ModelGroup) -> ModelVersion | None:
    found = (here.store.get_version(group.tenant, group.name, one) for one in registry.former_champions(group))
    return next((one for one in found if one is not None and one.status == "former"), None)


def _check_unused(here: Installation, version: ModelVersion) -> None:
    for active in here.store.active_jobs():
        job = here.store.get_job(version.tenant, active.id) if active.tenant == version.tenant else None
        if job is not None and job.champion is not None and job.champion.name == version.name:
            raise Conflict(
                f"Job {job.id} reads {version.name}: it is compared with it, or goes on from it.",
                code="model_in_use",
                param="model",
                remedy="Wait for the job's end, or cancel it.",
            )


def _nothing_to_delete(here: Installation, tenant: str, model: str, version: ModelVersion | None) -> SpotuneError:
    """Said of a model that is there and is no version: it must not look missing."""
    job = here.store.get_job(tenant, "ftjob-" + model.rpartition(":")[2]) if version is None else None
    if job is not None and job.fine_tuned_model == model:
        return Conflict(
            f"{model} belongs to no model group: it is a result of job {job.id}, and stays with it.",
            code="model_without_group",
            param="model",
            remedy="Give jobs a registry.group whose models are to be deleted one by one.",
        )
    return NotFound(
        f"No registered model {model!r}.",
        code="model_not_found",
        param="model",
        remedy="List yours with GET /v1/models.",
    )


def _act(here: Installation, by: str, why: str) -> Act:
    return Act(by=by, at=here.clock(), why=why)


def _champion_changed(group: ModelGroup) -> Conflict:
    return Conflict(
        f"Version {group.champion} became champion of group {group.name} meanwhile.",
        code="champion_changed",
        param="version",
        remedy=f"See `spotune models show {group.name}`, and ask again if you still want it.",
    )


def _contention(name: str) -> Unavailable:
    return Unavailable(
        f"Group {name} is being changed by others.", code="contention", remedy="Try the same call again."
    )
