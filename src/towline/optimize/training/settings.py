"""How a training goes: one frozen value, shared by every pass that trains. Loads no framework."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Optimizer = Literal["sgd", "momentum", "adagrad", "adam", "adamw"]
Schedule = Literal["constant", "step", "cosine"]
Augmentation = Literal["shift", "flip", "crop", "noise", "erase"]


@dataclass(frozen=True)
class Training:
    """`rate` is the learning rate at the start, `l1` and `l2` weigh the penalties, `smoothing` is that of labels (Szegedy et al. 2016).
    After `patience` epochs without a better validation the best weights are taken; 0 never stops early. Equal seeds give equal weights.
    """

    epochs: int = 5
    batch: int = 128
    optimizer: Optimizer = "adam"
    rate: float = 1e-3
    schedule: Schedule = "cosine"
    l1: float = 0.0
    l2: float = 0.0
    smoothing: float = 0.0
    augment: tuple[Augmentation, ...] = ()
    patience: int = 0
    seed: int = 0

    def __str__(self) -> str:
        words = [
            f"{self.epochs} epoch{'s'[: self.epochs != 1]}",
            f"{self.optimizer} {self.rate:g}",
            self.schedule,
            f"batches of {self.batch}",
        ]
        words += [f"{name} {value:g}" for name, value in (("L1", self.l1), ("L2", self.l2), ("smoothing", self.smoothing)) if value]
        words += [*self.augment, *([f"patience {self.patience}"] if self.patience else [])]
        return ", ".join(words)
