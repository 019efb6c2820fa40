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
    """Those that add the most noise, the guiltiest first. Tensors nobody measured carry on the most of what made them."""
    carried: dict[str, float] = {}
    added: list[tuple[float, GuiltyLayer]] = []
    for one in layers:
        before = max((carried.get(name, 0.0) for name in one.inputs), default=0.0)
        carried[one.output] = behind = noise.get(one.output, before)
        if one.output in noise and behind - before > LEAST_NOISE:
            added.append((behind - before, GuiltyLayer(one.name or one.output, one.kind, decibels(behind), decibels(before))))
    return tuple(layer for _, layer in sorted(added, key=lambda each: -each[0])[:MOST_LAYERS])


def decibels(ratio: float) -> float:
    """Signal over noise; at most 200 dB either way, which stands for none at all."""
    if not ratio or not math.isfinite(ratio):
        return -_DB_LIMIT if ratio else _DB_LIMIT
    return max(-_DB_LIMIT, min(_DB_LIMIT, -10 * math.log10(ratio)))
