"""`/v1/files`."""

from __future__ import annotations

from typing import Annotated, Literal

from aws_lambda_powertools.event_handler.api_gateway import Response, Router
from aws_lambda_powertools.event_handler.openapi.params import Query
from pydantic import ValidationError

from handlers.bodies import JSON
from handlers.multipart import read_form
from handlers.routes.paging import After, list_object
from spotune.contracts.api import DeletedObject, FileObject, ListObject, UploadObject
from spotune.contracts.errors import RequestRefused
from spotune.contracts.files import UploadRequest
from spotune.contracts.refusal import refusal
from spotune.service import views
from spotune.service.files import uploads
from spotune.service.installation import installation

router = Router()


@router.post("/v1/files", tags=["files"], summary="Upload a small file, or ask for upload URLs for a large one")
def create() -> FileObject | UploadObject:
    """Multipart form (`file`, `purpose`), or JSON (`filename`, `bytes`, `purpose`) for presigned part URLs."""
    here, tenant = installation(), router.context["tenant"]
    event = router.current_event
    if event.headers.get("content-type", "").startswith(JSON):
        return views.upload_object(uploads.start_upload(here, tenant, _upload_request(event.decoded_body or "")))
    form = read_form(event)
    if form.purpose != "fine-tune":
        raise RequestRefused(
            f"Files of purpose {form.purpose!r} are not kept.",
            code="purpose_not_supported",
            param="purpose",
            remedy='Use "fine-tune".',
        )
    return views.file_object(uploads.upload(here, tenant, form.filename, form.body))


def _upload_request(body: str) -> UploadRequest:
    try:
        return UploadRequest.model_validate_json(body)
    except ValidationError as error:
        raise refusal(error.errors()) from None


@router.get("/v1/files", tags=["files"], summary="List files")
def list_files(
    after: After = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 100,
    order: Literal["asc", "desc"] = "desc",
    purpose: str | None = None,
) -> ListObject[FileObject]:
    """A page of files by time of creation."""
    here, tenant = installation(), router.context["tenant"]
    page = uploads.list_files(here, tenant, after=after, limit=limit, ascending=order == "asc")
    shown = [views.file_object(record) for record in page.items if purpose in (None, record.purpose)]
    return list_object(shown, has_more=page.has_more)


@router.get("/v1/files/<file_id>", tags=["files"], summary="One file")
def retrieve(file_id: str) -> FileObject:
    """A file's record."""
    return views.file_object(uploads.file_of(installation(), router.context["tenant"], file_id))


@router.get("/v1/files/<file_id>/content", tags=["files"], summary="A small file's bytes")
def content(file_id: str):  # type: ignore[no-untyped-def]
    """Up to what a response can carry; larger ones are read from S3."""
    # Without a return type on purpose: Powertools validates a typed body, and decodes bytes as text on the way.
    body = uploads.content(installation(), router.context["tenant"], file_id)
    return Response(status_code=200, content_type="application/octet-stream", body=body)


@router.delete("/v1/files/<file_id>", tags=["files"], summary="Delete a file")
def delete(file_id: str) -> DeletedObject:
    """Its record and its object; jobs that were trained on it keep their report."""
    uploads.delete(installation(), router.context["tenant"], file_id)
    return DeletedObject(id=file_id, deleted=True)


@router.get("/v1/files/<file_id>/upload", tags=["files"], summary="Go on with a large upload")
def upload(file_id: str) -> UploadObject:
    """Fresh URLs, and the parts that are there already."""
    return views.upload_object(uploads.upload_ticket(installation(), router.context["tenant"], file_id))


@router.post("/v1/files/<file_id>/complete", tags=["files"], summary="Close a large upload")
def complete(file_id: str) -> FileObject:
    """Refused while parts are missing; a second call answers the same."""
    return views.file_object(uploads.complete_upload(installation(), router.context["tenant"], file_id))
