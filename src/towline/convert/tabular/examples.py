"""Rows as a fitted model was made for: known categories, numbers around the means it kept and about the thresholds of its trees.

Numbers from nowhere would all take the same branch of a tree, and a word from nowhere is refused by an encoder.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from towline.convert.tabular.columns import Columns
from towline.convert.tabular.entries import Entry, entries, kept, width_of

ROWS = 32
_WORDS = ("good", "bad", "the", "of", "new", "old", "a", "first")
# Of each feature, how many remembered values are drawn from.
_MOST_VALUES = 4096


def example_rows(model: Any, columns: Columns, *, rows: int = ROWS, seed: int = 0) -> dict[str, np.ndarray]:
    """Inputs of `rows` rows, by name."""
    rng = np.random.default_rng(seed)
    if columns.is_text:
        words = list(getattr(next(iter(entries(model, ()))).estimator, "vocabulary_", None) or _WORDS)
        texts = [" ".join(str(word) for word in rng.choice(words, size=6)) for _ in range(rows)]
        return {columns.specs[0].name: np.array(texts, dtype=object).reshape(rows, 1)}
    drawn = [_drawn(rng, values, rows) for values in _remembered(model, columns, width_of(model))]
    if columns.matrix:
        spec = columns.specs[0]
        return {spec.name: _typed(np.stack(drawn, axis=1), spec.dtype)}
    places = {name: place for place, name in enumerate(columns.names)} if columns.names else {}
    return {spec.name: _typed(drawn[places.get(spec.name, place)].reshape(rows, 1), spec.dtype) for place, spec in enumerate(columns.specs)}


def _drawn(rng: np.random.Generator, values: np.ndarray, rows: int) -> np.ndarray:
    """Of categories one each; of numbers remembered ones as they are, beside them, and between the least and the greatest."""
    if values.dtype.kind == "O" or not len(values):
        return rng.choice(values, size=rows) if len(values) else rng.standard_normal(rows)
    picked = rng.choice(values, size=rows).astype(np.float64)
    if values.dtype.kind in "iub":
        return picked
    spread = rng.uniform(values.min(), values.max(), size=rows)
    step = np.maximum(np.abs(picked), 1e-3) * 1e-3 * rng.choice([-1, 0, 1], size=rows)
    return np.where(rng.random(rows) < 0.5, picked + step, spread)


def _typed(array: np.ndarray, dtype: str) -> np.ndarray:
    if dtype == "string":
        return np.array([str(one) for one in array.reshape(-1)], dtype=object).reshape(array.shape)
    return np.asarray(array, dtype=np.float64).astype(dtype)


def _remembered(model: Any, columns: Columns, width: int) -> list[np.ndarray]:
    """For each feature the values that some part of the model remembers of it; empty where none does."""
    found = [np.empty(0) for _ in range(width)]
    for entry in entries(model, columns.names):
        ranges = _ranges(entry)
        for place, feature in enumerate(range(width) if entry.features is None else entry.features):
            values = kept(entry.estimator, place)
            if entry.is_vectorizer:
                values = np.array(_WORDS, dtype=object)
            if values is None and place < len(ranges):
                values = ranges[place]
            if values is not None and not len(found[feature]):
                found[feature] = values[:_MOST_VALUES]
    return found


def _ranges(entry: Entry) -> Sequence[np.ndarray]:
    """Per feature of a numeric estimator."""
    estimator = entry.estimator
    mean, scale = getattr(estimator, "mean_", None), getattr(estimator, "scale_", None)
    if mean is not None and scale is not None:
        return [np.array([one - 2 * by, one, one + 2 * by]) for one, by in zip(mean, scale, strict=True)]
    least, most = getattr(estimator, "data_min_", None), getattr(estimator, "data_max_", None)
    if least is not None and most is not None:
        return [np.array([one, other], dtype=np.float64) for one, other in zip(least, most, strict=True)]
    for attribute in ("_fit_X", "support_vectors_", "cluster_centers_", "center_", "statistics_"):
        rows = getattr(estimator, attribute, None)
        if isinstance(rows, np.ndarray) and rows.ndim <= 2 and rows.dtype.kind in "fi":
            return list(np.atleast_2d(rows).astype(np.float64).T)
    mapper = getattr(estimator, "_bin_mapper", None)
    if mapper is not None:
        return [np.asarray(thresholds, dtype=np.float64) for thresholds in mapper.bin_thresholds_]
    booster = getattr(estimator, "booster_", None)
    return _booster_ranges(booster) if booster is not None else _thresholds(estimator)


def _booster_ranges(booster: Any) -> Sequence[np.ndarray]:
    dumped = booster.dump_model(num_iteration=1)
    infos = dumped.get("feature_infos", {})
    found = []
    for name in dumped["feature_names"]:
        info = infos.get(name, {})
        categories = np.array(info.get("values") or [], dtype=np.int64)
        found.append(categories if len(categories) else np.array([info.get("min_value", -1.0), info.get("max_value", 1.0)]))
    return found


def _thresholds(estimator: Any) -> Sequence[np.ndarray]:
    """Of one tree or many."""
    members = getattr(estimator, "estimators_", [estimator])
    trees = [member.tree_ for member in np.asarray(members, dtype=object).reshape(-1) if hasattr(member, "tree_")]
    if not trees:
        return []
    features = np.concatenate([tree.feature for tree in trees])
    thresholds = np.concatenate([tree.threshold for tree in trees])
    return [np.unique(thresholds[features == feature]) for feature in range(trees[0].n_features)]
