"""Quantisation-aware training: what int8 lost is learnt back with the roundings in place, and the graph stays the one that int8 wrote."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from towline.optimize.base import Material, Passed, PassFailed
from towline.optimize.training.settings import Training

# Beside what int8 writes: the same graph before its weights were rounded, where training starts.
FLOATS = "floats.onnx"


@dataclass(frozen=True)
class Qat:
    """Follows Int8 in a chain. `alpha` weighs the teacher's answers, at this temperature, against the truth.

    `ranges` of activations are learnt along, or stay as calibrated; those of weights follow the weights.
    """

    training: Training = field(default_factory=lambda: Training(epochs=3, rate=5e-4))
    temperature: float = 2.0
    alpha: float = 0.5
    ranges: Literal["learnt", "calibrated"] = "learnt"

    name = "qat"
    environment = "torch"

    @property
    def settings(self) -> str:
        return f"{self.training}, ranges {self.ranges}, teacher {self.alpha:g} at {self.temperature:g}"

    def run(self, model: Path, into: Path, material: Material) -> Passed:
        if material.rows is None:
            raise PassFailed("Quantisation-aware training needs rows to train on.", hint="Give some: --train PATH.")
        from towline.optimize.training.quantized import train_quantized

        return train_quantized(self, model, into, material)


def quantisation_trainings() -> tuple[Qat, ...]:
    """What a search should try after an int8 that is fast and loses too much, in this order: ever longer."""
    return tuple(Qat(Training(epochs=epochs, rate=rate)) for epochs, rate in ((2, 5e-4), (6, 1e-3)))
