"""Plain prediction's answers: what the model gave, and for scores of classes the best of them by name. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from towline.core.inference import Response
from towline.serve.codecs import json

# How far from 1 the scores of a row may sum and still be called probabilities.
_ROUNDING = 1e-3
_WARNING = "NaN and infinity are written as null: JSON has no word for them."
_Ranked = list[list[dict[str, Any]]]


class About(msgspec.Struct, frozen=True, gc=False):
    """What the general answer says beside the predictions. `are_probabilities`: the version's own processing makes them so."""

    request_id: str
    are_probabilities: bool = False


def encode(response: Response, labels: Sequence[str], *, is_item: bool, top: int = 0, about: About | None = None) -> bytes:
    """`{"output": …}`, or with `about` the general answer; `top` is how many classes were asked for, 0 when it was not said."""
    outputs: dict[str, np.ndarray] = response.outputs
    ranked = _ranked(outputs, labels, top)
    if about is None:
        shown = {name: _without_batch(array) if is_item else array for name, array in outputs.items()}
        document: dict[str, Any] = {"output": _values(shown)}
        if ranked is not None:
            document.update(_entry(ranked[0]) if is_item and len(ranked) == 1 else {"predictions": [_entry(row) for row in ranked]})
    else:
        document = _general(response, ranked, is_item, about)
    if any(json.is_non_finite(array) for array in outputs.values()):
        document["warning"] = _WARNING
    return json.dumps(document)


def _general(response: Response, ranked: _Ranked | None, is_item: bool, about: About) -> dict[str, Any]:
    document: dict[str, Any] = {"model": response.name, "version": str(response.number)}
    if ranked is not None:
        document["predictions"] = [_entry(row) for row in ranked]
    else:
        document["predictions"] = _rows(response.outputs)
    document["request_id"] = about.request_id
    if is_item and len(document["predictions"]) == 1:
        document.update(_alone(document["predictions"][0], ranked, response, about))
    return document


def _alone(only: Any, ranked: _Ranked | None, response: Response, about: About) -> dict[str, Any]:
    """What hand-written services answer to one picture, beside the general answer."""
    if ranked is None:
        return {"prediction": only}
    found = {"prediction": only["index"], **{name: only[name] for name in ("label", "score") if name in only}}
    if about.are_probabilities or _is_distribution(response.outputs):
        found["probability"] = only["score"]
    return found


def _ranked(outputs: dict[str, np.ndarray], labels: Sequence[str], top: int) -> _Ranked | None:
    """For each row its best classes, best first; None for what are no scores of classes."""
    score, index = outputs.get("score"), outputs.get("index")
    if score is not None and index is not None:
        is_ranked = score.ndim == 2 and score.shape[1] > 0 and score.shape == index.shape
        return _given(score, index, outputs.get("label"), labels, top) if is_ranked else None
    # Without labels, only what a version's processing calls scores are known to be some.
    if len(outputs) != 1 or not (labels or score is not None):
        return None
    (scores,) = outputs.values()
    if scores.ndim != 2 or scores.dtype.kind not in "fiu" or not scores.shape[1] or (labels and scores.shape[1] != len(labels)):
        return None
    return [_classes(row, order, labels) for row, order in zip(scores, _orders(scores, top or 1), strict=True)]


def _orders(scores: np.ndarray, count: int) -> list[list[int]]:
    if count == 1:
        return [[index] for index in scores.argmax(axis=1).tolist()]
    # Of equals the lower index first, as argmax has it.
    orders: list[list[int]] = np.argsort(-scores.astype(np.float64), axis=1, kind="stable")[:, :count].tolist()
    return orders


def _classes(scores: np.ndarray, order: list[int], labels: Sequence[str]) -> list[dict[str, Any]]:
    return [({"label": labels[index]} if labels else {}) | {"score": scores[index], "index": index} for index in order]


def _given(score: np.ndarray, index: np.ndarray, label: np.ndarray | None, labels: Sequence[str], top: int) -> _Ranked:
    """The model, or its processing, ranked them itself."""
    count = min(top, score.shape[1]) if top else score.shape[1]
    found = []
    for row in range(len(score)):
        entries = []
        for place in range(count):
            entry: dict[str, Any] = {}
            which = int(index[row, place])
            if label is not None and label.shape == score.shape:
                entry["label"] = json.plain_text(label[row, place])
            elif 0 <= which < len(labels):
                entry["label"] = labels[which]
            entries.append(entry | {"score": score[row, place], "index": which})
        found.append(entries)
    return found


def _entry(classes: list[dict[str, Any]]) -> dict[str, Any]:
    """The best class of one row, with the others under `top` when there are several."""
    return {**classes[0], "top": classes} if len(classes) > 1 else classes[0]


def _is_distribution(outputs: dict[str, np.ndarray]) -> bool:
    if len(outputs) != 1:
        return False
    (scores,) = outputs.values()
    return scores.dtype.kind == "f" and bool((scores >= 0).all()) and bool((np.abs(scores.sum(axis=-1) - 1) < _ROUNDING).all())


def _rows(outputs: dict[str, np.ndarray]) -> list[Any]:
    """One entry per row; everything as one where the outputs have no common rows."""
    sizes = {array.shape[0] if array.ndim else -1 for array in outputs.values()}
    if len(sizes) != 1 or -1 in sizes:
        return [_values(outputs)]
    return [_values({name: array[row : row + 1].reshape(array.shape[1:]) for name, array in outputs.items()}) for row in range(sizes.pop())]


def _values(outputs: dict[str, np.ndarray]) -> Any:
    written = {name: json.jsonable(array, json.plain_text) for name, array in outputs.items()}
    return next(iter(written.values())) if len(written) == 1 else written


def _without_batch(array: np.ndarray) -> np.ndarray:
    return np.asarray(array[0]) if array.ndim and len(array) == 1 else array
