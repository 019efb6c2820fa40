"""Rows that a model is most wrong about for how little they were changed: run as passes are, though what it writes is no model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from towline.core.frames import encode_frame
from towline.optimize.base import Material, Passed, PassFailed

MOVED = "moved.bin"


@dataclass(frozen=True)
class Attack:
    """Each row goes up the gradient of its loss, at most `share` of the rows' range, in `steps`: 1 is FGSM, more are PGD. No search
    tries it; `towline test --adversarial` asks for it."""

    share: float = 0.03
    steps: int = 1

    name = "attack"
    environment = "torch"

    @property
    def settings(self) -> str:
        return f"{self.steps} step{'s'[: self.steps != 1]} within {self.share:g} of the range"

    def run(self, model: Path, into: Path, material: Material) -> Passed:
        if material.rows is None:
            raise PassFailed("Adversarial steps need rows whose classes are known.")
        if not 0 < self.share <= 1 or self.steps < 1:
            raise PassFailed(f"{self.settings}: it takes at least one step, within more than 0 and at most 1 of the range.")
        # In the environment that has PyTorch.
        from towline.optimize.training.attack import attacked

        (into / MOVED).write_bytes(encode_frame(attacked(model, material.rows, self.share, self.steps)))
        return Passed(MOVED)
