"""What a fitted model answers: which of its methods, under which name, of which shape and type."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from towline.convert.declared_inputs import BATCH
from towline.convert.wording import sentence
from towline.core.errors import EngineError, ImportRefused
from towline.core.manifest import TensorSpec

LABEL, PROBABILITIES, SCORES, PREDICTION, TRANSFORMED = "label", "probabilities", "scores", "prediction", "transformed"


@dataclass(frozen=True)
class Output:
    """`method` of the model answers it."""

    spec: TensorSpec
    method: str


def outputs_of(model: Any, table: Any) -> tuple[Output, ...]:
    """`table` is an example with two rows or more, which the model is asked about to see the shapes of its answers."""
    found = []
    for name, method in methods_of(model):
        try:
            answer = call(model, method, table)
        except EngineError as error:
            raise ImportRefused(error.message, code="SOURCE_UNREADABLE", hint="Check that the model answers where it was made.") from None
        # Classes that are whole numbers kept as floats are whole numbers for the converters.
        dtype = "int64" if name == LABEL and answer.dtype.kind == "f" else {"f": "float32", "i": "int64"}.get(answer.dtype.kind, "string")
        found.append(Output(TensorSpec(name, dtype, (BATCH, *answer.shape[1:])), method))
    return tuple(found)


def methods_of(model: Any) -> tuple[tuple[str, str], ...]:
    """Names of outputs and the methods that answer them, in the order in which the converters write them."""
    from sklearn.base import is_classifier, is_clusterer, is_outlier_detector, is_regressor

    if is_classifier(model):
        scored = [(PROBABILITIES, "predict_proba"), (SCORES, "decision_function")]
        return ((LABEL, "predict"), *[pair for pair in scored if hasattr(model, pair[1])][:1])
    if is_outlier_detector(model):
        return ((LABEL, "predict"), (SCORES, "decision_function"))
    if is_clusterer(model):
        return ((LABEL, "predict"), *([(SCORES, "transform")] if hasattr(model, "transform") else []))
    if is_regressor(model) or (hasattr(model, "predict") and not hasattr(model, "transform")):
        return ((PREDICTION, "predict"),)
    if hasattr(model, "transform"):
        return ((TRANSFORMED, "transform"),)
    raise ImportRefused(
        f"{type(model).__name__} neither predicts nor transforms rows that it has not seen.",
        code="NO_MODEL",
        hint="Import a model with a method predict or transform.",
    )


def call(model: Any, method: str, table: Any) -> np.ndarray:
    """One answer as an array whose first axis are the rows. Raises EngineError when the model refuses the table."""
    try:
        with warnings.catch_warnings():
            # About names of features that a table of numbers has not, mostly.
            warnings.simplefilter("ignore")
            return arranged(getattr(model, method)(table))
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, ArithmeticError) as error:
        raise EngineError(f"{type(model).__name__}.{method} refuses this input: {sentence(f'{type(error).__name__}: {error}')}") from None


def arranged(answer: Any) -> np.ndarray:
    """Floats as float32, whole numbers as int64, the rest as strings; a list with an array per label is stacked along axis 1."""
    if isinstance(answer, list) and answer and all(isinstance(one, np.ndarray) for one in answer):
        answer = np.stack(answer, axis=1)
    array = np.asarray(answer.toarray() if hasattr(answer, "toarray") else answer)
    if array.dtype.kind in "iub":
        return array.astype(np.int64)
    if array.dtype.kind == "f":
        return array.astype(np.float32)
    return np.array([str(one) for one in array.reshape(-1)], dtype=object).reshape(array.shape)


def answer_with(model: Any, outputs: tuple[Output, ...], table: Any) -> Mapping[str, np.ndarray]:
    answers = {}
    for output in outputs:
        answer = call(model, output.method, table)
        whole = output.spec.dtype == "int64" and answer.dtype.kind == "f"
        answers[output.spec.name] = answer.astype(np.int64) if whole else answer
    return answers
