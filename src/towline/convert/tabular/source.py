"""A fitted scikit-learn or LightGBM model as a source: what it takes, what it answers, and the ways to convert it."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from towline.convert.base import Converted, Layer
from towline.convert.tabular.columns import columns_of
from towline.convert.tabular.examples import example_rows
from towline.convert.tabular.outputs import Output, answer_with, outputs_of
from towline.convert.tabular.parts import architecture, check_parts, count_parameters, has_boosters, parts_of
from towline.core.errors import ImportRefused
from towline.core.manifest import DEFAULT_SIGNATURE, Signature

FLOATS, DOUBLES = "skl2onnx", "skl2onnx-double"
MODEL_FILE = "model.onnx"
_MAX_FEATURES_CHARS = 4000


class TabularSource:
    """`model` is fitted. Raises ImportRefused for parts that no converter knows and for a model that answers nothing."""

    def __init__(self, model: Any, *, declared: str = "", notes: tuple[str, ...] = ()) -> None:
        check_parts(model)
        self._model = _estimator(model)
        self._columns = columns_of(self._model, declared)
        self._examples = example_rows(self._model, self._columns)
        self._outputs = self._tried()
        self._notes = notes

    def _tried(self) -> tuple[Output, ...]:
        """What it answers to the examples; some that were fitted with float32 refuse doubles."""
        try:
            return outputs_of(self._model, self._columns.table(self._examples))
        except ImportRefused:
            in_floats = replace(self._columns, number="float32")
            outputs = outputs_of(self._model, in_floats.table(self._examples))
            self._columns = in_floats
            return outputs

    @property
    def examples(self) -> dict[str, np.ndarray]:
        """Inputs as it was fitted with, for proving it where nobody gave any."""
        return self._examples

    @property
    def signatures(self) -> Mapping[str, Signature]:
        return {DEFAULT_SIGNATURE: Signature(self._columns.specs, tuple(output.spec for output in self._outputs))}

    @property
    def facts(self) -> Mapping[str, str]:
        packages = ["scikit-learn", "skl2onnx", *(["lightgbm", "onnxmltools"] if has_boosters(self._model) else [])]
        # Which column of a table is which; of columns with names of their own everybody sees it.
        features = {"features": _listed(self._columns.names)} if self._columns.matrix and self._columns.names else {}
        return {"architecture": architecture(self._model), **{name: importlib.metadata.version(name) for name in packages}, **features}

    @property
    def parameters(self) -> int:
        return count_parameters(self._model)

    @property
    def notes(self) -> tuple[str, ...]:
        return self._notes

    @property
    def routes(self) -> Sequence[str]:
        """In float32, as engines compute best, or in float64 between inputs and answers of float32: trees first so, since a threshold or
        a tie of their votes that float32 rounds is another branch or another label.
        """
        has_trees = any(hasattr(part, kept) for part in parts_of(self._model) for kept in ("tree_", "booster_", "_predictors"))
        return (DOUBLES, FLOATS) if has_trees else (FLOATS, DOUBLES)

    def answer(self, inputs: Mapping[str, np.ndarray], *, signature: str) -> dict[str, np.ndarray]:
        return dict(answer_with(self._model, self._outputs, self._columns.table(inputs)))

    def convert(self, route: str, into: Path) -> Converted:
        from towline.convert.tabular.conversion import converted

        (into / MODEL_FILE).write_bytes(converted(self._model, self._columns, self._outputs, doubles=route == DOUBLES))
        return Converted({DEFAULT_SIGNATURE: MODEL_FILE})

    def layers(self, inputs: Mapping[str, np.ndarray], *, signature: str) -> Iterable[Layer]:
        return ()


def _estimator(model: Any) -> Any:
    if type(model).__name__ != "Booster":
        return model
    from towline.convert.tabular.booster import as_estimator

    return as_estimator(model)


def _listed(names: tuple[str, ...]) -> str:
    listed = ", ".join(names)
    return listed if len(listed) <= _MAX_FEATURES_CHARS else listed[: _MAX_FEATURES_CHARS - 1] + "…"
