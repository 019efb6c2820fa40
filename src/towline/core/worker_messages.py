"""What front and worker say to each other. Batches: 8 bytes over the link. Everything else: JSON over the control channel.

With "start" the front may give the ends of two pipes. Each thread that reads MOVE on the link goes on with RUN and DONE there: a pipe wakes
its reader for two thirds of what a socket costs. PART stays on the link, and so does the news of a worker's end.

Control, front to worker   {"do": "load", "folder", "digest", "manifest", "device", "slots", "slot_bytes"} + 2 descriptors
                           {"do": "warm", "folder"}   {"do": "start", "threads"} (+ 2 descriptors)   {"do": "terminate", "slot"}
                           {"do": "ping"}
                           {"do": "more", "slot"} or {"do": "stop", "slot"}: the one answer to each PART
Control, worker to front   {"hello": pid}, then one answer per request in order: {"ok": {…}} or {"error": {"code", "message", "kind", …}};
                           "more" and "stop" have no answer. That of "terminate" comes once the engine was told: until then, and until the
                           run has ended, the front gives its slot to no other, so that no other can be stopped in its place.

An answer in parts: STREAM, then PART as often as there is one, then ENDED or FAILED. A part lies in the output slot until it is answered:
what the front does not ask for is not written, so that a slow client slows its model down.
"""

from __future__ import annotations

import struct
from typing import Any

from towline.core.errors import Kind, TowlineError

# slot, what, and an argument: for RUN the place of the signature in Manifest.signature_names, for DONE the microseconds of compute,
# for FAILED the bytes of the error in the output slot, for ENDED the microseconds of the whole stream.
BATCH = struct.Struct("<HHI")
RUN, DONE, FAILED = 1, 2, 3
STREAM, PART, ENDED = 4, 5, 6
MOVE = 7
MAX_ERROR_BYTES = 2048


def error_message(error: TowlineError) -> dict[str, str]:
    return {"code": error.code, "message": error.message, "kind": error.kind.value, "field": error.field, "hint": error.hint}


def error_from(message: Any, kind_of: type[TowlineError]) -> TowlineError:
    """An error a worker reported. It is not trusted: unknown kinds are internal, texts are cut."""
    fields = message if isinstance(message, dict) else {}
    try:
        kind = Kind(fields.get("kind"))
    except ValueError:
        kind = Kind.INTERNAL
    code = str(fields.get("code") or kind_of.code)[:64]
    message = str(fields.get("message", "The worker failed."))[:512]
    return kind_of(message, code=code, kind=kind, field=str(fields.get("field", ""))[:128], hint=str(fields.get("hint", ""))[:256])
