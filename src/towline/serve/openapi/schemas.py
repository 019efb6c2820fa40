"""JSON schemas of tensors, and examples that work, from a signature. Pure.

Source: JSON Schema 2020-12, which OpenAPI 3.1 uses.
"""

from __future__ import annotations

import base64
import struct
import zlib
from typing import Any

import numpy as np

from towline.core.manifest import Signature, TensorSpec
from towline.serve.codecs import media
from towline.serve.codecs.check import MAX_RANK
from towline.serve.codecs.nested import FLOAT_BOUNDS

Schema = dict[str, Any]

# An example is for reading: no more numbers than this.
_MAX_EXAMPLE_VALUES = 64
_BASE64_TEXT = "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"
_BASE64: Schema = {
    "type": "object",
    "properties": {"b64": {"type": "string", "contentEncoding": "base64", "pattern": _BASE64_TEXT}},
    "required": ["b64"],
    "additionalProperties": False,
}


def element(dtype: str) -> Schema:
    """One element as it is sent."""
    if dtype == "bool":
        return {"type": "boolean"}
    if dtype == "string":
        return {"anyOf": [{"type": "string"}, _BASE64]}
    if dtype.startswith("float"):
        bound = FLOAT_BOUNDS[dtype] if dtype != "float64" else 1.7e308
        return {"type": "number", "exclusiveMinimum": -bound, "exclusiveMaximum": bound}
    info = np.iinfo(dtype)
    return {"type": "integer", "minimum": int(info.min), "maximum": int(info.max)}


def nested(spec: TensorSpec, inner: Schema, *, dropped: int = 0, max_rows: int = 0) -> Schema:
    """Lists as deep as the spec's rank less `dropped`; a leading symbolic dim is at most `max_rows`. Anything for an unknown rank."""
    if spec.shape is None:
        return {"description": "Lists as deep as the tensor's rank."}
    schema = inner
    for place in reversed(range(dropped, min(len(spec.shape), MAX_RANK))):
        dim = spec.shape[place]
        bounds = {"minItems": dim, "maxItems": dim} if isinstance(dim, int) else {"minItems": 1}
        if place == 0 and max_rows and isinstance(dim, str):
            bounds["maxItems"] = max_rows
        schema = {"type": "array", "items": schema, **bounds}
    return schema


def record(signature: Signature, *, dropped: int = 0, max_rows: int = 0) -> Schema:
    """An object with a value for each input."""
    properties = {spec.name: nested(spec, element(spec.dtype), dropped=dropped, max_rows=max_rows) for spec in signature.inputs}
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def example(spec: TensorSpec, kind: str = "", *, dropped: int = 0) -> Any:
    """A value of the spec that the model takes; None where that would be too long to read, or nobody knows the shape."""
    if spec.shape is None:
        return None
    dims = [dim if isinstance(dim, int) else 1 for dim in spec.shape[dropped:]]
    count = 1
    for dim in dims:
        count *= dim
    if count > _MAX_EXAMPLE_VALUES:
        return None
    value = _one(spec.dtype, kind)
    for dim in reversed(dims):
        value = [value] * dim
    return value


def _one(dtype: str, kind: str) -> Any:
    if dtype == "string":
        sample = {media.IMAGE: _picture, media.AUDIO: _sound}.get(kind)
        return {"b64": base64.b64encode(sample()).decode()} if sample else "text"
    return False if dtype == "bool" else 0.0 if dtype.startswith("float") else 0


def _picture() -> bytes:
    """A PNG of eight grey pixels by eight."""
    rows = zlib.compress((b"\0" + b"\x80" * 8) * 8)
    head = struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", rows), (b"IEND", b""))
    written = [struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(written)


def _sound() -> bytes:
    """A WAV of a sixteenth of a second of silence."""
    samples = bytes(2 * 500)
    head = b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 8000, 16_000, 2, 16) + b"data" + struct.pack("<I", len(samples))
    return b"RIFF" + struct.pack("<I", len(head) + len(samples)) + head + samples
