"""Find the first layer where a conversion departs from its source, from the outputs of layers on both sides. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from towline.verify.parity.advice import advice, is_batch_norm, lost
from towline.verify.parity.relation import Relation, aligned, relation, share_off
from towline.verify.parity.tolerance import SHARES

# The source's layers in the order in which they ran: name, kind (class), output.
Layers = Sequence[tuple[str, str, np.ndarray]]
# A layer that a converter fused with its neighbours (convolution, batch norm, activation) has no tensor of its own.
_FUSED = 3
# Tensors that a layer is searched among; those of a deep model have few shapes, each of many tensors.
_MOST_SEARCHED = 4096


@dataclass(frozen=True)
class Divergence:
    """Where the two depart. `before` and `after` are the widest errors of the last layer that agrees and of this one, as shares of their
    magnitudes; `after` is inf where nothing in the conversion can be this layer. `last_good` is empty where only the input agrees."""

    layer: str
    kind: str
    before: float
    after: float
    last_good: str
    advice: str
    relation: str = ""

    def words(self) -> str:
        """Two sentences for a message."""
        agreed = f"'{self.last_good[:128]}' still agrees" if self.last_good else "no layer before it can be compared"
        off = (
            f"is off by {100 * self.after:.2g} % of its magnitude" if math.isfinite(self.after) else "has no counterpart in the conversion"
        )
        more = f" (its output {self.relation})" if self.relation else ""
        return (
            f"The first layer that departs is '{self.layer[:128]}' ({self.kind[:64]}): it {off}{more}; {agreed}. Look at the {self.advice}."
        )


@dataclass(frozen=True)
class _Known:
    """The last layer that agrees."""

    off: float = 0.0
    name: str = ""
    output: np.ndarray | None = None


def first_divergence(layers: Layers, candidate: Mapping[str, np.ndarray], share: float = SHARES["float32"]) -> Divergence | None:
    """The first of `layers` whose output differs by more than `share` of its magnitude.

    `candidate` holds what the conversion gives for a layer, by the layer's name; it may have gaps, and another order of axes.
    None where all that can be compared agree.
    """
    known = _Known()
    skipped: list[tuple[str, str]] = []
    for name, kind, output in layers:
        told = aligned(output, candidate[name]) if name in candidate else None
        if told is None:
            skipped.append((name, kind))
            continue
        off = share_off(output, told)
        if off <= share:
            known, skipped = _Known(off, name, output), []
            continue
        if known.name and skipped and is_batch_norm(skipped[0][1]):
            # What comes before it is as it was, so it was not folded into that; and what comes after is wrong.
            return Divergence(*skipped[0], known.off, math.inf, known.name, lost(skipped[0][1]))
        if known.output is not None and told.shape == known.output.shape and share_off(known.output, told) <= share:
            return Divergence(name, kind, known.off, off, known.name, lost(kind), "is its input, unchanged")
        how = relation(output, told, share)
        return Divergence(name, kind, known.off, off, known.name, advice(kind, how), how.words if how else "")
    return None


def first_unmatched(layers: Layers, tensors: Sequence[np.ndarray], share: float = SHARES["float32"]) -> Divergence | None:
    """The same where nobody knows which tensor of the conversion is which layer: a layer agrees when any tensor equals its output.

    A layer or two without a counterpart are no divergence, because converters fuse neighbours; a run of them that does not end is.
    """
    searched = _by_size(tensors[:_MOST_SEARCHED])
    offs = [min((off for off, _ in _near(output, searched)), default=math.inf) for _, _, output in layers]
    start = _long_run([off <= share for off in offs])
    if start is None:
        return None
    good = max((place for place in range(start) if offs[place] <= share), default=None)
    known = _Known(offs[good], layers[good][0]) if good is not None else _Known()
    unlike = _by_size([array for array in tensors[:_MOST_SEARCHED] if not _is_any(array, layers, share)])
    name, kind, output = layers[start]
    explained = list(_explained(layers[start : start + _FUSED], unlike, share))
    if explained:
        (name, kind, _), how, off = _to_blame(explained)
        return Divergence(name, kind, known.off, off, known.name, advice(kind, how), how.words)
    if is_batch_norm(kind) and good == start - 1:
        # A batch norm that is there but wrong gives each channel times a number, which would have been found.
        return Divergence(name, kind, known.off, math.inf, known.name, lost(kind))
    after = min((off for off, _ in _near(output, unlike)), default=math.inf)
    return Divergence(name, kind, known.off, after, known.name, advice(kind))


_BySize = Mapping[int, Sequence[np.ndarray]]


def _by_size(tensors: Sequence[np.ndarray]) -> _BySize:
    found: dict[int, list[np.ndarray]] = {}
    for array in tensors:
        if array.dtype.kind == "f":
            found.setdefault(array.size, []).append(array)
    return found


def _near(output: np.ndarray, tensors: _BySize) -> Iterator[tuple[float, np.ndarray]]:
    """Tensors that may be this output, each in its layout, with how far they are off."""
    for array in tensors.get(output.size, ()):
        told = aligned(output, array)
        if told is not None:
            yield share_off(output, told), told


def _is_any(array: np.ndarray, layers: Layers, share: float) -> bool:
    return any(off <= share for _, _, output in layers for off, _ in _near(output, {array.size: [array]}))


def _long_run(agrees: Sequence[bool]) -> int | None:
    """Where the first run of layers that do not agree begins which is longer than fused neighbours are, or does not end."""
    start = None
    for place, does in enumerate(agrees):
        if does:
            start = None
        elif start is None:
            start = place
        elif place - start >= _FUSED:
            return start
    return start


_Explained = tuple[tuple[str, str, np.ndarray], Relation, float]


def _explained(group: Layers, tensors: _BySize, share: float) -> Iterator[_Explained]:
    """What simply explains a layer of the group: the layer, how, and the widest error."""
    for layer in group:
        for off, told in _near(layer[2], tensors):
            how = relation(layer[2], told, share)
            if how is not None:
                yield layer, how, off


def _to_blame(explained: Sequence[_Explained]) -> _Explained:
    """The first; but of a convolution and a batch norm that were fused, and so have one tensor that is a multiple of both, the latter."""
    if explained[0][1].is_factors:
        return next((one for one in explained if is_batch_norm(one[0][1]) and one[1].is_factors), explained[0])
    return explained[0]
