"""How a training goes: one frozen value, shared by every pass that trains. Loads no framework."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from towline.optimize.base import PassFailed

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


def check_training(settings: Training) -> None:
    """Raises PassFailed that names the setting, its bounds and what came."""
    whole: tuple[tuple[str, int, int], ...] = (
        ("epochs", settings.epochs, 1),
        ("batch", settings.batch, 1),
        ("patience", settings.patience, 0),
    )
    for name, count, least in whole:
        if count < least:
            raise PassFailed(f"{name} is {least} or more, not {count}.")
    if not 0 < settings.rate < math.inf:
        raise PassFailed(f"rate is more than 0, not {settings.rate:g}.", hint="0.001 suits adam, 0.1 sgd.")
    for name, weight in (("l1", settings.l1), ("l2", settings.l2)):
        if not 0 <= weight < math.inf:
            raise PassFailed(f"{name} is 0 or more, not {weight:g}.")
    if not 0 <= settings.smoothing < 1:
        raise PassFailed(f"smoothing is a share, 0 or more and less than 1, not {settings.smoothing:g}.")
