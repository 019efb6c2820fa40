"""Try a handler that declares no signature with the one body it gave as an example: does it answer, and the same again?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from towline.core.cpu import cpu_kind
from towline.core.errors import EngineError, ImportRefused
from towline.core.frames import pack_strings
from towline.core.manifest import Bound, Measured
from towline.verify.contract import Runner
from towline.verify.guarded import Guarded

_REPEATS = 2
_MEMORY_STEP_BYTES = 16 << 20

Golden = tuple[Mapping[str, np.ndarray], Mapping[str, np.ndarray], Mapping[str, Bound]]


@dataclass(frozen=True)
class Tried:
    """What was measured, the golden requests that follow from it, and sentences for the report."""

    measured: Measured
    golden: tuple[Golden, ...]
    notes: tuple[str, ...]


def try_body(runner: Runner, name: str, body: bytes | None, *, max_batch: int, is_repeatable: bool, run_timeout_s: float = 60.0) -> Tried:
    """Send `body` as the input `name`, more than once where `is_repeatable`. Without a body nothing is run, and the notes say so."""
    guarded = Guarded(runner, run_timeout_s)
    if body is None:
        return Tried(_measured(guarded, max_batch, deterministic=False), (), ("It was not tried: it declares no signature and no sample.",))
    request = {name: np.array([body], dtype=object)}
    try:
        answers = [guarded.run(request) for _ in range(1 + _REPEATS if is_repeatable else 1)]
    except EngineError as error:
        raise ImportRefused(
            f"The handler fails on its own sample: {error.message}",
            code="SAMPLE_REFUSED",
            field="sample",
            hint="What it wrote to the log is above. Correct the handler, or its sample.",
        ) from None
    first = {output: pack_strings(array) for output, array in answers[0].items()}
    deterministic = all({output: pack_strings(array) for output, array in answer.items()} == first for answer in answers)
    notes = () if is_repeatable else ("It keeps state: it was tried once, and no golden request was recorded.",)
    golden: tuple[Golden, ...] = ((request, answers[0], {}),) if is_repeatable else ()
    return Tried(_measured(guarded, max_batch, deterministic=deterministic and is_repeatable), golden, notes)


def _measured(runner: Guarded, max_batch: int, *, deterministic: bool) -> Measured:
    loaded_bytes = runner.memory_bytes()
    peak_bytes = max(runner.peak_memory_bytes(), loaded_bytes)
    return Measured(cpu_kind(), deterministic, _rounded(loaded_bytes), _rounded(peak_bytes), max_batch)


def _rounded(size_bytes: int) -> int:
    return -(-max(size_bytes, 1) // _MEMORY_STEP_BYTES) * _MEMORY_STEP_BYTES
