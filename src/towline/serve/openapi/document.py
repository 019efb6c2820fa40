"""The OpenAPI 3.1 description of what is served at this moment. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from towline.serve.contract import Served
from towline.serve.openapi import operations

# A description of more would be read by nobody, and take long to write.
MAX_MODELS = 100
_TEXT = {"type": "string"}
_ERROR_FIELDS = {"code": _TEXT, "message": _TEXT, "field": _TEXT, "request_id": _TEXT}
_OWN_ERROR = {
    "type": "object",
    "properties": {"error": {"type": "object", "properties": _ERROR_FIELDS, "required": list(_ERROR_FIELDS)}},
    "required": ["error"],
}
# What HTTP itself demands is refused in our own words on every path.
_FLAT_ERROR = {
    "anyOf": [{"type": "object", "properties": {"error": _TEXT, "code": _TEXT, "field": _TEXT}, "required": ["error"]}, _OWN_ERROR]
}


def describe(models: Sequence[Served], *, version: str, max_batch: int) -> dict[str, Any]:
    """`models` are the ready ones, each with its default version, by name."""
    paths = operations.of_server()
    for served in models[:MAX_MODELS]:
        paths |= operations.of_model(served, max_batch=max_batch, is_only=len(models) == 1)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Towline", "version": version, "description": _about(models)},
        "tags": [{"name": served.name, "description": f"Version {served.number}"} for served in models[:MAX_MODELS]],
        "paths": paths,
        "components": {
            "responses": {"Error": _error("An error.", _OWN_ERROR), "FlatError": _error("An error, in the protocol's words.", _FLAT_ERROR)},
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            },
        },
        # A key is asked for once one was made.
        "security": [{}, {"bearer": []}, {"key": []}],
    }


def _about(models: Sequence[Served]) -> str:
    left = len(models) - MAX_MODELS
    more = f" {left} more models are served and not described here; GET /v2/models lists them." if left > 0 else ""
    return f"The models served here, as TensorFlow Serving, the Open Inference Protocol and plain /predict ask them.{more}"


def _error(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}
