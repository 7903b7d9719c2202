"""`/v1/keys`: for keys with the scope `admin`."""

from __future__ import annotations

from typing import Annotated

from aws_lambda_powertools.event_handler.api_gateway import Router
from aws_lambda_powertools.event_handler.openapi.params import Body

from handlers.routes.paging import list_object
from spotune.contracts.api import KeyObject, KeyRequest, ListObject, NewKeyObject
from spotune.contracts.base import Timestamp
from spotune.contracts.identity import ApiKey
from spotune.service import views
from spotune.service.access import keys, rate
from spotune.service.installation import installation

router = Router()
KEYS = "/v1/keys"


@router.post(KEYS, tags=["keys"], summary="Make a key of your tenant")
def create(request: Annotated[KeyRequest, Body()]) -> NewKeyObject:
    """The answer is the only place where the key stands in clear."""
    key, clear = keys.make_key(installation(), router.context["key"], request)
    return NewKeyObject(**dict(_shown(key, None)), key=clear)


@router.get(KEYS, tags=["keys"], summary="List your tenant's keys, newest first")
def list_keys() -> ListObject[KeyObject]:
    """Without their secrets, revoked ones too."""
    found = keys.list_keys(installation(), router.context["tenant"])
    return list_object([_shown(key, used) for key, used in found])


@router.delete(KEYS + "/<key_id>", tags=["keys"], summary="Revoke a key at once")
def revoke(key_id: str) -> KeyObject:
    """From the next request on it opens nothing."""
    return _shown(*keys.revoke_key(installation(), router.context["tenant"], key_id))


def _shown(key: ApiKey, used_at: Timestamp | None) -> KeyObject:
    return views.key_object(key, used_at, rate.requests_per_minute(installation(), key))
