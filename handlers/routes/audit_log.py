"""`/v1/audit_log`: who changed what, for keys with the scope `admin`."""

from __future__ import annotations

from aws_lambda_powertools.event_handler.api_gateway import Router

from handlers.routes.paging import After, Limit, list_object
from spotune.contracts.api import ListObject
from spotune.contracts.audit import AuditObject
from spotune.service import views
from spotune.service.access import audit
from spotune.service.installation import installation

router = Router()


@router.get("/v1/audit_log", tags=["audit"], summary="Who changed what in your tenant, newest first")
def list_records(after: After = None, limit: Limit = 20) -> ListObject[AuditObject]:
    """Refused calls, too. Kept for 400 days."""
    page = audit.list_records(installation(), router.context["tenant"], after=after, limit=limit)
    return list_object([views.audit_object(record) for record in page.items], has_more=page.has_more)
