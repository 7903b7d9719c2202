"""The OpenAPI document: Powertools generates it from the routes; what it cannot see is added here."""

from __future__ import annotations

import json
from typing import Any

from aws_lambda_powertools.event_handler import APIGatewayHttpResolver

from spotune.contracts.files import UploadRequest


def document(app: APIGatewayHttpResolver) -> str:
    """The document as JSON."""
    made: dict[str, Any] = json.loads(app.get_openapi_json_schema(title="Spotune", version="1"))
    made.setdefault("components", {})["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    made["security"] = [{"key": []}]
    made["paths"]["/v1/files"]["post"]["requestBody"] = _upload_body()
    models = made["paths"].pop("/v1/models/.+")
    models["get"]["parameters"] = [
        {"name": "model", "in": "path", "required": True, "schema": {"type": "string"}, "description": "Its name."}
    ]
    made["paths"]["/v1/models/{model}"] = models
    return json.dumps(made)


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
