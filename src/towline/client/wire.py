"""The Open Inference Protocol with its binary tensor extension, as a client speaks it. Pure."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from towline.core import dtypes
from towline.core.errors import (
    Conflict,
    DeadlineExceeded,
    EngineError,
    InvalidRequest,
    Kind,
    NotFound,
    Overloaded,
    TowlineError,
    Unavailable,
)
from towline.core.frames import FrameError, pack_strings, unpack_strings

HEADER_LENGTH = "inference-header-content-length"
MAX_RANK = 16
_CODE = re.compile(r"[A-Z][A-Z0-9_]{0,63}")


class BadAnswer(TowlineError):
    """What came back is not what the protocol promises."""

    code = "BAD_ANSWER"


@dataclass(frozen=True)
class Tensor:
    """One input or output as a server describes it; a dim of -1 is any size."""

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Metadata:
    """What a server says of a model."""

    name: str
    versions: tuple[str, ...]
    platform: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


def encode_request(tensors: Mapping[str, np.ndarray]) -> tuple[bytes, int]:
    """The body of an infer request, and how many of its bytes are JSON."""
    described, chunks = [], []
    for name, array in tensors.items():
        dtype = dtypes.of_array(array)
        assert dtype is not None, "tensors come from as_tensor, which knows no other types"
        raw = array.astype(dtype.numpy, copy=False).tobytes() if dtype.size else pack_strings(array)
        described.append({"name": name, "shape": list(array.shape), "datatype": dtype.v2, "parameters": {"binary_data_size": len(raw)}})
        chunks.append(raw)
    head = json.dumps({"inputs": described, "parameters": {"binary_data_output": True}}, separators=(",", ":")).encode()
    return b"".join([head, *chunks]), len(head)


def decode_answer(body: bytes, header_length: str | None) -> dict[str, np.ndarray]:
    """The outputs by name, writable copies; strings as object arrays of bytes. Raises BadAnswer."""
    if header_length is not None and not (header_length.isascii() and header_length.isdigit() and int(header_length) <= len(body)):
        raise BadAnswer(f"The answer's {HEADER_LENGTH} is {header_length[:32]!r}, and the answer has {len(body)} bytes.")
    head_bytes = int(header_length) if header_length is not None else len(body)
    outputs: dict[str, np.ndarray] = {}
    at = head_bytes
    for described in _list(_json(body[:head_bytes]), "outputs"):
        name, dtype, shape = _described(described)
        size = (described.get("parameters") or {}).get("binary_data_size")
        if size is None:
            outputs[name] = _from_json(name, dtype, shape, described.get("data"))
            continue
        if not isinstance(size, int) or not 0 <= size <= len(body) - at:
            raise BadAnswer(f"Output '{name}' says it has {size} bytes, {len(body) - at} are left.")
        outputs[name] = _from_bytes(name, dtype, shape, body[at : at + size])
        at += size
    if at != len(body):
        raise BadAnswer(f"{len(body) - at} bytes are left after the last output.")
    return outputs


def decode_metadata(body: bytes) -> Metadata:
    found = _json(body)
    versions = tuple(str(version) for version in found.get("versions") or ())
    return Metadata(
        str(found.get("name", "")),
        versions,
        str(found.get("platform", "")),
        tuple(_tensor(described) for described in _list(found, "inputs")),
        tuple(_tensor(described) for described in _list(found, "outputs")),
    )


def decode_names(body: bytes) -> tuple[str, ...]:
    """The names in `{"models": [...]}`, given as strings or as objects with a name."""
    return tuple(str(item.get("name", "")) if isinstance(item, dict) else str(item) for item in _list(_json(body), "models"))


def error_of(status: int, body: bytes, retry_after: str | None) -> TowlineError:
    """What a server's refusal means, as the error the server itself would have raised."""
    message, code, field = _told(body)
    message = message or f"The server answered {status}."
    more: dict[str, Any] = {"code": code, "field": field, "retry_after_s": retry_after_s(retry_after)}
    if status in (400, 422):
        return InvalidRequest(message, **more)
    if status == 404:
        return NotFound(message, **more)
    if status == 409:
        return Conflict(message, **more)
    if status in (408, 504):
        return DeadlineExceeded(message, **more)
    if status == 429:
        return Overloaded(message, **more)
    if status == 503:
        return Unavailable(message, **more)
    kind = _KINDS.get(status, Kind.INVALID if 400 <= status < 500 else Kind.INTERNAL)
    return InvalidRequest(message, kind=kind, **more) if status < 500 else EngineError(message, kind=kind, **more)


_KINDS = {
    401: Kind.UNAUTHENTICATED,
    403: Kind.DENIED,
    405: Kind.WRONG_METHOD,
    413: Kind.TOO_LARGE,
    415: Kind.UNSUPPORTED_MEDIA,
    501: Kind.UNSUPPORTED,
    507: Kind.OUT_OF_MEMORY,
}


def retry_after_s(value: str | None) -> float | None:
    """Seconds from a Retry-After header; None when it is absent, a date, or no sensible number."""
    try:
        seconds = float(value) if value is not None else math.nan
    except ValueError:
        return None
    return seconds if 0 <= seconds < math.inf else None


def _told(body: bytes) -> tuple[str, str, str]:
    """Message, code and field of an error body: a string, or an object, under "error"."""
    try:
        found = json.loads(body[: 64 << 10])
    except (ValueError, RecursionError):
        return "", "", ""
    error = found.get("error") if isinstance(found, dict) else None
    beside = error if isinstance(error, dict) else found if isinstance(found, dict) else {}
    message = error if isinstance(error, str) else str(beside.get("message", ""))
    code, field = str(beside.get("code", "")), str(beside.get("field", ""))
    return message[:2048], code if _CODE.fullmatch(code) else "", field[:128]


def _json(raw: bytes) -> dict[str, Any]:
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise BadAnswer("The answer is not JSON.", hint="Is this the address of a Towline server?") from error
    if not isinstance(found, dict):
        raise BadAnswer("The answer is not a JSON object.", hint="Is this the address of a Towline server?")
    return found


def _list(found: dict[str, Any], name: str) -> list[Any]:
    value = found.get(name)
    if not isinstance(value, list):
        raise BadAnswer(f"The answer has no list '{name}'.")
    return value


def _tensor(described: Any) -> Tensor:
    name, dtype, shape = _described(described)
    return Tensor(name, dtype.name, shape)


def _described(described: Any) -> tuple[str, dtypes.DType, tuple[int, ...]]:
    shape = described.get("shape") if isinstance(described, dict) else None
    if not isinstance(shape, list) or len(shape) > MAX_RANK or not all(isinstance(dim, int) and dim >= -1 for dim in shape):
        raise BadAnswer("A tensor of the answer has no shape.")
    dtype = dtypes.BY_V2.get(str(described.get("datatype")))
    if dtype is None:
        raise BadAnswer(f"Tensor '{str(described.get('name'))[:64]}' has a type this client does not know.")
    return str(described.get("name", "")), dtype, tuple(shape)


def _from_bytes(name: str, dtype: dtypes.DType, shape: tuple[int, ...], raw: bytes) -> np.ndarray:
    count = math.prod(shape)
    if not dtype.size:
        try:
            return unpack_strings(raw, count).reshape(shape)
        except FrameError as error:
            raise BadAnswer(f"Output '{name}': {error.message}") from error
    if count < 0 or count * dtype.size != len(raw):
        raise BadAnswer(f"Output '{name}' has {len(raw)} bytes, its shape {list(shape)} needs {count * dtype.size}.")
    return np.frombuffer(raw, dtype.numpy).reshape(shape).copy()


def _from_json(name: str, dtype: dtypes.DType, shape: tuple[int, ...], values: Any) -> np.ndarray:
    try:
        if not dtype.size:
            flat = np.empty(math.prod(shape), dtype=object)
            flat[:] = [text.encode() for text in np.asarray(values, dtype=object).reshape(-1)]
            return flat.reshape(shape)
        return np.asarray(values, dtype.numpy).reshape(shape)
    except (ValueError, TypeError, OverflowError, AttributeError) as error:
        raise BadAnswer(f"Output '{name}' does not have the values its shape {list(shape)} tells.") from error
