"""The operations of one model and of the server, as OpenAPI writes them. Pure."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from towline.core import dtypes
from towline.core.manifest import TensorSpec
from towline.serve.codecs import media
from towline.serve.contract import Served
from towline.serve.openapi import schemas
from towline.serve.openapi.schemas import Schema

Paths = dict[str, dict[str, Any]]

_FILE_MEDIA = {media.IMAGE: ("image/jpeg", "image/png"), media.AUDIO: ("audio/wav",), media.TEXT: ("text/plain",)}
_TOP = {
    "name": "top",
    "in": "query",
    "description": "How many of the best classes to answer, where the outputs are scores of classes.",
    "schema": {"type": "integer", "minimum": 1, "maximum": 1000},
}
_OWN_ERROR = {"$ref": "#/components/responses/Error"}
_FLAT_ERROR = {"$ref": "#/components/responses/FlatError"}


def of_server() -> Paths:
    """What asks about the server."""
    return {
        "/v2": {"get": _operation("server", "Server metadata", "v2", _answer({"type": "object"}))},
        "/v2/models": {"get": _operation("models", "The models served here", "v2", _answer({"type": "object"}))},
        "/v2/health/live": {"get": _operation("live", "Whether the server lives", "health", _answer({"type": "object"}))},
        "/v2/health/ready": {"get": _operation("ready", "Whether all models are ready", "health", _answer({"type": "object"}))},
    }


def of_model(served: Served, *, max_batch: int, is_only: bool) -> Paths:
    """How one model is asked, over each protocol."""
    name, key = quote(served.name, safe=""), served.name
    paths: Paths = {
        f"/models/{name}/predict": {"post": _predict(served, f"{key}.predict", max_batch)},
        f"/v2/models/{name}/infer": {"post": _infer(served, max_batch)},
        f"/v2/models/{name}": {"get": _operation(f"{key}.metadata", f"Inputs and outputs of {key}", key, _answer({"type": "object"}))},
        f"/v2/models/{name}/ready": {"get": _operation(f"{key}.ready", f"Whether {key} is ready", key, _answer({"type": "object"}))},
        f"/v1/models/{name}:predict": {"post": _tf_predict(served, max_batch)},
        f"/v1/models/{name}": {"get": _operation(f"{key}.status", f"State of the versions of {key}", key, _answer({"type": "object"}))},
        f"/v1/models/{name}/metadata": {"get": _operation(f"{key}.signatures", f"Signatures of {key}", key, _answer({"type": "object"}))},
    }
    if is_only:
        paths["/predict"] = {"post": _predict(served, "predict", max_batch)}
    return paths


def _predict(served: Served, operation_id: str, max_batch: int) -> dict[str, Any]:
    if served.manifest.handler is not None and served.manifest.handler.passes_body:
        return _handled(served, operation_id)
    content = {"application/json": _plain(served, max_batch), **_files(served)}
    answer: Schema = {
        "type": "object",
        "properties": {
            "output": {"description": "What the model gave, for a body with the key `input`."},
            "model": {"type": "string"},
            "version": {"type": "string"},
            "predictions": {"type": "array", "description": "One for each item: {label, score, index}, or the output itself."},
            "request_id": {"type": "string"},
        },
        "anyOf": [{"required": ["output"]}, {"required": ["predictions"]}],
    }
    return _operation(
        operation_id, f"Ask {served.name} in the plainest form", served.name, _answer(answer, _OWN_ERROR), content, parameters=[_TOP]
    )


def _handled(served: Served, operation_id: str) -> dict[str, Any]:
    """A handler without a signature reads and writes what it likes."""
    responses = {"200": {"description": "What the handler answers."}, "default": _OWN_ERROR}
    return _operation(operation_id, f"Ask {served.name}", served.name, responses, {"application/json": {"schema": {}}})


def _plain(served: Served, max_batch: int) -> dict[str, Any]:
    specs, kinds = served.signature().inputs, media.kinds_of(served.manifest)
    if len(specs) > 1:
        batch = schemas.record(served.signature(), max_rows=max_batch)
        item = schemas.record(served.signature(), dropped=1)
        example: Any = {spec.name: schemas.example(spec, kinds.get(spec.name, "")) for spec in specs}
        is_whole = None not in example.values()
    else:
        batch = schemas.nested(specs[0], schemas.element(specs[0].dtype), max_rows=max_batch)
        item = schemas.nested(specs[0], schemas.element(specs[0].dtype), dropped=1)
        example = schemas.example(specs[0], kinds.get(specs[0].name, ""))
        is_whole = example is not None
    value = {"anyOf": [batch, item]} if all(spec.shape for spec in specs) else batch
    schema = {"type": "object", "properties": {"input": value}, "required": ["input"]}
    return {"schema": schema, **({"example": {"input": example}} if is_whole else {})}


def _files(served: Served) -> dict[str, Any]:
    """A form, and a body that is one file, for a model with one input of strings."""
    specs = served.signature().inputs
    if len(specs) > 1 or specs[0].dtype != "string":
        return {}
    file: Schema = {"type": "string", "format": "binary"}
    form = {
        "schema": {
            "type": "object",
            "properties": {"file": {"type": "array", "items": file, "minItems": 1, "maxItems": 16}},
            "required": ["file"],
        }
    }
    kind = media.kinds_of(served.manifest).get(specs[0].name, "")
    return {"multipart/form-data": form, **{name: {"schema": file} for name in _FILE_MEDIA.get(kind, ("application/octet-stream",))}}


def _tf_predict(served: Served, max_batch: int) -> dict[str, Any]:
    signature, kinds = served.signature(), media.kinds_of(served.manifest)
    specs = signature.inputs
    if len(specs) > 1:
        row = schemas.record(signature, dropped=1)
        values = [schemas.example(spec, kinds.get(spec.name, ""), dropped=1) for spec in specs]
        example: Any = None if None in values else {spec.name: value for spec, value in zip(specs, values, strict=True)}
    else:
        row = schemas.nested(specs[0], schemas.element(specs[0].dtype), dropped=1)
        example = schemas.example(specs[0], kinds.get(specs[0].name, ""), dropped=1)
    rows = {"type": "array", "items": row, "minItems": 1, "maxItems": _rows(specs, max_batch)}
    schema = {"type": "object", "properties": {"instances": rows}, "required": ["instances"]}
    content = {"application/json": {"schema": schema, **({"example": {"instances": [example]}} if example is not None else {})}}
    answer = {"type": "object", "properties": {"predictions": {"type": "array"}}, "required": ["predictions"]}
    return _operation(
        f"{served.name}.tf_predict", f"Ask {served.name} as TensorFlow Serving is asked", served.name, _answer(answer), content
    )


def _rows(specs: tuple[TensorSpec, ...], max_batch: int) -> int:
    first = specs[0].shape[0] if specs[0].shape else max_batch
    return first if isinstance(first, int) else max_batch


def _infer(served: Served, max_batch: int) -> dict[str, Any]:
    signature, kinds = served.signature(), media.kinds_of(served.manifest)
    count = len(signature.inputs)
    inputs = {
        "type": "array",
        "items": {"anyOf": [_tensor(spec) for spec in signature.inputs]} if count > 1 else _tensor(signature.inputs[0]),
        "minItems": count,
        "maxItems": count,
    }
    schema = {
        "type": "object",
        "properties": {"id": {"type": "string", "maxLength": 256}, "inputs": inputs},
        "required": ["inputs"],
    }
    tensors = [_example_tensor(spec, kinds.get(spec.name, "")) for spec in signature.inputs]
    content = {"application/json": {"schema": schema, **({"example": {"inputs": tensors}} if None not in tensors else {})}}
    answer = {
        "type": "object",
        "properties": {
            "model_name": {"const": served.name},
            "model_version": {"type": "string"},
            "outputs": {"type": "array", "items": {"type": "object", "required": ["name", "datatype", "shape"]}},
        },
        "required": ["model_name", "outputs"],
    }
    return _operation(f"{served.name}.infer", f"Ask {served.name} by the Open Inference Protocol", served.name, _answer(answer), content)


def _tensor(spec: TensorSpec) -> Schema:
    shape: Schema = {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 2**31 - 1}}
    if spec.shape is not None:
        dims = [{"const": dim} if isinstance(dim, int) else {"type": "integer", "minimum": 1, "maximum": 2**31 - 1} for dim in spec.shape]
        shape = {"type": "array", "prefixItems": dims, "minItems": len(dims), "maxItems": len(dims)}
    return {
        "type": "object",
        "properties": {
            "name": {"const": spec.name},
            "shape": shape,
            "datatype": {"const": dtypes.BY_NAME[spec.dtype].v2},
            "data": {"type": "array", "description": "Row by row, flat or nested; as many values as the shape has."},
        },
        "required": ["name", "shape", "datatype", "data"],
    }


def _example_tensor(spec: TensorSpec, kind: str) -> Any:
    value = schemas.example(spec, kind)
    if value is None or kind in (media.IMAGE, media.AUDIO):
        # Bytes that are no text go in a binary tensor, which is no JSON.
        return None
    shape = [dim if isinstance(dim, int) else 1 for dim in spec.shape or ()]
    return {"name": spec.name, "shape": shape, "datatype": dtypes.BY_NAME[spec.dtype].v2, "data": value if shape else [value]}


def _answer(schema: Schema, error: Schema = _FLAT_ERROR) -> dict[str, Any]:
    return {"200": {"description": "The answer.", "content": {"application/json": {"schema": schema}}}, "default": error}


def _operation(
    operation_id: str,
    summary: str,
    tag: str,
    responses: dict[str, Any],
    content: dict[str, Any] | None = None,
    parameters: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    operation: dict[str, Any] = {"operationId": operation_id, "summary": summary, "tags": [tag], "responses": responses}
    if parameters:
        operation["parameters"] = parameters
    if content:
        operation["requestBody"] = {"required": True, "content": content}
    return operation
