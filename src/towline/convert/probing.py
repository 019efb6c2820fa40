"""Look inside an ONNX graph: `python -P -m towline.convert.probing MODEL OUT SECONDS`, a process of its own.

It writes a copy whose inner tensors are outputs as well, so that a worker can tell what each of them holds, and prints what they are.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from towline.convert.inspect import limit
from towline.convert.looking import looked, tell
from towline.core.frames import encode_frame
from towline.core.manifest import TensorSpec

# A worker gives at most so many tensors at a time (core/frames.py), and nobody reads a report of more.
MAX_TENSORS = 900
MAX_WEIGHTS_BYTES = 256 << 20
_FLOATS = {1: "float32", 10: "float16", 11: "float64"}
WEIGHTS_NAME = "weights.bin"


@dataclass(frozen=True)
class Node:
    """One operator of the graph, in order; `inputs` are tensors by name, `output` is its first, `epsilon` that of a normalisation."""

    name: str
    kind: str
    output: str
    epsilon: float | None = None
    inputs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Probe:
    """`tensors` are outputs of the copy beside those that the graph has: what the inner ones are, as far as shapes can be inferred."""

    tensors: tuple[TensorSpec, ...]
    nodes: tuple[Node, ...]


def with_outputs(model: Path, tensors: Sequence[str], into: Path, *, timeout_s: int = 120) -> Probe:
    """Write a copy of an ONNX graph with more outputs: `tensors`, or all floats within it where none is named, up to 900.

    `into` lies in the same folder, where the copy finds external data; the graph's weights (up to 256 MiB, as a frame) are written
    beside it as weights.bin. Raises ImportRefused for a graph that cannot be read.
    """
    arguments = [str(model.absolute()), str(into.absolute())]
    what = "The graph cannot be looked into"
    return looked("towline.convert.probing", arguments, list(tensors), Probe, timeout_s=timeout_s, what=what, code="PROBE_FAILED")


def main(arguments: list[str]) -> int:
    source, out, seconds = Path(arguments[0]), Path(arguments[1]), int(arguments[2])
    size_bytes = source.stat().st_size
    limit(size_bytes, seconds, file_bytes=2 * size_bytes + MAX_WEIGHTS_BYTES + (64 << 20))
    wanted = msgspec.json.decode(sys.stdin.buffer.read(), type=list[str])
    return tell(source, lambda: _probed(source, wanted, out))


def _probed(source: Path, wanted: list[str], out: Path) -> Probe:
    import onnx
    from onnx import shape_inference

    model = onnx.load_model(str(source), load_external_data=False)
    inferred = shape_inference.infer_shapes(model)
    known = {value.name: spec for value in inferred.graph.value_info if (spec := _spec(value)) is not None}
    made = [name for node in model.graph.node for name in node.output]
    given = {value.name for value in model.graph.output}
    chosen = [name for name in (wanted or made) if name in known and name not in given][:MAX_TENSORS]
    values = {value.name: value for value in inferred.graph.value_info}
    model.graph.output.extend([values[name] for name in chosen])
    _write_weights(model, out.with_name(WEIGHTS_NAME))
    out.write_bytes(model.SerializeToString())
    return Probe(tuple(known[name] for name in chosen), tuple(_node(node) for node in model.graph.node if node.output))


def _spec(value: Any) -> TensorSpec | None:
    """What a worker can give: floats of a known type."""
    kind = value.type.tensor_type
    if kind.elem_type not in _FLOATS:
        return None
    if not kind.HasField("shape"):
        return TensorSpec(value.name, _FLOATS[kind.elem_type], None)
    shape = tuple(dim.dim_value if dim.HasField("dim_value") else dim.dim_param or f"d{axis}" for axis, dim in enumerate(kind.shape.dim))
    return TensorSpec(value.name, _FLOATS[kind.elem_type], shape)


def _node(node: Any) -> Node:
    epsilon = next((attribute.f for attribute in node.attribute if attribute.name == "epsilon"), None)
    return Node(node.name, node.op_type, node.output[0], epsilon, tuple(node.input))


def _write_weights(model: Any, into: Path) -> None:
    """Weights of floats that lie in the file itself, in the order of the graph, as many as there is room for."""
    from onnx import numpy_helper

    found: dict[str, np.ndarray] = {}
    left_bytes = MAX_WEIGHTS_BYTES
    for tensor in model.graph.initializer:
        if tensor.data_location == 0 and tensor.data_type in _FLOATS:
            array = numpy_helper.to_array(tensor)
            left_bytes -= array.nbytes
            if left_bytes < 0 or len(found) == MAX_TENSORS:
                break
            found[tensor.name] = array
    into.write_bytes(encode_frame(found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
