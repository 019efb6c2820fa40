"""A bare LightGBM Booster with the methods of a fitted scikit-learn model, so that the rest need not tell them apart."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin


class BoosterModel(BaseEstimator):  # type: ignore[misc]
    """`booster_`, `objective_` and `boosting_type` are what LightGBM's converter reads."""

    def __init__(self, booster: Any) -> None:
        self.booster = booster
        self.booster_ = booster
        self.n_features_in_ = booster.num_feature()
        self.feature_names_in_ = np.array(_names(booster), dtype=object)
        self.objective_ = objective_of(booster)
        self.boosting_type = "rf" if booster.dump_model(num_iteration=1).get("average_output") else "gbdt"


class BoosterRegressor(RegressorMixin, BoosterModel):  # type: ignore[misc]
    def predict(self, table: np.ndarray) -> np.ndarray:
        return np.asarray(self.booster_.predict(table))


class BoosterClassifier(ClassifierMixin, BoosterModel):  # type: ignore[misc]
    """Tells what `lightgbm.Booster.predict` gives as classes and their probabilities."""

    def __init__(self, booster: Any) -> None:
        super().__init__(booster)
        self.n_classes_ = max(2, int(booster.dump_model(num_iteration=1)["num_class"]))
        self.classes_ = np.arange(self.n_classes_)

    def predict(self, table: np.ndarray) -> np.ndarray:
        return np.asarray(self.predict_proba(table).argmax(axis=1), dtype=np.int64)

    def predict_proba(self, table: np.ndarray) -> np.ndarray:
        answer = np.asarray(self.booster_.predict(table))
        return np.stack([1 - answer, answer], axis=1) if answer.ndim == 1 else answer


def objective_of(booster: Any) -> str:
    """`binary`, `multiclass`, `regression` …, without its settings."""
    return str(booster.dump_model(num_iteration=1).get("objective", "")).partition(" ")[0]


def as_estimator(booster: Any) -> BoosterModel:
    return BoosterClassifier(booster) if objective_of(booster).startswith(("binary", "multiclass")) else BoosterRegressor(booster)


def _names(booster: Any) -> list[str]:
    """Of the features; none where LightGBM made them up."""
    names = list(booster.feature_name())
    return [] if names == [f"Column_{place}" for place in range(len(names))] else names
