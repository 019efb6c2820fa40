"""What a slot has to know of a request before it may wait: how large it is, and with whom it may share a run. Pure."""

from __future__ import annotations

from typing import Any

from towline.core.errors import EngineError
from towline.core.inference import Request


def group_of(request: Request) -> Any:
    """Requests of equal group may share a batch: all their dims but the first are equal."""
    return tuple(array.shape[1:] for array in request.inputs.values())


def has_free_dims(shape: tuple[int | str, ...] | None) -> bool:
    """Requests may differ in more than their number of rows."""
    return shape is None or any(isinstance(dim, str) for dim in shape[1:])


def bytes_with_strings(request: Request) -> int:
    """What a request takes in a frame: numpy counts a string as the pointer to it."""
    return sum(
        sum(map(len, array.reshape(-1))) + 4 * array.size if array.dtype == object else array.nbytes for array in request.inputs.values()
    )


def crashed(name: str) -> EngineError:
    return EngineError(
        f"This input makes the engine of model '{name}' crash; it is not run again for a while.",
        code="ENGINE_CRASHED",
        hint="Send another input. The model's owner finds the digest of this one in 'towline events'.",
    )
