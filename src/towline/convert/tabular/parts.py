"""The estimators that a model is made of: their names, those that nobody can convert, and how much they have learned."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from towline.convert.wording import name as quoted
from towline.core.errors import ImportRefused

_KNOWN = ("sklearn", "lightgbm")
_LEARNED = (
    "coef_",
    "intercept_",
    "coefs_",
    "intercepts_",
    "mean_",
    "scale_",
    "components_",
    "support_vectors_",
    "dual_coef_",
    "_fit_X",
    "theta_",
)
_HANDLER = "Serve it by a class of your own: towline import handler.py:Class (docs/how-to/handler.md)."


def parts_of(model: Any) -> Iterator[Any]:
    """The model and every estimator in it, outermost first."""
    seen: set[int] = set()
    waiting = [model]
    while waiting:
        part = waiting.pop(0)
        if id(part) in seen:
            continue
        seen.add(id(part))
        yield part
        waiting += [inner for value in vars(part).values() for inner in _estimators(value)] if hasattr(part, "__dict__") else []


def _estimators(value: Any) -> Iterator[Any]:
    if isinstance(value, list | tuple) or (isinstance(value, np.ndarray) and value.dtype == object):
        for one in value if not isinstance(value, np.ndarray) else value.reshape(-1):
            yield from _estimators(one)
    elif isinstance(value, dict):
        yield from (inner for one in value.values() for inner in _estimators(one))
    elif not isinstance(value, type) and (hasattr(value, "get_params") or (_is_known(value) and hasattr(value, "__dict__"))):
        yield value


def _is_known(part: Any) -> bool:
    return type(part).__module__.partition(".")[0] in _KNOWN


def check_parts(model: Any) -> None:
    """Raises ImportRefused that names the part which no converter knows."""
    for part in parts_of(model):
        kind = type(part)
        if not _is_known(part):
            whole = quoted(f"{kind.__module__}.{kind.__qualname__}")
            raise ImportRefused(
                f"The model is made with {whole}, which is neither scikit-learn's nor LightGBM's.",
                code="CUSTOM_CLASS",
                hint=_HANDLER,
            )
        if kind.__name__ == "FunctionTransformer" and part.func is not None:
            called = getattr(part.func, "__name__", type(part.func).__name__)
            raise ImportRefused(
                f"The model's FunctionTransformer calls {quoted(called)}: Python code has no counterpart in ONNX.",
                code="CUSTOM_CODE",
                hint=f"Do that step before the request, or with scikit-learn's own transformers. {_HANDLER}",
            )


def architecture(model: Any) -> str:
    """`Pipeline(StandardScaler, LogisticRegression)`."""
    kind = type(model).__name__
    if kind in ("BoosterClassifier", "BoosterRegressor"):
        return f"Booster({model.objective_})"
    steps = [type(step).__name__ for _, step in getattr(model, "steps", ()) if not isinstance(step, str)]
    if hasattr(model, "best_estimator_"):
        return f"{kind}({architecture(model.best_estimator_)})"
    return f"{kind}({', '.join(steps)})" if steps else kind


def compares_in_floats(model: Any) -> bool:
    """Whether its trees round what they compare to float32 first, as scikit-learn's do but for those of histograms."""
    trees = {kept for part in parts_of(model) for kept in ("tree_", "booster_", "_predictors") if hasattr(part, kept)}
    return trees == {"tree_"}


def has_boosters(model: Any) -> bool:
    return any(hasattr(part, "booster_") for part in parts_of(model))


def count_parameters(model: Any) -> int:
    """Coefficients and the like, and a threshold or value for each node of each tree."""
    return sum(_learned(part) for part in parts_of(model))


def _learned(part: Any) -> int:
    tree = getattr(part, "tree_", None)
    if tree is not None:
        return int(tree.node_count)
    predictors = getattr(part, "_predictors", None)
    if predictors is not None:
        return sum(len(one.nodes) for row in predictors for one in row)
    booster = getattr(part, "booster_", None)
    if booster is not None:
        return sum(2 * int(tree["num_leaves"]) - 1 for tree in booster.dump_model()["tree_info"])
    return sum(_size(vars(part).get(name)) for name in _LEARNED if hasattr(part, "__dict__"))


def _size(value: Any) -> int:
    if isinstance(value, list):
        return sum(_size(one) for one in value)
    return int(value.size) if isinstance(value, np.ndarray | np.number) else int(isinstance(value, float))
