"""Take whole channels out of a graph, and train what is left until it is right again: fewer multiplications, and so really faster."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from towline.optimize.base import Material, Passed, PassFailed
from towline.optimize.train import rows_of
from towline.optimize.training.settings import Training

Importance = Literal["magnitude", "taylor"]
# Blocks of channels that ONNX Runtime computes at once, or a whole number of them.
MULTIPLE = 16
TRAINING = Training()


@dataclass(frozen=True)
class Prune:
    """Structured pruning along dependencies (Fang et al. 2023, "DepGraph: Towards Any Structural Pruning").

    `ratio` of the channels goes, 0 to 0.95, in `steps` with a training after each. `importance` says which: "magnitude", those with the
    smallest weights (Li et al. 2017), or "taylor", those without which the loss would change least (Molchanov et al. 2019). With `guided`
    each layer is tried alone first, and the guilty keep more, for the same multiply-adds; `layers` gives ratios of layers by the name of
    their operator. Widths are multiples of `multiple` where a layer has at least twice that. With a teacher's answers the training distils.
    """

    ratio: float = 0.5
    importance: Importance = "magnitude"
    steps: int = 1
    guided: bool = False
    layers: tuple[tuple[str, float], ...] = ()
    multiple: int = MULTIPLE
    training: Training = TRAINING
    temperature: float = 4.0
    alpha: float = 0.5

    name = "prune"
    environment = "torch"

    @property
    def settings(self) -> str:
        words = [f"{self.ratio:.0%} of the channels by {self.importance}"]
        words += [f"in {self.steps} steps"] if self.steps > 1 else []
        words += ["guided by sensitivity"] if self.guided else []
        words += [f"{len(self.layers)} layer{'s'[: len(self.layers) != 1]} by hand"] if self.layers else []
        return f"{', '.join(words)}; {self.training}"

    def run(self, model: Path, into: Path, material: Material) -> Passed:
        for ratio in (self.ratio, *(one for _, one in self.layers)):
            if not 0 <= ratio <= 0.95:
                raise PassFailed(f"A ratio of {ratio:g} cannot be pruned: it is the share of channels that goes, 0 to 0.95.")
        if self.steps < 1 or self.multiple < 1:
            raise PassFailed("Pruning takes at least one step, and widths that are a multiple of at least 1.")
        rows_of(material)
        # In the environment that has PyTorch.
        from towline.optimize.training.narrowing import narrow

        return narrow(self, model, into, material)


def prunings(training: Training) -> tuple[Prune, ...]:
    """What a search should try, in order: half, then more as long as that holds, in steps where it is much; then gentler."""
    short = replace(training, epochs=max(1, training.epochs // 2))
    return (
        Prune(0.5, guided=True, training=training),
        Prune(0.7, guided=True, training=training),
        Prune(0.85, guided=True, steps=2, training=short),
        Prune(0.5, importance="taylor", training=training),
        Prune(0.25, training=training),
    )
