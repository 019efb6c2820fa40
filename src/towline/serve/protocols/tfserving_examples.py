"""TF Serving's classify and regress: examples of named features -> Request, outputs -> classes or values; for REST and gRPC alike. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from towline.core import dtypes
from towline.core.errors import EngineError, InvalidRequest
from towline.core.inference import Request, Response
from towline.core.manifest import DEFAULT_SIGNATURE, DefaultValue, Signature, TensorSpec
from towline.core.refs import clip
from towline.serve.codecs import check
from towline.serve.codecs.check import InputCheck, Limits, show_shape
from towline.serve.contract import Served

CLASSIFY_METHOD, REGRESS_METHOD = "tensorflow/serving/classify", "tensorflow/serving/regress"
# tf.Example's three kinds of list, and the types of tensors each can fill. Whole numbers fill floats too, as they do in predict.
INT64, FLOAT, BYTES = "int64", "float", "string"


@dataclass(frozen=True, slots=True)
class Feature:
    """One feature of one example: INT64, FLOAT or BYTES, and its values; no kind when it has none."""

    kind: str
    values: Sequence[Any]


Example = Mapping[str, Feature]


@dataclass(frozen=True)
class Task:
    """Which outputs answer. `scores` holds [N, classes], of a regressor [N] or [N, 1]; `classes` has the labels, if any."""

    method: str
    scores: str
    classes: str = ""

    @property
    def outputs(self) -> tuple[str, ...]:
        return (self.scores, self.classes) if self.classes else (self.scores,)


class ExampleCodec:
    """Decodes examples for one signature of one version; built once per slot."""

    def __init__(self, served: Served, limits: Limits, name: str) -> None:
        self._name = name
        self._signature = served.signature(name)
        self._limits = limits
        self._check = InputCheck(self._signature, limits)
        given = served.manifest.defaults_of(name)
        self._defaults = {spec.name: _default(spec, given[spec.name]) for spec in self._signature.inputs if spec.name in given}

    def task(self, method: str) -> Task:
        """How this signature answers the method. Raises InvalidRequest that says why it cannot."""
        return _classifier(self._signature) if method == CLASSIFY_METHOD else _regressor(self._signature)

    def check_amount(self, examples: int) -> None:
        """Refuse none and too many, before any of them is read."""
        if not examples:
            raise InvalidRequest("Input is empty.", code="EMPTY_BATCH", field="examples")
        self._check.check_rows(examples, "examples")

    def decode(self, examples: Sequence[Example], context: Example, task: Task, deadline: float | None) -> Request:
        """One row an example; an example's own feature goes before the context's. Raises InvalidRequest."""
        self.check_amount(len(examples))
        columns = [_column(spec, examples, context, self._defaults.get(spec.name)) for spec in self._signature.inputs]
        shapes = [
            (len(examples), *_tail(spec, len(column[0].values))) for spec, column in zip(self._signature.inputs, columns, strict=True)
        ]
        rows = self._check.rows(shapes, [f"examples[0].{clip(spec.name)}" for spec in self._signature.inputs])
        arrays = {
            spec.name: _array(spec, column, self._limits).reshape(shape)
            for spec, column, shape in zip(self._signature.inputs, columns, shapes, strict=True)
        }
        return Request(arrays, rows, deadline, outputs=task.outputs, signature=self._name)


def codec_for(served: Served, limits: Limits, name: str) -> ExampleCodec:
    """The codec of a signature that there is, built once per slot."""
    name = "" if name == DEFAULT_SIGNATURE else name
    codec: ExampleCodec | None = served.codecs.get(("examples", name))
    if codec is None:
        codec = served.codecs[("examples", name)] = ExampleCodec(served, limits, name)
    return codec


def _default(spec: TensorSpec, values: Sequence[DefaultValue]) -> Feature:
    """What the graph's own parser put where an example lacks the feature."""
    wanted = _wanted(spec)
    if wanted == BYTES:
        return Feature(BYTES, [str(value).encode() for value in values])
    return Feature(wanted, [float(value) if wanted == FLOAT else value for value in values])


def _column(spec: TensorSpec, examples: Sequence[Example], context: Example, default: Feature | None) -> list[Feature]:
    """One input's feature of every example; all are of one length."""
    shared = context.get(spec.name)
    column = []
    for index, example in enumerate(examples):
        feature = example.get(spec.name, shared)
        if default is not None and (feature is None or not feature.kind):
            feature = default
        if feature is None:
            raise InvalidRequest(
                f"Feature: {clip(spec.name)} (data type: {_wanted(spec)}) is required but could not be found.",
                code="MISSING_INPUT",
                field=f"examples[{index}]",
            )
        if feature.kind not in _taken(spec):
            raise InvalidRequest(
                f"Feature: {clip(spec.name)}. Data types don't match. Expected type: {_wanted(spec)}, got {feature.kind or 'no values'}.",
                code="WRONG_TYPE",
                field=f"examples[{index}].{clip(spec.name)}",
            )
        column.append(feature)
        if len(feature.values) != len(column[0].values):
            raise InvalidRequest(
                f"Feature '{clip(spec.name)}' must be of one length in all examples: it has {len(column[0].values)} values in the first"
                f" and {len(feature.values)} in this.",
                code="RAGGED",
                field=f"examples[{index}].{clip(spec.name)}",
            )
    return column


def _wanted(spec: TensorSpec) -> str:
    if spec.dtype == "string":
        return BYTES
    return FLOAT if dtypes.BY_NAME[spec.dtype].is_float else INT64


def _taken(spec: TensorSpec) -> tuple[str, ...]:
    wanted = _wanted(spec)
    return (FLOAT, INT64) if wanted == FLOAT else (wanted,)


def _tail(spec: TensorSpec, count: int) -> tuple[int, ...]:
    """The shape of one row of `count` values. At most one of its dims may vary."""
    if spec.shape is None:
        return (count,)
    tail = spec.shape[1:]
    free = [dim for dim in tail if isinstance(dim, str)]
    known = check.element_count(dim for dim in tail if isinstance(dim, int))
    fits = bool(spec.shape) and (count == known if not free else len(free) == 1 and known > 0 and count % known == 0)
    if not fits:
        raise InvalidRequest(
            f"Input '{clip(spec.name)}' takes shape {show_shape(spec.shape)}: {count} values of an example do not fill one row of it.",
            code="WRONG_SIZE",
            field=f"examples[0].{clip(spec.name)}",
            hint="Use predict, which takes any shape.",
        )
    return tuple(dim if isinstance(dim, int) else count // known for dim in tail)


def _array(spec: TensorSpec, column: list[Feature], limits: Limits) -> np.ndarray:
    """All values, one example after the other."""
    count = sum(len(feature.values) for feature in column)
    values = (value for feature in column for value in feature.values)
    if spec.dtype == "string":
        check.check_string_count(count, limits, f"examples[0].{clip(spec.name)}")
        array = np.empty(count, object)
        array[:] = list(values)
        return array
    dtype = dtypes.BY_NAME[spec.dtype]
    wide = np.fromiter(values, np.float64 if dtype.is_float else np.int64, count)
    with np.errstate(over="ignore", invalid="ignore"):
        array = wide.astype(dtype.numpy)
    outside = np.isinf(array) & np.isfinite(wide) if dtype.is_float else array.astype(np.int64) != wide
    if spec.dtype == "uint64":
        outside = wide < 0
    if outside.any():
        place = int(np.flatnonzero(outside)[0])
        each = len(column[0].values)
        raise InvalidRequest(
            f"Input '{clip(spec.name)}' is {spec.dtype}, which does not hold {wide[place]!s}.",
            code="OUT_OF_RANGE",
            field=f"examples[{place // each}].{clip(spec.name)}[{place % each}]",
        )
    return array


# Answers


def _classifier(signature: Signature) -> Task:
    by_name = {spec.name: spec for spec in signature.outputs}
    found = [spec for spec in signature.outputs if _is_float(spec) and (spec.shape is None or len(spec.shape) == 2)]
    scores = by_name.get("scores") or (found[0] if len(found) == 1 else None)
    if scores is None or scores not in found:
        raise _cannot("classify", signature, "one output of floats of shape [N, classes], or one of several named 'scores'")
    classes = by_name.get("classes")
    is_text = classes is not None and classes.dtype == "string"
    return Task(CLASSIFY_METHOD, scores.name, "classes" if is_text else "")


def _regressor(signature: Signature) -> Task:
    by_name = {spec.name: spec for spec in signature.outputs}
    found = [spec for spec in signature.outputs if _is_float(spec) and _is_one_value(spec)]
    value = by_name.get("outputs") or (found[0] if len(found) == 1 else None)
    if value is None or value not in found:
        raise _cannot("regress", signature, "one output of floats of shape [N] or [N, 1], or one of several named 'outputs'")
    return Task(REGRESS_METHOD, value.name)


def _is_float(spec: TensorSpec) -> bool:
    return dtypes.BY_NAME[spec.dtype].is_float


def _is_one_value(spec: TensorSpec) -> bool:
    return spec.shape is None or len(spec.shape) == 1 or (len(spec.shape) == 2 and (spec.shape[1] == 1 or isinstance(spec.shape[1], str)))


def _cannot(verb: str, signature: Signature, needs: str) -> InvalidRequest:
    has = ", ".join(f"'{clip(spec.name)}' {spec.dtype} {show_shape(spec.shape or ())}" for spec in signature.outputs[:8])
    return InvalidRequest(
        f"This signature cannot {verb}: that needs {needs}. Its outputs: {has}.",
        code="WRONG_SIGNATURE",
        field="signature_name",
        hint="Use predict, which answers with the outputs as they are.",
    )


def classes_of(response: Response, task: Task, labels: Sequence[str], rows: int) -> tuple[list[list[str]], np.ndarray]:
    """Every row's labels and its scores, float32 [rows, classes]. The labels are the model's own, the version's, or the index."""
    scores: np.ndarray = response.outputs[task.scores]
    if scores.ndim != 2 or len(scores) != rows:
        raise _unexpected(task.scores, scores, f"[{rows}, classes]")
    if task.classes:
        classes: np.ndarray = response.outputs[task.classes]
        if classes.shape != scores.shape:
            raise _unexpected(task.classes, classes, show_shape(scores.shape))
        return [[_text(word) for word in row] for row in classes], scores.astype(np.float32)
    names = [labels[index] if index < len(labels) else str(index) for index in range(scores.shape[1])]
    return [names] * rows, scores.astype(np.float32)


def values_of(response: Response, task: Task, rows: int) -> np.ndarray:
    """Every row's value, float32 [rows]."""
    values: np.ndarray = response.outputs[task.scores]
    if values.shape not in ((rows,), (rows, 1)):
        raise _unexpected(task.scores, values, f"[{rows}] or [{rows}, 1]")
    return values.reshape(rows).astype(np.float32)


def _unexpected(name: str, array: np.ndarray, wanted: str) -> EngineError:
    return EngineError(f"Output '{clip(name)}' came as {show_shape(array.shape)}, expected {wanted}.", code="UNEXPECTED_SHAPE")


def _text(word: Any) -> str:
    return word if isinstance(word, str) else bytes(word).decode("utf-8", "replace")
