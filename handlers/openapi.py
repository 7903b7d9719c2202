"""The OpenAPI document: Powertools generates it from the routes; what it cannot see is added here."""

from __future__ import annotations

import json
from typing import Any

from aws_lambda_powertools.event_handler import APIGatewayHttpResolver

from handlers.bodies import JSON
from spotune.contracts.files import UploadRequest

_REFERENCE = "#/components/schemas/"
_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string", "description": "What was wrong, where, and what to do."},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"], "description": "The field to blame, dotted."},
                "code": {"type": "string", "description": "Stable; docs/errors.md lists them."},
                "details": {"type": "object"},
            },
        }
    },
}


def document(app: APIGatewayHttpResolver) -> str:
    """The document as JSON."""
    made: dict[str, Any] = json.loads(app.get_openapi_json_schema(title="Spotune", version="1"))
    made.setdefault("components", {})["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    made["security"] = [{"key": []}]
    _say_how_errors_look(made)
    made["paths"]["/v1/files"]["post"]["requestBody"] = _upload_body()
    retry = made["paths"]["/v1/fine_tuning/jobs/{job_id}/retry"]["post"]
    retry["requestBody"] = _changes_body("JobRequest", made["components"]["schemas"])
    schemas = made["components"]["schemas"]
    made["paths"]["/v1/rules/{rule}"]["patch"]["requestBody"] = _changes_body("RuleRequest", schemas, required=True)
    models = made["paths"].pop("/v1/models/.+")
    name = {"name": "model", "in": "path", "required": True, "schema": {"type": "string"}, "description": "Its name."}
    for operation in models.values():
        operation["parameters"] = [name]
    made["paths"]["/v1/models/{model}"] = models
    return json.dumps(made)


def _changes_body(name: str, schemas: dict[str, Any], *, required: bool = False) -> dict[str, Any]:
    """A request of which every field may be left out, and null means its default."""
    schema = {"$ref": _REFERENCE + _add_changes_of(name, schemas)}
    return {"required": required, "content": {"application/json": {"schema": schema}}}


def _add_changes_of(name: str, schemas: dict[str, Any]) -> str:
    """Add the partial form of a schema, and of the groups in it; its name."""
    partial = f"{name}Changes"
    if partial not in schemas:
        whole = {field: value for field, value in schemas[name].items() if field not in ("required", "properties")}
        fields = schemas[name]["properties"].items()
        properties = {field: {"anyOf": [*_partial_forms(one, schemas), {"type": "null"}]} for field, one in fields}
        schemas[partial] = {**whole, "title": partial, "properties": properties}
    return partial


def _partial_forms(schema: dict[str, Any], schemas: dict[str, Any]) -> list[dict[str, Any]]:
    forms = schema.get("anyOf", [{key: value for key, value in schema.items() if key != "default"}])
    return [
        {"$ref": _REFERENCE + _add_changes_of(form["$ref"].removeprefix(_REFERENCE), schemas)}
        if "$ref" in form
        else form
        for form in forms
        if form != {"type": "null"}
    ]


def _say_how_errors_look(made: dict[str, Any]) -> None:
    """Every refusal is the one error object; the validator's own shape (422) is never sent."""
    made["components"]["schemas"]["Error"] = _ERROR
    refused = {
        "description": "Refused, or failed",
        "content": {JSON: {"schema": {"$ref": f"{_REFERENCE}Error"}}},
    }
    for path in made["paths"].values():
        for operation in path.values():
            operation["responses"].pop("422", None)
            operation["responses"]["default"] = refused


def _upload_body() -> dict[str, Any]:
    form = {
        "type": "object",
        "required": ["file", "purpose"],
        "properties": {
            "file": {"type": "string", "format": "binary"},
            "purpose": {"type": "string", "enum": ["fine-tune"]},
        },
    }
    return {
        "required": True,
        "content": {
            "multipart/form-data": {"schema": form},
            "application/json": {"schema": UploadRequest.model_json_schema()},
        },
    }
