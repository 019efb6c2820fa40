"""Record golden requests: inputs, this version's own answers, and how far a later answer may lie from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from towline.core.manifest import Bound
from towline.verify import inputs as make_inputs
from towline.verify.contract import Runner
from towline.verify.guarded import Guarded
from towline.verify.independence import bounds_for
from towline.verify.smoke import Smoked

SINGLE_REQUESTS = 3
BATCH_ROWS = 4
# They are replayed at every load: enough to notice a wrong kernel, not so much that loading takes longer for it.
MAX_TOTAL_BYTES = 8 << 20


class Recorded(NamedTuple):
    """One golden request with its answer and, per output, a bound."""

    request: dict[str, np.ndarray]
    response: dict[str, np.ndarray]
    bounds: dict[str, Bound]


def record_golden(
    runner: Runner,
    smoked: Smoked,
    *,
    samples: Sequence[Mapping[str, np.ndarray]] = (),
    seed: int = 0,
    run_timeout_s: float = 60.0,
) -> list[Recorded]:
    """A few single rows and one small batch, of the user's samples where given. The first is kept whatever its size."""
    guarded = Guarded(runner, run_timeout_s)
    recorded: list[Recorded] = []
    left_bytes = MAX_TOTAL_BYTES
    for request in _requests(smoked, samples, np.random.default_rng(seed)):
        if recorded and _size_bytes(request) > left_bytes:
            continue
        response = guarded.run(request)
        size_bytes = _size_bytes(request) + _size_bytes(response)
        if recorded and size_bytes > left_bytes:
            continue
        left_bytes -= size_bytes
        recorded.append(Recorded(request, response, bounds_for(smoked.gaps, response)))
    return recorded


def _requests(smoked: Smoked, samples: Sequence[Mapping[str, np.ndarray]], rng: np.random.Generator) -> list[dict[str, np.ndarray]]:
    recipe = smoked.recipe
    if samples:
        return [_shortened(sample, rowwise=bool(recipe.batch)) for sample in samples[: SINGLE_REQUESTS + 1]]
    requests = [make_inputs.make(recipe, rng) for _ in range(SINGLE_REQUESTS)]
    # Where the engine took no batch, none can be replayed.
    if recipe.batch and smoked.measured.max_batch >= BATCH_ROWS:
        requests.append(make_inputs.make(recipe, rng, rows=BATCH_ROWS))
    return requests


def _shortened(sample: Mapping[str, np.ndarray], *, rowwise: bool) -> dict[str, np.ndarray]:
    return make_inputs.take(sample, slice(0, BATCH_ROWS)) if rowwise else dict(sample)


def _size_bytes(arrays: Mapping[str, np.ndarray]) -> int:
    return sum(sum(map(len, array.reshape(-1))) + 4 * array.size if array.dtype == object else array.nbytes for array in arrays.values())
