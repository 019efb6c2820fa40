"""Write the steps around a graph into the graph: `python -P -m towline.convert.fuse MODEL OUT SECONDS`, a process of its own.

Decoding stays in the worker: docs/decisions/0008-fusing.md has the reason. What is fused are operators of ONNX itself, so that the
file needs nothing and answers alike wherever it runs: pixels in, labels out.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec

from towline.convert import wording
from towline.convert.declaration import Declaration, refused
from towline.convert.fused_nodes import MODES, Nodes, add_after, add_picture
from towline.convert.inspect import limit
from towline.convert.processing import Prepared
from towline.core import dtypes, steps
from towline.core.manifest import Processing, Signature, TensorSpec
from towline.core.steps import read_steps

PIXELS = "pixels"
# The first one whose Resize smooths as Pillow's does.
OPSET = 18
_HEIGHT, _WIDTH = "towline_height", "towline_width"


class Plan(msgspec.Struct, frozen=True):
    """What the process is told: the fitted processing, the graph's signature, what clients get, and the labels."""

    processing: Processing
    graph: Signature
    outputs: tuple[TensorSpec, ...]
    labels: tuple[str, ...]


def plan(prepared: Prepared, graph: Signature, labels: tuple[str, ...] | None) -> Plan:
    """Raises ImportRefused that names what has no operator."""
    chains, after = read_steps(prepared.processing)
    if len(chains) != 1 or not isinstance(chains[0].source, steps.Image):
        kinds = ", ".join(steps.kind_of(chain.source) for chain in chains) or "nothing"
        raise refused(f"only processing that reads one picture can be fused; this reads {kinds}")
    for step in (*chains[0].steps, *after):
        if isinstance(step, steps.Pool | steps.UnitLength | steps.Segment | steps.Pad):
            raise refused(f"'{steps.kind_of(step)}' cannot be fused")
        if isinstance(step, steps.Resize) and step.filter not in MODES:
            raise refused(f"'resize' with the filter '{step.filter}' cannot be fused; {' and '.join(MODES)} can")
        if isinstance(step, steps.TopK) and not isinstance(_output(graph, step.output).shape, tuple):
            raise refused("'top_k' cannot be fused where the graph does not tell how many classes it has")
    return Plan(prepared.processing, graph, prepared.outer.outputs, labels or ())


def remaining(prepared: Prepared) -> Declaration:
    """What is left to the worker: decoding."""
    chains, _ = read_steps(prepared.processing)
    return Declaration((msgspec.structs.replace(chains[0].source, into=PIXELS), steps.Layout(order="NHWC")), ())


def write_fused(model: Path, wanted: Plan, *, timeout_s: int = 120) -> None:
    """Replace our own copy of a model by the fused one, which a process of its own writes beside it. Raises ImportRefused."""
    beside = model.with_name("fused.onnx")
    # -P: a file called onnx.py in the current folder must not be what gets imported.
    command = [sys.executable, "-P", "-m", "towline.convert.fuse", str(model.absolute()), str(beside.absolute()), str(timeout_s)]
    try:
        ran = subprocess.run(command, input=msgspec.json.encode(wanted), capture_output=True, timeout=timeout_s + 10, check=False)
    except subprocess.TimeoutExpired:
        raise refused(f"fusing took longer than {timeout_s} seconds") from None
    if ran.returncode != 0:
        said = wording.sentence(ran.stdout[:4096].decode("utf-8", "replace")) or "the process that writes the fused graph died"
        raise refused(f"the steps cannot be written into this graph: {said.rstrip('.')}")
    beside.replace(model)


def main(arguments: list[str]) -> int:
    source, out, seconds = Path(arguments[0]), Path(arguments[1]), int(arguments[2])
    size_bytes = source.stat().st_size
    limit(size_bytes, seconds, file_bytes=2 * size_bytes + (64 << 20))
    wanted = msgspec.json.decode(sys.stdin.buffer.read(), type=Plan)
    try:
        out.write_bytes(fused(source.read_bytes(), wanted))
    except Exception as error:
        # The outermost frame of the process: every way in which it can fail becomes one line.
        sys.stdout.write(wording.sentence(f"{type(error).__name__}: {error}", hidden=(str(source.parent),)))
        return 1
    return 0


def fused(raw: bytes, wanted: Plan) -> bytes:
    """The model with the steps of `wanted` before and after its nodes, taking uint8 [N, height, width, channels]."""
    import onnx
    from onnx import helper, version_converter

    model = onnx.load_model_from_string(raw)
    if next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")) < OPSET:
        model = version_converter.convert_version(model, OPSET)
    (chain,), after = read_steps(wanted.processing)
    into = next(spec for spec in wanted.graph.inputs if spec.name == steps.into_of(chain.source))
    before, behind = Nodes(PIXELS), Nodes(after[0].output if after else "")
    add_picture(before, chain, into)
    made = add_after(behind, after, _output(wanted.graph, after[0].output), wanted.labels) if after else {}
    graph = model.graph
    kept = [value for value in graph.input if value.name != into.name]
    others = {value.name: value for value in graph.output}
    nodes = [*before.nodes, *graph.node, *behind.nodes]
    del graph.node[:], graph.input[:], graph.output[:]
    graph.node.extend(nodes)
    graph.initializer.extend([*before.constants, *behind.constants])
    rows = (into.shape or ("N",))[0]
    channels = 1 if getattr(chain.source, "colour", "") == "grey" else 3
    graph.input.extend([_value(helper, TensorSpec(PIXELS, "uint8", (rows, _HEIGHT, _WIDTH, channels))), *kept])
    graph.output.extend([_value(helper, spec) if spec.name in made else others[spec.name] for spec in wanted.outputs])
    return bytes(model.SerializeToString())


def _output(graph: Signature, name: str) -> TensorSpec:
    return next(spec for spec in graph.outputs if spec.name == name)


def _value(helper: Any, spec: TensorSpec) -> Any:
    element = helper.np_dtype_to_tensor_dtype(dtypes.BY_NAME[spec.dtype].numpy)
    return helper.make_tensor_value_info(spec.name, element, list(spec.shape or ()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
