"""What a fitted model is asked with: one table of numbers, or a column for each thing that it was fitted with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from towline.convert.declared_inputs import BATCH, parse_inputs
from towline.convert.tabular.entries import entries, width_of
from towline.convert.wording import name as quoted
from towline.core.errors import EngineError, ImportRefused
from towline.core.manifest import TensorSpec

TABLE = "X"
TEXT = "text"
_DTYPES = ("float32", "float64", "int64", "string", "bool")


@dataclass(frozen=True)
class Columns:
    """`names` are the features in the model's order, empty where it kept none. `matrix`: all of them come as one tensor [N, features].

    `by_name`: the model picks columns by their names and wants a data frame. `is_text`: it takes a list of texts. `number` is what the
    model itself computes with: float32 numbers become the doubles that most are fitted with, and mean the same.
    """

    specs: tuple[TensorSpec, ...]
    names: tuple[str, ...]
    matrix: bool
    by_name: bool = False
    is_text: bool = False
    number: str = "float64"

    def table(self, inputs: Mapping[str, np.ndarray]) -> Any:
        """What the model's `predict` takes. Raises EngineError when an input is missing."""
        missing = [spec.name for spec in self.specs if spec.name not in inputs]
        if missing:
            raise EngineError(f"Input {quoted(missing[0])} is missing.")
        arrays = [_as_fitted(inputs[spec.name], self.number) for spec in self.specs]
        if self.is_text:
            return arrays[0].reshape(-1)
        if self.matrix:
            return arrays[0]
        if self.names:
            return _frame({spec.name: array.reshape(-1) for spec, array in zip(self.specs, arrays, strict=True)})
        return np.concatenate([array.astype(object) for array in arrays], axis=1)


def columns_of(model: Any, declared: str = "") -> Columns:
    """Learn them from a fitted model. `declared` is the option `input`, which says what the model does not tell. Raises ImportRefused."""
    names = tuple(str(name) for name in getattr(model, "feature_names_in_", ()))
    found = _learned(model, names)
    return _declared(found, declared) if declared else found


def _learned(model: Any, names: tuple[str, ...]) -> Columns:
    met = list(entries(model, names))
    if any(entry.is_vectorizer and entry.features is None for entry in met):
        return Columns((TensorSpec(TEXT, "string", (BATCH, 1)),), (), matrix=True, is_text=True)
    width = width_of(model)
    dtypes: dict[int, str] = {}
    for entry in met:
        for place, feature in enumerate(range(width) if entry.features is None else entry.features):
            learned = entry.dtype(place)
            if dtypes.setdefault(feature, learned) == "float32":
                # One that says more than "numbers" decides.
                dtypes[feature] = learned
    by_name = any(entry.by_name for entry in met)
    kinds = set(dtypes.values())
    if not by_name and len(kinds) <= 1 and len(dtypes) == width:
        dtype = kinds.pop() if kinds else "float32"
        return Columns((TensorSpec(TABLE, dtype, (BATCH, width)),), names, matrix=True)
    called = names or tuple(f"x{place}" for place in range(width))
    places = sorted(dtypes) if by_name else range(width)
    specs = tuple(TensorSpec(called[place], dtypes.get(place, "float32"), (BATCH, 1)) for place in places)
    return Columns(specs, names, matrix=False, by_name=by_name)


def _declared(found: Columns, text: str) -> Columns:
    """The learned columns with the types that the option `input` gives: `float32[N,4]`, or `age=float32[N,1],city=string[N,1]`."""
    given: dict[str, str] = {}
    for said in parse_inputs(text):
        spec = _spec_named(found, said.name)
        if spec is None or said.dtype not in _DTYPES or (said.shape or ())[1:] != (spec.shape or ())[1:]:
            raise _wrong_input(said, found)
        given[spec.name] = said.dtype
    specs = tuple(TensorSpec(spec.name, given.get(spec.name, spec.dtype), spec.shape) for spec in found.specs)
    return replace(found, specs=specs)


def _spec_named(found: Columns, name: str) -> TensorSpec | None:
    if not name:
        return found.specs[0] if len(found.specs) == 1 else None
    return next((spec for spec in found.specs if spec.name == name), None)


def _wrong_input(said: TensorSpec, found: Columns) -> ImportRefused:
    takes = ",".join(map(_shown, found.specs[:6])) + (" …" if len(found.specs) > 6 else "")
    return ImportRefused(
        f"The model was fitted with {takes}; the option input says {_shown(said)}.",
        code="WRONG_INPUT",
        field="input",
        hint="Leave --input out, or change the types alone.",
    )


def _shown(spec: TensorSpec) -> str:
    return f"{spec.name}{'=' if spec.name else ''}{spec.dtype}[{','.join(map(str, spec.shape or ()))}]"


def _as_fitted(array: np.ndarray, number: str) -> np.ndarray:
    if array.dtype.kind == "f":
        return array.astype(number)
    if array.dtype.kind in "SO":
        decoded = [one.decode("utf-8", "replace") if isinstance(one, bytes) else one for one in array.reshape(-1)]
        return np.array(decoded, dtype=object).reshape(array.shape)
    return array


def _frame(columns: Mapping[str, np.ndarray]) -> Any:
    import pandas

    return pandas.DataFrame(dict(columns))
