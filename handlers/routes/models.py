"""`/v1/models`."""

from __future__ import annotations

from urllib.parse import unquote

from aws_lambda_powertools.event_handler.api_gateway import Router

from handlers.routes.paging import list_object
from spotune.contracts.api import ListObject, ModelObject
from spotune.contracts.job import ModelReference
from spotune.contracts.registry import DeletedModelObject
from spotune.service import views
from spotune.service.installation import installation
from spotune.service.models import groups, registry

router = Router()


@router.get("/v1/models", tags=["models"], summary="Base models, and tuned ones that passed their gate")
def list_models() -> ListObject[ModelObject]:
    """All of them; tuned ones newest first."""
    base, tuned = registry.list_models(installation(), router.context["tenant"])
    return list_object([*map(views.base_model_object, base), *map(views.tuned_model_object, tuned)])


@router.get("/v1/models/.+", tags=["models"], summary="One model")
def retrieve() -> ModelObject:
    """By its name, slashes and all."""
    name = unquote(router.current_event.path.partition("/v1/models/")[2])
    found = registry.find_model(installation(), router.context["tenant"], name)
    return views.base_model_object(found) if isinstance(found, ModelReference) else views.tuned_model_object(found)


@router.delete("/v1/models/.+", tags=["models"], summary="Delete a version of a model group")
def delete() -> DeletedModelObject:
    """Its files go within minutes; refused for a champion, and for what a job reads."""
    name = unquote(router.current_event.path.partition("/v1/models/")[2])
    groups.delete(installation(), router.context["tenant"], name, by=router.context["key"].id)
    return DeletedModelObject(id=name)
