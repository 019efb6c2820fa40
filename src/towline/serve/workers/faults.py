"""What is told of a batch that could not be handed to a worker, and of an answer that could not be read. Pure."""

from __future__ import annotations

import json

from towline.core.arena import Arena
from towline.core.errors import EngineError, Kind, TowlineError
from towline.core.frames import FrameTooLarge
from towline.core.worker_messages import MAX_ERROR_BYTES, error_from

# What reading the answer of a worker that cannot be trusted may raise.
UNREADABLE = (TowlineError, ValueError, RecursionError)


def unread() -> TowlineError:
    return EngineError("The worker's answer could not be read.", code="BAD_OUTPUT")


def unwritten(error: Exception) -> TowlineError:
    """Why a batch could not be handed to the worker. Of several jobs each is then tried alone."""
    if isinstance(error, FrameTooLarge):
        return TowlineError(error.message, code="TENSORS_TOO_LARGE", kind=Kind.TOO_LARGE)
    return EngineError("The requests of a batch do not fit together.", code="BAD_BATCH")


def written_by_worker(arena: Arena, slot: int, size_bytes: int) -> TowlineError:
    """The error that a worker left in a slot of the arena in place of an answer. Raises what UNREADABLE names."""
    start = slot * arena.slot_bytes
    return error_from(json.loads(arena.outputs[start : start + min(size_bytes, MAX_ERROR_BYTES)]), EngineError)
