"""The steps of processing as ONNX operators, in the arithmetic of the worker's own: Pillow's resize, torchvision's crop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from towline.core import dtypes, steps
from towline.core.manifest import TensorSpec
from towline.core.steps import After, Chain

# Filters that ONNX's Resize has too.
MODES = {"bilinear": "linear", "bicubic": "cubic"}
_PREFIX = "towline_"


class Nodes:
    """Nodes and constants in the making; `last` is the tensor that the next step works on."""

    def __init__(self, last: str) -> None:
        self.last = last
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self._first = last
        self._count = 0

    def add(self, kind: str, *inputs: str, called: str = "", outputs: int = 1, **attributes: Any) -> list[str]:
        """One node; its outputs, of which `called` names the only one."""
        from onnx import helper

        names = [called or self._name() for _ in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, name=self._name(), **attributes))
        return names

    def then(self, kind: str, *inputs: str, **attributes: Any) -> None:
        """A node that works on `last` and becomes it."""
        (self.last,) = self.add(kind, self.last, *inputs, **attributes)

    def constant(self, value: Any, dtype: Any = np.int64) -> str:
        from onnx import TensorProto, helper, numpy_helper

        name = self._name()
        if dtype is str:
            self.constants.append(helper.make_tensor(name, TensorProto.STRING, [len(value)], [word.encode() for word in value]))
        else:
            self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def cast(self, dtype: str) -> None:
        from onnx import helper

        self.then("Cast", to=helper.np_dtype_to_tensor_dtype(dtypes.BY_NAME[dtype].numpy))

    def _name(self) -> str:
        self._count += 1
        return f"{_PREFIX}{self._first}_{self._count}"


def add_picture(nodes: Nodes, chain: Chain, into: TensorSpec) -> None:
    """From uint8 [N, H, W, C] pixels to the graph's input `into`."""
    nodes.cast("float32")
    nodes.then("Transpose", perm=[0, 3, 1, 2])
    # As in the worker: what works on pictures comes first, and leaves whole numbers.
    for step in chain.steps:
        if isinstance(step, steps.Resize):
            _resize(nodes, step)
        elif isinstance(step, steps.Crop):
            _crop(nodes, step)
    for step in chain.steps:
        if isinstance(step, steps.Normalise):
            nodes.then("Mul", nodes.constant(step.scale, np.float32))
            for kind, values in (("Sub", step.mean), ("Div", step.std)):
                nodes.then(kind, nodes.constant(np.reshape(values, (1, -1, 1, 1)), np.float32))
    if any(isinstance(step, steps.Layout) and step.order == "NHWC" for step in chain.steps):
        nodes.then("Transpose", perm=[0, 2, 3, 1])
    nodes.cast(into.dtype)
    nodes.add("Identity", nodes.last, called=into.name)


def add_after(nodes: Nodes, after: Sequence[After], of: TensorSpec, labels: Sequence[str]) -> set[str]:
    """From the graph's output `of` to the outputs that clients get; returns their names."""
    found: dict[str, str] = {}
    nodes.cast("float32")
    for step in after:
        if isinstance(step, steps.Softmax):
            nodes.then("Softmax", axis=-1)
            found["score"] = nodes.last
        elif isinstance(step, steps.Sigmoid):
            nodes.then("Sigmoid")
            found["score"] = nodes.last
        elif isinstance(step, steps.TopK):
            classes = (of.shape or ("",))[-1]
            k = min(step.k, classes) if isinstance(classes, int) else step.k
            found["score"], found["index"] = nodes.add("TopK", nodes.last, nodes.constant([k]), outputs=2, axis=-1, largest=1, sorted=1)
            nodes.last = found["score"]
        elif isinstance(step, steps.Threshold):
            found["score"] = nodes.last
            (found["chosen"],) = nodes.add("GreaterOrEqual", nodes.last, nodes.constant(step.at, np.float32))
        elif isinstance(step, steps.Labels):
            (found["label"],) = nodes.add("Gather", nodes.constant(labels, str), found["index"])
    for name, tensor in found.items():
        nodes.add("Identity", tensor, called=name)
    return set(found)


def _sides(nodes: Nodes) -> str:
    """Height and width of the last tensor, int64 [2]."""
    (shape,) = nodes.add("Shape", nodes.last, start=2, end=4)
    return shape


def _resize(nodes: Nodes, step: steps.Resize) -> None:
    if step.width:
        sides = nodes.constant([step.height, step.width])
    else:
        now = _sides(nodes)
        (reference,) = nodes.add("ReduceMin" if step.shorter else "ReduceMax", now, keepdims=1)
        (scaled,) = nodes.add("Mul", now, nodes.constant([step.shorter or step.longer]))
        (whole,) = nodes.add("Div", scaled, reference)
        (sides,) = nodes.add("Max", whole, nodes.constant([1]))
    (rows,) = nodes.add("Shape", nodes.last, start=0, end=2)
    (sizes,) = nodes.add("Concat", rows, sides, axis=0)
    cubic = {"cubic_coeff_a": -0.5, "exclude_outside": 1} if step.filter == "bicubic" else {}
    nodes.then("Resize", "", "", sizes, mode=MODES[step.filter], antialias=1, **cubic)
    # A picture's pixels are whole numbers.
    nodes.then("Round")
    nodes.then("Clip", nodes.constant(0, np.float32), nodes.constant(255, np.float32))


def _crop(nodes: Nodes, step: steps.Crop) -> None:
    wanted, two, none = nodes.constant([step.height, step.width]), nodes.constant([2]), nodes.constant([0, 0])
    (lacking,) = nodes.add("Sub", wanted, _sides(nodes))
    (padding,) = nodes.add("Max", lacking, none)
    (first,) = nodes.add("Div", padding, two)
    (second,) = nodes.add("Sub", padding, first)
    (pads,) = nodes.add("Concat", none, first, none, second, axis=0)
    nodes.then("Pad", pads)
    (spare,) = nodes.add("Sub", _sides(nodes), wanted)
    (as_float,) = nodes.add("Cast", spare, to=1)
    (halves,) = nodes.add("Mul", as_float, nodes.constant(0.5, np.float32))
    # ONNX rounds halves to the even number, as Python does.
    (rounded,) = nodes.add("Round", halves)
    (start,) = nodes.add("Cast", rounded, to=7)
    (end,) = nodes.add("Add", start, wanted)
    nodes.then("Slice", start, end, nodes.constant([2, 3]))
