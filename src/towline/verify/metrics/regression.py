"""Figures of a regressor from its answers and the true values. Pure. Definitions are those of scikit-learn's user guide."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

# Shares of values next to zero would be anything: they are left out of the relative error.
_NEAR_ZERO = 1e-12


@dataclass(frozen=True)
class Regressed:
    """Errors are answer minus truth, in the units of the truth. `relative_error` is the mean of |error| / |truth| over values that
    are not zero; `r2` is NaN where the truth does not vary."""

    rows: int
    mae: float
    relative_error: float
    rmse: float
    bias: float
    error_variance: float
    worst: float
    r2: float


def regressed(answers: np.ndarray, truth: np.ndarray) -> Regressed:
    """Both float, of one shape [rows, …]; every element counts alike."""
    told, true = answers.astype(np.float64).reshape(-1), truth.astype(np.float64).reshape(-1)
    errors = told - true
    spread = float(((true - true.mean()) ** 2).sum())
    telling = np.abs(true) > _NEAR_ZERO
    return Regressed(
        rows=len(answers),
        mae=float(np.abs(errors).mean()),
        relative_error=float((np.abs(errors[telling]) / np.abs(true[telling])).mean()) if telling.any() else math.nan,
        rmse=float(np.sqrt((errors**2).mean())),
        bias=float(errors.mean()),
        error_variance=float(errors.var()),
        worst=float(np.abs(errors).max()),
        r2=1.0 - float((errors**2).sum()) / spread if spread else math.nan,
    )
