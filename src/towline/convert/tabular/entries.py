"""Which parts of a fitted model see its input, which features each takes, and what those are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from towline.core.errors import ImportRefused

_VECTORIZERS = ("CountVectorizer", "TfidfVectorizer", "HashingVectorizer")


@dataclass(frozen=True)
class Entry:
    """An estimator that sees the input itself. `features` are those that it takes, by place, None for all of them; `by_name`: it was
    given them by name, out of a data frame.
    """

    estimator: Any
    features: tuple[int, ...] | None = None
    by_name: bool = False

    @property
    def is_vectorizer(self) -> bool:
        return type(self.estimator).__name__ in _VECTORIZERS

    def dtype(self, place: int) -> str:
        """Of one of its features, by what it kept when it was fitted."""
        if self.is_vectorizer:
            return "string"
        values = kept(self.estimator, place)
        return "float32" if values is None else _dtype_of(values)


def entries(model: Any, names: tuple[str, ...], features: tuple[int, ...] | None = None, *, by_name: bool = False) -> Iterator[Entry]:
    """The estimators of `model` that see its input; `names` are its features in their order."""
    kind = type(model).__name__
    if hasattr(model, "best_estimator_"):
        yield from entries(model.best_estimator_, names, features, by_name=by_name)
    elif kind == "Pipeline":
        steps = [step for _, step in model.steps if step is not None and step != "passthrough"]
        yield from entries(steps[0], names, features, by_name=by_name) if steps else (Entry(model, features, by_name),)
    elif kind == "FeatureUnion":
        for _, part in model.transformer_list:
            if not isinstance(part, str):
                yield from entries(part, names, features, by_name=by_name)
    elif kind == "ColumnTransformer" and features is None:
        fitted_with = tuple(str(name) for name in getattr(model, "feature_names_in_", names))
        for _, part, picked in model.transformers_:
            if isinstance(part, str) and part == "drop":
                continue
            places, named = _places(picked, fitted_with, int(model.n_features_in_))
            yield from entries(part, fitted_with, places, by_name=named)
    else:
        yield Entry(model, features, by_name)


def width_of(model: Any) -> int:
    """How many features a fitted model takes. Raises ImportRefused when it was never fitted."""
    for part in (model, *(step for _, step in getattr(model, "steps", ()))):
        found = getattr(part, "n_features_in_", None)
        if found is not None:
            return int(found)
    raise ImportRefused(
        f"The model ({type(model).__name__}) does not say how many features it takes: it was never fitted.",
        code="NOT_FITTED",
        hint="Fit it, then save it.",
    )


def kept(estimator: Any, place: int) -> np.ndarray | None:
    """The values of one feature that an encoder or imputer remembers, None for one that takes any number."""
    categories = getattr(estimator, "categories_", None)
    if isinstance(categories, list) and place < len(categories):
        return np.asarray(categories[place])
    statistics = getattr(estimator, "statistics_", None)
    if isinstance(statistics, np.ndarray) and statistics.dtype.kind == "O" and place < len(statistics):
        return np.asarray([statistics[place]], dtype=object)
    return None


def _places(picked: Any, names: tuple[str, ...], width: int) -> tuple[tuple[int, ...], bool]:
    """The features that a ColumnTransformer gives to one of its parts, and whether it names them."""
    if isinstance(picked, slice):
        if isinstance(picked.start, str) or isinstance(picked.stop, str):
            first = names.index(picked.start) if picked.start is not None else 0
            last = names.index(picked.stop) if picked.stop is not None else width - 1
            return tuple(range(first, last + 1)), True
        return tuple(range(width)[picked]), False
    listed = [picked] if isinstance(picked, str | int | np.integer) else list(picked)
    if any(isinstance(one, str) for one in listed):
        return tuple(names.index(str(one)) for one in listed), True
    if listed and all(isinstance(one, bool | np.bool_) for one in listed):
        return tuple(place for place, one in enumerate(listed) if one), False
    return tuple(int(one) % width for one in listed), False


def _dtype_of(values: np.ndarray) -> str:
    if values.dtype.kind in "US" or (values.dtype.kind == "O" and any(isinstance(one, str) for one in values.reshape(-1))):
        return "string"
    return "int64" if values.dtype.kind in "iub" else "float32"
