"""Which input and output of somebody's own conversion is which of the source: exporters give names of their own. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from towline.core.manifest import Signature, TensorSpec

if TYPE_CHECKING:
    from towline.convert.version import RecordedGolden

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Names:
    """The conversion's names, by those of the source."""

    inputs: Mapping[str, str]
    outputs: Mapping[str, str]

    @property
    def differ(self) -> bool:
        return any(one != other for names in (self.inputs, self.outputs) for one, other in names.items())

    def request(self, request: Arrays) -> dict[str, np.ndarray]:
        return {self.inputs[name]: array for name, array in request.items()}

    def answer(self, answer: Arrays) -> dict[str, np.ndarray]:
        """The conversion's answer under the source's names."""
        back = {theirs: ours for ours, theirs in self.outputs.items()}
        return {back.get(name, name): array for name, array in answer.items()}

    def recorded(self, one: RecordedGolden) -> RecordedGolden:
        """A request with its answer and limits, under the conversion's names."""
        request, answer, bounds = one
        return (
            self.request(request),
            {self.outputs[name]: array for name, array in answer.items()},
            {self.outputs[name]: bound for name, bound in bounds.items()},
        )

    def words(self) -> str:
        pairs = [*self.inputs.items(), *self.outputs.items()]
        told = [f"'{ours}' is called '{theirs}'" for ours, theirs in pairs if ours != theirs]
        return f"Names of the source and of the ONNX file differ: {', '.join(told[:8])}. Clients use those of the ONNX file."


def matched_inputs(source: Signature, made: Signature) -> dict[str, str] | None:
    """By equal names, else by a name that holds the other (`serving_default_x:0`), else in their order. None: dtypes or ranks differ."""
    return _matched(source.inputs, made.inputs)


def matched_outputs(source: Signature, made: Signature, answer: Arrays, got: Arrays) -> dict[str, str] | None:
    """By equal names, else by what was answered: the output of the same shape whose values are nearest."""
    if {spec.name for spec in source.outputs} == {spec.name for spec in made.outputs}:
        return {spec.name: spec.name for spec in source.outputs}
    if len(source.outputs) != len(made.outputs):
        return None
    left = [spec.name for spec in made.outputs]
    found: dict[str, str] = {}
    for spec in source.outputs:
        alike = [name for name in left if got[name].shape == answer[spec.name].shape and got[name].dtype == answer[spec.name].dtype]
        if not alike:
            return None
        found[spec.name] = min(alike, key=lambda name, spec=spec: _gap(answer[spec.name], got[name]))  # type: ignore[misc]
        left.remove(found[spec.name])
    return found


def _matched(source: Sequence[TensorSpec], made: Sequence[TensorSpec]) -> dict[str, str] | None:
    if len(source) != len(made):
        return None
    theirs = {spec.name: spec for spec in made}
    by_name = {spec.name: next((name for name in theirs if name == spec.name or spec.name in name), "") for spec in source}
    if "" in by_name.values() or len(set(by_name.values())) < len(source):
        by_name = {one.name: other.name for one, other in zip(source, made, strict=True)}
    fits = all(spec.dtype == theirs[by_name[spec.name]].dtype and _rank(spec) == _rank(theirs[by_name[spec.name]]) for spec in source)
    return by_name if fits else None


def _rank(spec: TensorSpec) -> int:
    return -1 if spec.shape is None else len(spec.shape)


def _gap(first: np.ndarray, second: np.ndarray) -> float:
    if first.dtype.kind not in "fiu":
        return float(not np.array_equal(first, second))
    return float(np.nan_to_num(np.abs(first.astype(np.float64) - second)).max(initial=0.0))
