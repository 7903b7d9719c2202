"""`/v1/model_groups`: versions of tuned models, and which of them is the champion."""

from __future__ import annotations

from typing import Annotated

from aws_lambda_powertools.event_handler.api_gateway import Router
from aws_lambda_powertools.event_handler.openapi.params import Body, Query

from handlers.routes.paging import After, Limit, list_object
from spotune.contracts.api import ListObject
from spotune.contracts.models import ModelGroup
from spotune.contracts.registry import (
    Judgement,
    ModelGroupObject,
    ModelVersionObject,
    Promotion,
    Rollback,
    VersionComparison,
    VersionFilesObject,
)
from spotune.service import views
from spotune.service.installation import installation
from spotune.service.models import groups

router = Router()
GROUPS = "/v1/model_groups"
GROUP = GROUPS + "/<group>"
VERSIONS = GROUP + "/versions"
VERSION = VERSIONS + "/<number>"

Number = Annotated[int, Query(ge=1, description="A version.")]
Why = Annotated[Judgement, Body()]
NO_REASON = Judgement()
NO_MATTER_WHICH = Rollback()


@router.get(GROUPS, tags=["model groups"], summary="Model groups, by name")
def list_groups(after: After = None, limit: Limit = 20) -> ListObject[ModelGroupObject]:
    """Each with its champion."""
    page = groups.list_groups(installation(), router.context["tenant"], after=after, limit=limit)
    return list_object([_shown(group) for group in page.items], has_more=page.has_more)


@router.get(GROUP, tags=["model groups"], summary="A model group, and where its champion's files lie")
def retrieve(group: str) -> ModelGroupObject:
    """The stable address of what is champion now."""
    return _shown(groups.group_of(installation(), router.context["tenant"], group))


@router.get(VERSIONS, tags=["model groups"], summary="The versions of a group, newest first")
def list_versions(group: str, after: After = None, limit: Limit = 20) -> ListObject[ModelVersionObject]:
    """Rejected and deleted ones, too."""
    here, tenant = installation(), router.context["tenant"]
    page = groups.list_versions(here, tenant, group, after=after, limit=limit)
    return list_object([views.model_version_object(one) for one in page.items], has_more=page.has_more)


@router.get(VERSION, tags=["model groups"], summary="One version, with its verdict, lineage and history")
def retrieve_version(group: str, number: int) -> ModelVersionObject:
    """By its number."""
    version = groups.version_of(installation(), router.context["tenant"], group, number)
    return views.model_version_object(version)


@router.get(VERSION + "/files", tags=["model groups"], summary="A version's files, with URLs to read them from")
def files(group: str, number: int) -> VersionFilesObject:
    """As they were registered: size and SHA-256 of each. The URLs end within the hour."""
    return groups.files_of(installation(), router.context["tenant"], group, number)


@router.get(GROUP + "/compare", tags=["model groups"], summary="Two versions, metric by metric")
def compare(group: str, a: Number, b: Number) -> VersionComparison:
    """With intervals where the gate compared one with the other."""
    return groups.compare(installation(), router.context["tenant"], group, a, b)


@router.post(GROUP + "/promote", tags=["model groups"], summary="Make a version the champion")
def promote(group: str, request: Annotated[Promotion, Body()]) -> ModelGroupObject:
    """Its files are looked at first."""
    here, tenant = installation(), router.context["tenant"]
    return _shown(groups.promote(here, tenant, group, request.version, by=_by(), why=request.why))


@router.post(GROUP + "/rollback", tags=["model groups"], summary="Go back to the champion before")
def roll_back(group: str, request: Annotated[Rollback, Body()] = NO_MATTER_WHICH) -> ModelGroupObject:
    """Again, further back."""
    here, tenant = installation(), router.context["tenant"]
    changed = groups.roll_back(here, tenant, group, by=_by(), why=request.why, champion=request.champion)
    return _shown(changed)


@router.post(VERSION + "/approve", tags=["model groups"], summary="Let in a version that waits for a person")
def approve(group: str, number: int, request: Why = NO_REASON) -> ModelVersionObject:
    """It becomes champion, unless another one did since it was judged."""
    here, tenant = installation(), router.context["tenant"]
    return views.model_version_object(groups.approve(here, tenant, group, number, by=_by(), why=request.why))


@router.post(VERSION + "/reject", tags=["model groups"], summary="Turn away a version that waits for a person")
def reject(group: str, number: int, request: Why = NO_REASON) -> ModelVersionObject:
    """For good."""
    here, tenant = installation(), router.context["tenant"]
    return views.model_version_object(groups.reject(here, tenant, group, number, by=_by(), why=request.why))


@router.post(VERSION + "/deprecate", tags=["model groups"], summary="Pass a version over from now on")
def deprecate(group: str, number: int, request: Why = NO_REASON) -> ModelVersionObject:
    """No rollback leads to it; a person may still promote it."""
    here, tenant = installation(), router.context["tenant"]
    return views.model_version_object(groups.deprecate(here, tenant, group, number, by=_by(), why=request.why))


def _shown(group: ModelGroup) -> ModelGroupObject:
    return views.model_group_object(group, groups.champion_of(installation(), group))


def _by() -> str:
    key_id: str = router.context["key"].id
    return key_id
