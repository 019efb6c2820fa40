"""The passes that train without changing the graph: fine-tuning, and sparse weights. Their settings and what follows from these alone; the
training itself is in training/, in the environment `torch`.

Sparse weights, each way up to the same share of zeros, are trained on with those zeros held:
    magnitude   ever more of the smallest weights cut while it trains; after step t of n the share is s (1 - (1 - t / n)³)
                (Zhu & Gupta 2017, "To prune, or not to prune")
    l1          trained with an L1 penalty first, then the smallest cut (Han et al. 2015, "Learning both Weights and Connections")
    l0          a gate on every weight, trained to be shut as often as the share asks (Louizos et al. 2018, "Learning Sparse Neural Networks
                through L0 Regularization"); then the weights of the least open gates cut
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from towline.optimize.base import Material, Passed, PassFailed
from towline.optimize.training.settings import Training

How = Literal["magnitude", "l1", "l0"]
Scope = Literal["global", "layer"]
# A graph that was trained already is tuned gently.
TUNING = Training(epochs=3, rate=3e-4)
# One that loses weights has more to make up for.
PRUNING = Training(epochs=6, rate=1e-3)
# What is looked for first, where zeros are asked for.
SHARES = (0.5, 0.8, 0.9)


@dataclass(frozen=True)
class Finetune:
    """Train the graph on as it is: on the truth, on a teacher's answers at `temperature`, or on both, `alpha` of it the teacher's."""

    training: Training = TUNING
    temperature: float = 4.0
    alpha: float = 0.5

    name = "fine-tune"
    environment = "torch"

    @property
    def settings(self) -> str:
        return str(self.training)

    def run(self, model: Path, into: Path, material: Material) -> Passed:
        rows_of(material)
        from towline.optimize.training.tuning import finetune

        return finetune(self, model, into, material)


@dataclass(frozen=True)
class Sparse:
    """Make `share` (0 to 1) of the weights zero, of all together or of each layer, and train the rest to make up for it.

    Zeros come in the first `ramp` (0 to 1) of the epochs. `penalty` is that of l1. Saves bytes where files are compressed, and no time.
    """

    share: float = 0.8
    how: How = "magnitude"
    scope: Scope = "global"
    ramp: float = 0.5
    penalty: float = 0.1
    training: Training = PRUNING
    temperature: float = 4.0
    alpha: float = 0.5

    name = "sparse"
    environment = "torch"

    @property
    def settings(self) -> str:
        words = [f"{100 * self.share:g} % zeros by {self.how}", "of all weights" if self.scope == "global" else "of each layer"]
        words += [f"penalty {self.penalty:g}"] if self.how == "l1" else []
        return ", ".join([*words, str(self.training)])

    def run(self, model: Path, into: Path, material: Material) -> Passed:
        rows_of(material)
        if not (0 < self.share < 1 and 0 < self.ramp < 1):
            raise PassFailed(f"A share of zeros and a ramp lie between 0 and 1, not at {self.share:g} and {self.ramp:g}.")
        if self.training.epochs < 2:
            raise PassFailed("Sparse weights need two epochs at least: one to make zeros, one to make up for them.")
        from towline.optimize.training.sparsity import make_sparse

        return make_sparse(self, model, into, material)


def sparsities(training: Training | None = None) -> tuple[Sparse, ...]:
    """Ever more zeros by magnitude, which needs no luck with a penalty."""
    base = Sparse() if training is None else Sparse(training=training)
    return tuple(replace(base, share=share) for share in SHARES)


def rows_of(material: Material) -> Path:
    """Where the rows to train on are. Raises PassFailed when there are none, before a framework is loaded."""
    if material.rows is None:
        raise PassFailed("Training needs rows to learn from.", hint="Give some: --train PATH.")
    return material.rows


def ramp_epochs(epochs: int, ramp: float) -> int:
    """How many of the epochs bring zeros; the others, one at least, make up for them."""
    return min(max(1, round(epochs * ramp)), epochs - 1)


def share_after(step: int, steps: int, share: float) -> float:
    """The share of zeros after this step of `steps`, all of it at the last one: steep at first, when many weights say little."""
    return share * (1 - (1 - min(step, steps) / steps) ** 3)
