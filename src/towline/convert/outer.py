"""What clients send and get when a graph has processing around it. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from towline.convert.declaration import refused
from towline.convert.fitting import feeds
from towline.core import steps
from towline.core.manifest import Signature, TensorSpec
from towline.core.steps import After, Chain, Source

_ROWS = "N"
Dim = int | str


def sent(source: Source) -> tuple[str, ...]:
    """The names under which clients send what a source reads."""
    return source.columns if isinstance(source, steps.Tabular) else (source.name,)


def outer_signature(whole: Sequence[Chain], after: Sequence[After], graph: Signature) -> Signature:
    """The outer signature. What no chain feeds, and outputs that no step works on, are those of the graph."""
    rows = _rows(graph)
    fed = {name for chain in whole for name in feeds(chain.source)}
    inputs = [spec for chain in whole for spec in _sent_specs(chain, rows)]
    inputs += [_with_rows(spec, rows) for spec in graph.inputs if spec.name not in fed]
    of = after[0].output if after else None
    worked = next((spec for spec in graph.outputs if spec.name == of), None)
    outputs = [*_made(after, worked, rows)] if worked is not None else []
    outputs += [_with_rows(spec, rows) for spec in graph.outputs if spec.name != of]
    for what, specs in (("inputs", inputs), ("outputs", outputs)):
        names = [spec.name for spec in specs]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise refused(f"two {what} would be called '{twice}': name the declared one otherwise, or rename the graph's when exporting")
    return Signature(tuple(inputs), tuple(outputs))


def _rows(graph: Signature) -> str:
    """The symbol for the number of rows: the graph's own, if it has one."""
    for spec in graph.inputs:
        if spec.shape and isinstance(spec.shape[0], str):
            return spec.shape[0]
    return _ROWS


def _sent_specs(chain: Chain, rows: str) -> list[TensorSpec]:
    source = chain.source
    if not isinstance(source, steps.Tabular):
        return [TensorSpec(source.name, "string", (rows,))]
    words = {step.column for step in chain.steps if isinstance(step, steps.Category)}
    return [TensorSpec(name, "string" if name in words else "float64", (rows,)) for name in source.columns]


def _with_rows(spec: TensorSpec, rows: str) -> TensorSpec:
    return spec if not spec.shape else TensorSpec(spec.name, spec.dtype, (rows, *spec.shape[1:]))


def _made(after: Sequence[After], of: TensorSpec, rows: str) -> list[TensorSpec]:
    """What the steps after the graph give: label, score, index, chosen, embedding."""
    inner: tuple[Dim, ...] = of.shape[1:] if of.shape else ("classes",)
    found: dict[str, tuple[str, tuple[Dim, ...]]] = {}
    for step in after:
        if isinstance(step, steps.Pool):
            inner = inner[-1:]
            found["embedding"] = ("float32", inner)
        elif isinstance(step, steps.UnitLength):
            found["embedding"] = ("float32", inner)
        elif isinstance(step, steps.Softmax | steps.Sigmoid):
            found["score"] = ("float32", inner)
        elif isinstance(step, steps.Segment):
            inner = inner[1:] or ("height", "width")
            found["score"], found["index"] = ("float32", inner), ("int64", inner)
        elif isinstance(step, steps.TopK):
            classes = inner[-1]
            inner = (*inner[:-1], min(step.k, classes) if isinstance(classes, int) else "k")
            found["score"], found["index"] = ("float32", inner), ("int64", inner)
        elif isinstance(step, steps.Threshold):
            found["score"], found["chosen"] = ("float32", inner), ("bool", inner)
        elif isinstance(step, steps.Labels):
            found["label"] = ("string", inner)
    order = ("label", "score", "index", "chosen", "embedding")
    return [TensorSpec(name, found[name][0], (rows, *found[name][1])) for name in order if name in found]
