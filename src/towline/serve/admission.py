"""Whether a request may wait, and what is to be known of it before: how large it is, and with whom it may share a run."""

from __future__ import annotations

from typing import Any

from towline.core.errors import EngineError, Overloaded, TowlineError
from towline.core.inference import Request
from towline.serve.batcher import Batcher, late
from towline.serve.jobs import Job
from towline.serve.quarantine import Quarantine
from towline.serve.surroundings import SlotLimits


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


def refusal(name: str, job: Job, now: float, batcher: Batcher, limits: SlotLimits, quarantine: Quarantine) -> TowlineError | None:
    """Why a job may not join the queue of the model `name`; None when it may, for which one of lower priority may have given way."""
    if job.deadline <= now:
        return late(job)
    wait_s = batcher.wait_s(job)
    if wait_s > min(job.deadline - now, limits.max_waiting_s):
        said = f"Model '{name}' has {len(batcher)} requests waiting: another would wait {wait_s:.1f} s, longer than it may."
        return Overloaded(said, retry_after_s=wait_s)
    if quarantine.holds(job.request.inputs):
        return crashed(name)
    while len(batcher) >= limits.max_waiting_requests or batcher.waiting_bytes + job.nbytes > limits.max_waiting_bytes:
        gives_way = batcher.last_below(job.request.priority)
        full = Overloaded(f"Model '{name}' has {len(batcher)} requests waiting already.", retry_after_s=1.0)
        if gives_way is None:
            return full
        gives_way.answer(full)
    return None
