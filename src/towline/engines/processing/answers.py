"""What is done with one output of the graph: pooled, softmax, the best k, a threshold, labels. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from towline.core import steps
from towline.core.errors import EngineError


class Answers:
    """The steps after the graph, on output `of`. `labels` are the version's; `mask` names the graph input that tells padding, if any."""

    def __init__(self, after: Sequence[steps.After], of: str, labels: Sequence[bytes], mask: str) -> None:
        self._after = tuple(after)
        self.of = of
        self._mask = mask
        self._labels = np.array([*labels, b""], dtype=object)

    def finish(self, output: np.ndarray, fed: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Named outputs, each with one entry per row. `fed` is what the graph was given."""
        found: dict[str, np.ndarray] = {}
        values = output
        for step in self._after:
            if isinstance(step, steps.Pool):
                values = found["embedding"] = _pooled(values, fed.get(self._mask), step.how)
            elif isinstance(step, steps.UnitLength):
                values = found["embedding"] = _unit(values)
            elif isinstance(step, steps.Softmax):
                values = found["score"] = softmax(values)
            elif isinstance(step, steps.Sigmoid):
                values = found["score"] = _sigmoid(values)
            elif isinstance(step, steps.Segment):
                found["score"], found["index"] = _best_of_each_pixel(values)
            elif isinstance(step, steps.TopK):
                found["index"] = top_k(values, step.k)
                values = found["score"] = np.take_along_axis(values, found["index"], -1).astype(np.float32)
            elif isinstance(step, steps.Threshold):
                found["score"] = values.astype(np.float32)
                found["chosen"] = values >= step.at
            elif isinstance(step, steps.Labels):
                found["label"] = self._labels[np.minimum(found["index"], len(self._labels) - 1)]
        return found


def softmax(values: np.ndarray, *, axis: int = -1) -> np.ndarray:
    """Over the axis, in float32."""
    exact = values.astype(np.float32)
    exact = np.exp(exact - exact.max(axis=axis, keepdims=True))
    return np.asarray(exact / exact.sum(axis=axis, keepdims=True))


def _best_of_each_pixel(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Probability float32 and class int64, each [N, height, width], of [N, classes, height, width]."""
    if values.ndim != 4:
        raise EngineError(f"The graph's output has rank {values.ndim}; pixels need [N, classes, height, width].", code="BAD_OUTPUT")
    scores = softmax(values, axis=1)
    return scores.max(axis=1), scores.argmax(axis=1).astype(np.int64)


def top_k(values: np.ndarray, k: int) -> np.ndarray:
    """Indices int64 of the k greatest along the last axis, greatest first; of equals the lower index, and NaN last."""
    if values.ndim < 2:
        raise EngineError(f"The graph's output has rank {values.ndim}; the best classes need [N, classes].", code="BAD_OUTPUT")
    order = np.argsort(-values.astype(np.float64), axis=-1, kind="stable")
    return np.ascontiguousarray(order[..., :k], dtype=np.int64)


def _sigmoid(values: np.ndarray) -> np.ndarray:
    exact = values.astype(np.float64)
    # The exponent is never positive, so that nothing overflows.
    small = np.exp(-np.abs(exact))
    return np.where(exact >= 0, 1 / (1 + small), small / (1 + small)).astype(np.float32)


def _unit(values: np.ndarray) -> np.ndarray:
    exact = values.astype(np.float32)
    # A row of zeros stays one.
    return np.asarray(exact / np.maximum(np.linalg.norm(exact, axis=-1, keepdims=True), 1e-12))


def _pooled(values: np.ndarray, mask: np.ndarray | None, how: str) -> np.ndarray:
    if values.ndim != 3:
        raise EngineError(f"The graph's output has rank {values.ndim}; pooling needs [N, tokens, width].", code="BAD_OUTPUT")
    if how == "first":
        return np.asarray(values[:, 0], np.float32)
    if mask is None:
        return np.asarray(values.mean(axis=1, dtype=np.float32))
    weights = mask[..., None].astype(np.float32)
    return np.asarray((values * weights).sum(axis=1, dtype=np.float32) / np.maximum(weights.sum(axis=1), 1e-9))
