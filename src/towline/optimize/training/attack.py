"""Move rows along the gradient of the loss, the least that a model is most wrong by.

FGSM, one step: x' = clip(x + e sign(dL/dx)) (Goodfellow et al. 2015, "Explaining and Harnessing Adversarial Examples").
PGD, several smaller ones, each brought back to within e of x (Madry et al. 2018, "Towards Deep Learning Models Resistant to Adversarial
Attacks"). Values stay within the range of the rows.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from towline.optimize.base import PassFailed
from towline.optimize.rows import open_rows
from towline.optimize.training.batches import Batch
from towline.optimize.training.graph import Trainable, trainable
from towline.optimize.training.losses import Hard

BATCH = 64
# PGD's steps reach twice as far as it may go, so that it can turn on the way.
REACH = 2.0


def attacked(model: Path, folder: Path, share: float, steps: int) -> dict[str, np.ndarray]:
    """The rows' one float input after `steps` steps within `share` of its range. Raises PassFailed."""
    rows = open_rows(folder)
    if rows.truth is None or rows.truth.dtype.kind != "i":
        raise PassFailed("Adversarial steps need rows whose classes are known.")
    floats = [name for name, array in rows.inputs.items() if array.dtype == np.float32]
    if len(floats) != 1 or len(rows.inputs) != 1:
        raise PassFailed("Adversarial steps are taken where a model has one input of float32.")
    module = trainable(model, rows.output).eval()
    loss = Hard(module.activation)
    x = np.array(rows.inputs[floats[0]])
    low, high = float(x.min()), float(x.max())
    moved = [
        _moved(
            module,
            loss,
            torch.from_numpy(x[at : at + BATCH]),
            torch.from_numpy(np.array(rows.truth[at : at + BATCH])),
            (low, high),
            share,
            steps,
        )
        for at in range(0, len(x), BATCH)
    ]
    return {floats[0]: np.concatenate(moved)}


def _moved(module: Trainable, loss: Hard, x: Tensor, truth: Tensor, bounds: tuple[float, float], share: float, steps: int) -> np.ndarray:
    most = share * (bounds[1] - bounds[0])
    step = most if steps == 1 else REACH * most / steps
    now = x.clone()
    for _ in range(steps):
        now.requires_grad_(True)
        (slope,) = torch.autograd.grad(loss(module(now), Batch((now,), truth, {})), now)
        now = (now.detach() + step * slope.sign()).clamp(x - most, x + most).clamp(*bounds)
    return now.detach().numpy()
