"""What the front and its decoder say to each other: JSON over a channel, and what may be large in a file of memory beside it.

Front to decoder   {"do": "read", "id", "target", request} + body     read this; one after the other
                   {"do": "told", "served" | "names" | "error"}       the answer to "ask"
                   {"do": "ran", "id", "name", "number"} + outputs    what a run gave; {"do": "ran", "id", "error"} when it failed
                   {"do": "forget", "id"}                             nobody waits for this one any more
Decoder to front   {"do": "hello"}
                   {"do": "ask", "what": "find" | "only" | "names", arguments}
                   {"do": "infer", "id", request} + inputs            it is read: run it
                   {"do": "decline", "id"}                            it is answered in parts, which is the front's to do
                   {"do": "reply", "id", "size", response} + body     what to answer
Of each "read" one "infer", "decline" or "reply" comes, and behind an "infer" one "reply" when it was told what that gave.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from towline.core import dtypes, errors
from towline.core.errors import Kind, TowlineError
from towline.core.frames import FrameError, read_frame, write_frame
from towline.core.inference import Request
from towline.core.manifest import decode_manifest, encode_manifest
from towline.serve.codecs.check import InputCheck, Limits
from towline.serve.contract import HttpRequest, HttpResponse, Served

_ERRORS = {
    kind.__name__: kind
    for kind in (
        errors.InvalidRequest,
        errors.NotFound,
        errors.Overloaded,
        errors.Unavailable,
        errors.DeadlineExceeded,
        errors.EngineError,
        errors.Conflict,
    )
}


def request_message(request: HttpRequest) -> dict[str, Any]:
    """Without its body."""
    return {
        "method": request.method,
        "headers": [(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers],
        "received_s": request.received_s,
        "request_id": request.id.decode("latin-1"),
        "peer": request.peer,
    }


def request_from(message: Mapping[str, Any], path: str, query: str, body: bytes) -> HttpRequest:
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in message["headers"]]
    peer = None if message["peer"] is None else (message["peer"][0], message["peer"][1])
    id = message["request_id"].encode("latin-1")
    return HttpRequest(message["method"], path, query, headers, body, message["received_s"], id, peer=peer)


def response_message(response: HttpResponse) -> dict[str, Any]:
    """Without its body."""
    return {
        "size": response.size,
        "status": response.status,
        "content_type": response.content_type.decode("latin-1"),
        "headers": [(name.decode("latin-1"), value.decode("latin-1")) for name, value in response.headers],
        "refusal": response.refusal,
    }


def response_from(message: Mapping[str, Any], body: bytes) -> HttpResponse:
    headers = tuple((name.encode("latin-1"), value.encode("latin-1")) for name, value in message["headers"])
    return HttpResponse(int(message["status"]), body, message["content_type"].encode("latin-1"), headers, refusal=str(message["refusal"]))


def asked_message(request: Request) -> dict[str, Any]:
    """Without its inputs."""
    return {
        "deadline": request.deadline,
        "request_id": request.id,
        "priority": request.priority,
        "outputs": request.outputs,
        "signature": request.signature,
    }


def asked_from(message: Mapping[str, Any], raw: memoryview, served: Served, limits: Limits) -> Request:
    """What the decoder read, believed no more than a worker. Raises TowlineError when it is not what the signature takes."""
    name = str(message["signature"])
    signature = served.signature(name)
    inputs = read_frame(raw, 0, len(raw))
    if [spec.name for spec in signature.inputs] != list(inputs):
        raise FrameError("The decoder gave other inputs than the signature has.")
    if any(inputs[spec.name].dtype != dtypes.BY_NAME[spec.dtype].numpy for spec in signature.inputs):
        raise FrameError("The decoder gave an input another type than the signature has.")
    rows = InputCheck(signature, limits).rows([array.shape for array in inputs.values()], list(inputs))
    deadline = None if message["deadline"] is None else float(message["deadline"])
    outputs = tuple(map(str, message["outputs"]))
    return Request(inputs, rows, deadline, str(message["request_id"]), int(message["priority"]), outputs, name)


def served_message(served: Served) -> dict[str, Any]:
    return {
        "name": served.name,
        "number": served.number,
        "digest": served.digest,
        "manifest": encode_manifest(served.manifest).decode(),
        "labels": served.labels,
    }


def manifest_from(message: Mapping[str, Any]) -> Any:
    return decode_manifest(message["manifest"].encode())


def error_message(error: TowlineError) -> dict[str, Any]:
    """All that a protocol's answer is made of: the decoder's must be the one that the front would give."""
    return {
        "type": type(error).__name__,
        "message": error.message,
        "code": error.code,
        "kind": error.kind.value,
        "field": error.field,
        "hint": error.hint,
        "retry_after_s": error.retry_after_s,
        "is_counted": error.is_counted,
    }


def error_from(message: Mapping[str, Any]) -> TowlineError:
    words = {name: message[name] for name in ("code", "field", "hint", "retry_after_s")}
    error = _ERRORS.get(message["type"], TowlineError)(message["message"], kind=Kind(message["kind"]), **words)
    error.is_counted = bool(message["is_counted"])
    return error


def tensors_file(tensors: Mapping[str, np.ndarray]) -> tuple[int, int]:
    """The arrays as a frame in a file of memory: its descriptor, which the caller closes, and its size in bytes."""
    room = 4096 + sum(_room(name, array) for name, array in tensors.items())
    file = memory_file(room)
    with mmap.mmap(file, room) as buffer:
        size = write_frame(buffer, 0, room, [(name, (array,)) for name, array in tensors.items()])
    return file, size


def _room(name: str, array: np.ndarray) -> int:
    """Bytes that an array may take in a frame."""
    if array.dtype != object:
        return len(name.encode()) + 512 + array.nbytes
    # A text of n characters has at most 4 n bytes.
    return len(name.encode()) + 512 + sum(4 + (len(one) if isinstance(one, bytes) else 4 * len(str(one))) for one in array.reshape(-1))


def memory_file(size: int) -> int:
    file = os.memfd_create("towline-decoder", os.MFD_CLOEXEC)
    os.ftruncate(file, size)
    return file
