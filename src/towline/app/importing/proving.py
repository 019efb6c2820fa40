"""Prove a conversion: ask the source, ask what a route made of it, and let verify/parity judge."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from towline.app.importing.sealing import Candidate, Order, loaded_by
from towline.convert.made import default_of
from towline.core.errors import EngineError, ImportRefused, TowlineError
from towline.core.manifest import Bound, Signature
from towline.verify.guarded import plain
from towline.verify.independence import magnitude
from towline.verify.parity.compare import Pair, Parity, judge
from towline.verify.parity.conditioning import MOST, NUDGES, movement, nudged
from towline.verify.parity.requests import parity_requests
from towline.verify.parity.tolerance import Tolerance

if TYPE_CHECKING:
    from pathlib import Path

    from towline.app.importing.naming import Names
    from towline.convert.base import Converted, Layer
    from towline.convert.foreign.converter import Loaded
    from towline.convert.version import RecordedGolden

RUN_TIMEOUT_S = 300.0
# The source's answers are kept with the version: enough to tell how far a later one has gone, not so much that it grows by them.
MAX_KEPT_BYTES = 1 << 20
# What is looked into layer by layer: values of so many kinds at least, in so many bytes at most, because every layer's output is kept.
_VARIED = 8
_TELLING_BYTES = 1 << 20

Arrays = Mapping[str, np.ndarray]
Run = Callable[[Arrays], dict[str, np.ndarray]]


class Asked(Protocol):
    """A loaded source: convert/foreign/converter.py behind walls, or a model of the caller's own process."""

    def load(self) -> Loaded: ...
    def answer(self, inputs: Arrays, *, signature: str) -> dict[str, np.ndarray]: ...
    def convert(self, route: str) -> tuple[Path, Converted]: ...
    def layers(self, inputs: Arrays, *, signature: str) -> list[Layer]: ...
    def close(self) -> None: ...


@dataclass(frozen=True)
class Reference:
    """A request of one signature, and what the source's own framework answers."""

    signature: str
    request: dict[str, np.ndarray]
    answer: dict[str, np.ndarray]


def references(
    asked: Asked, signatures: Mapping[str, Signature], samples: Sequence[Arrays], examples: Sequence[Arrays] = ()
) -> tuple[Reference, ...]:
    """What the source answers. Of samples, those that fit are of the default signature; the others are asked what is made up, and the
    default one, where there are no samples, what the source itself gave as examples beside that.

    A made-up request that the source refuses is left out. Raises ImportRefused when none is left, or the user's own is refused.
    """
    found: list[Reference] = []
    for name, signature in signatures.items():
        own = samples if name == default_of(signatures) else ()
        said, before = "", len(found)
        known = parity_requests(signature, samples=examples) if examples and not own and name == default_of(signatures) else ()
        for place, request in enumerate((*known, *parity_requests(signature, samples=own))):
            try:
                found.append(Reference(name, request, asked.answer(request, signature=name)))
            except EngineError as error:
                if place < len(own):
                    raise ImportRefused(
                        f"The source refuses the sample; it said: {error.message}", code="SAMPLE_REFUSED", field="sample"
                    ) from None
                said = error.message
        if len(found) == before:
            raise ImportRefused(
                f"The source refused every input that was made up for signature '{name}'; it said: {said}",
                code="NOTHING_TO_COMPARE",
                hint="Give an input that the model takes: --sample FILE (.npz, .npy or .json).",
            )
    return tuple(found)


def compared(
    order: Order,
    source: Asked,
    candidate: Candidate,
    asked: Sequence[Reference],
    tolerances: Mapping[str, Tolerance],
    names: Callable[[Run], Names] | None = None,
) -> dict[str, Parity]:
    """The verdict for each signature. Raises ImportRefused when the candidate cannot be loaded or dies, EngineError when it refuses."""
    from towline.convert.version import draft_manifest

    draft = draft_manifest(candidate.copied, candidate.inspected, made=candidate.made)
    places = {name: place for place, name in enumerate(draft.signature_names)}
    judged: dict[str, Parity] = {}
    worker = loaded_by(order.start_worker, candidate.copied.folder, draft)

    def run(request: Arrays, name: str = draft.signature_names[0]) -> dict[str, np.ndarray]:
        got = worker.run(request, timeout_s=RUN_TIMEOUT_S, place=places[name])
        return {key: plain(array) for key, array in got.items()}

    try:
        called = names(run) if names is not None else None
        for name in places:
            pairs = []
            for one in asked:
                if one.signature == name and called is None:
                    pairs.append((one.request, one.answer, run(one.request, name)))
                elif one.signature == name and called is not None:
                    pairs.append((one.request, one.answer, called.answer(run(called.request(one.request)))))
            judged[name] = judge(pairs, tolerances[name])
            if not judged[name].passed and judged[name].outputs:
                judged[name] = _with_rounding(source, name, pairs, tolerances[name], judged[name])
    finally:
        worker.close()
    return judged


def _with_rounding(source: Asked, signature: str, pairs: Sequence[Pair], tolerance: Tolerance, strict: Parity) -> Parity:
    """The verdict when each request that failed is held to no less than what rounding its input does to the source; `strict` where that
    settles nothing, because it is so of most requests or does not explain the gap."""
    if len(strict.beyond) > MOST * len(pairs):
        return strict
    moved = [_moved(source, signature, *pair[:2]) if place in strict.beyond else {} for place, pair in enumerate(pairs)]
    lenient = judge(pairs, tolerance, moved)
    return replace(lenient, ill_conditioned=len(strict.beyond)) if lenient.passed else strict


def _moved(source: Asked, signature: str, request: Arrays, answer: Arrays) -> dict[str, float]:
    try:
        again = [source.answer(nudged(request, seed=seed), signature=signature) for seed in range(NUDGES)]
    except EngineError:
        again = []
    return movement(answer, again)


def explained(
    order: Order, source: Asked, candidate: Candidate, asked: Sequence[Reference], signature: str, parity: Parity, tolerance: Tolerance
) -> str:
    """Why the candidate does not answer as the source does, as far as its inputs and its layers tell."""
    from towline.app.importing.diverging import Case, Conversion, explain
    from towline.convert.version import draft_manifest

    order.say("It answers otherwise: looking for where they part")
    told = _telling(parity, [one for one in asked if one.signature == signature])
    try:
        layers = [(layer.name, layer.kind, layer.output) for layer in source.layers(told.request, signature=signature)]
    except EngineError:
        layers = []
    draft = draft_manifest(candidate.copied, candidate.inspected, made=candidate.made)
    conversion = Conversion(candidate.copied.folder, draft, signature, candidate.layers)
    return explain(conversion, Case(told.request, told.answer, layers), tolerance, order.start_worker)


def _telling(parity: Parity, asked: Sequence[Reference]) -> Reference:
    """The worst request; but where that is all zeros or ones, or large, which many causes would explain, the most varied small one."""

    def variety(request: Arrays) -> int:
        return min((len(np.unique(array[:2])) for array in request.values() if array.size > 1 and array.dtype != object), default=0)

    def is_small(request: Arrays) -> bool:
        return sum(array.nbytes for array in request.values()) <= _TELLING_BYTES

    worst = Reference("", dict(parity.worst), dict(parity.worst_reference))
    if variety(worst.request) >= _VARIED and is_small(worst.request):
        return worst
    return max((one for one in asked if is_small(one.request)), key=lambda one: variety(one.request), default=worst)


def kept_answers(asked: Sequence[Reference], default: str, tolerance: Tolerance) -> tuple[RecordedGolden, ...]:
    """The source's answers that go into the version, with the limits they were held to."""
    kept: list[RecordedGolden] = []
    left_bytes = MAX_KEPT_BYTES
    for one in asked:
        size_bytes = sum(array.nbytes for array in (*one.request.values(), *one.answer.values()))
        if one.signature != default or size_bytes > left_bytes:
            continue
        left_bytes -= size_bytes
        kept.append((one.request, one.answer, {name: _bound(tolerance.of(name), array) for name, array in one.answer.items()}))
    return tuple(kept)


def _bound(limit: Bound, answer: np.ndarray) -> Bound:
    """A limit on a share of the answer's magnitude, as one that holds for each element (core/manifest.py: Bound)."""
    return Bound(absolute=limit.absolute + limit.relative * magnitude(answer), relative=0.0)


@dataclass(frozen=True)
class Attempt:
    """A route that was tried: why it was not taken, and what was measured if it came to that."""

    route: str
    because: str = ""
    parity: Mapping[str, Parity] = field(default_factory=dict)
    error: TowlineError | None = None

    @property
    def is_strict(self) -> bool:
        """Nothing was forgiven: no request passed only because rounding its input moves the source."""
        return not any(one.ill_conditioned for one in self.parity.values())

    @property
    def distance(self) -> float:
        """How far the worst answer lies from the source's, as a multiple of what is allowed."""
        return max((one.distance for one in self.parity.values()), default=math.inf)

    def as_json(self) -> dict[str, object]:
        return {"route": self.route, "because": self.because, "parity": {name: one.as_json() for name, one in self.parity.items()}}
