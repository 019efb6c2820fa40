"""Which layers of a changed graph move the answers: where noise against the graph it came from grows most. Pure.

Noise of a tensor is sum (x - x')² / sum x² over the rows; what a layer adds is its output's noise beyond that of what it reads.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

# Of rounding in another order, and of half floats: less is nobody's fault.
LEAST_NOISE = 1e-5
MOST_LAYERS = 5
_DB_LIMIT = 200.0
# What has weights, and is changed where a graph is quantised or pruned.
PRODUCTS = frozenset(
    (
        "Conv",
        "ConvTranspose",
        "Gemm",
        "MatMul",
        "ConvInteger",
        "MatMulInteger",
        "QLinearConv",
        "QLinearMatMul",
        "MatMulNBits",
        "LSTM",
        "GRU",
    )
)


@dataclass(frozen=True)
class Layer:
    """An operator of the changed graph, in its order, by the tensors that it reads and its first output."""

    name: str
    kind: str
    inputs: tuple[str, ...]
    output: str


@dataclass(frozen=True)
class GuiltyLayer:
    """dB of the signal over the noise behind the layer and before it: the greater the fall, the guiltier."""

    name: str
    kind: str
    snr_db: float
    before_db: float

    def words(self) -> str:
        return f"{self.name} ({self.kind}): {self.snr_db:.1f} dB over the noise, {self.before_db:.1f} dB before it"


class Noise:
    """Adds up, row by row, how far tensors of both graphs lie apart."""

    def __init__(self) -> None:
        self._signal: dict[str, float] = {}
        self._noise: dict[str, float] = {}

    def add(self, first: Mapping[str, np.ndarray], second: Mapping[str, np.ndarray]) -> None:
        """Tensors of a run by name; those that only one has, or that have unlike shapes, tell nothing."""
        for name in first.keys() & second.keys():
            one, other = first[name].astype(np.float64), second[name].astype(np.float64)
            if one.shape != other.shape:
                continue
            distance = float(((one - other) ** 2).sum())
            self._signal[name] = self._signal.get(name, 0.0) + float((one**2).sum())
            # What is no number any more is no signal either.
            self._noise[name] = self._noise.get(name, 0.0) + (distance if math.isfinite(distance) else math.inf)

    def ratios(self) -> dict[str, float]:
        """Noise over signal by tensor; of one that holds only zeros nothing is said."""
        return {name: self._noise[name] / signal for name, signal in self._signal.items() if 0 < signal < math.inf}


def guilty_layers(layers: Sequence[Layer], noise: Mapping[str, float]) -> tuple[GuiltyLayer, ...]:
    """Those that add the most noise, the guiltiest first.

    What merely passes values on (an activation, a pooling) halves the signal and not the noise: what it adds is put down to the product
    before it. Tensors that nobody measured carry on the most of what made them.
    """
    carried: dict[str, float] = dict(noise)
    owners: dict[str, int] = {}
    blamed: dict[int, _Blame] = {}
    for place, one in enumerate(layers):
        loudest = max(one.inputs, key=lambda name: (carried.get(name, 0.0), name in owners), default="")
        before = carried.get(loudest, 0.0)
        owner = place if one.kind in PRODUCTS else owners.get(loudest, place)
        owners[one.output] = owner
        carried[one.output] = behind = noise.get(one.output, before)
        if behind > before:
            blame = blamed.setdefault(owner, _Blame(before))
            blame.added += behind - before
            blame.behind = max(blame.behind, behind)
    worst = sorted((one for one in blamed.items() if one[1].added > LEAST_NOISE), key=lambda one: -one[1].added)[:MOST_LAYERS]
    return tuple(
        GuiltyLayer(layers[place].name or layers[place].output, layers[place].kind, decibels(one.behind), decibels(one.before))
        for place, one in worst
    )


@dataclass
class _Blame:
    """Noise over signal before a layer, behind it at most, and what it added."""

    before: float
    behind: float = 0.0
    added: float = 0.0


def decibels(ratio: float) -> float:
    """Signal over noise; at most 200 dB either way, which stands for none at all."""
    if not ratio or not math.isfinite(ratio):
        return -_DB_LIMIT if ratio else _DB_LIMIT
    return max(-_DB_LIMIT, min(_DB_LIMIT, -10 * math.log10(ratio)))
