"""Students of an architecture of their own: what is common to them, from a version's inputs to its output.

Weights are drawn as He et al. 2015 ("Delving Deep into Rectifiers") say, from a seed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from towline.optimize.students.asked import Asked, Taken

OPSET, IR_VERSION = 17, 8
# The mean and the standard deviation of what an input holds, per channel.
Spread = tuple[np.ndarray, np.ndarray]


@dataclass
class Drawing:
    """A graph that grows node by node; each method returns the name of the tensor that it made."""

    seed: int
    nodes: list[Any] = field(default_factory=list)
    weights: dict[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._rng = np.random.default_rng(self.seed)

    def node(self, kind: str, name: str, inputs: Sequence[str], output: str = "", **attributes: Any) -> str:
        from onnx import helper

        made = output or f"{name}.out"
        self.nodes.append(helper.make_node(kind, list(inputs), [made], name=name, **attributes))
        return made

    def weight(self, name: str, array: np.ndarray) -> str:
        self.weights[name] = array
        return name

    def he(self, name: str, shape: Sequence[int], taken: int) -> str:
        """Normal, with a variance of two by the number of values that each output takes."""
        return self.weight(name, self._rng.normal(0, math.sqrt(2 / taken), shape).astype(np.float32))

    def dense(self, name: str, taken: str, size: int, made: int, output: str = "") -> str:
        weights = [self.he(f"{name}.weight", (size, made), size), self.weight(f"{name}.bias", np.zeros(made, np.float32))]
        return self.node("Gemm", name, [taken, *weights], output)

    def convolved(self, name: str, taken: str, channels: int, made: int, *, kernel: int, stride: int = 1, groups: int = 1) -> str:
        """A convolution over two sides, a batch norm and a ReLU."""
        each = channels // groups
        weight = self.he(f"{name}.weight", (made, each, kernel, kernel), each * kernel * kernel)
        shape: dict[str, Any] = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [kernel // 2] * 4, "group": groups}
        last = self.node("Conv", name, [taken, weight], **shape)
        values = {"scale": 1, "bias": 0, "mean": 0, "var": 1}
        norm = [self.weight(f"{name}.{word}", np.full(made, value, np.float32)) for word, value in values.items()]
        last = self.node("BatchNormalization", f"{name}.norm", [last, *norm], epsilon=1e-5, momentum=0.9)
        return self.node("Relu", f"{name}.relu", [last])

    def floats(self, taken: Taken, spread: Spread | None, axis: int) -> str:
        """An input as float32, minus its mean and by its deviation along `axis` where those are given."""
        last = taken.name
        if taken.dtype != "float32":
            last = self.node("Cast", f"{taken.name}.float", [last], to=1)
        if spread is None:
            return last
        sizes = [1] * len(taken.shape or ())
        sizes[axis] = -1
        mean = self.weight(f"{taken.name}.mean", spread[0].astype(np.float32).reshape(sizes))
        scale = self.weight(f"{taken.name}.scale", (1 / spread[1]).astype(np.float32).reshape(sizes))
        return self.node("Mul", f"{taken.name}.scaled", [self.node("Sub", f"{taken.name}.centred", [last, mean]), scale])

    def finished(self, asked: Asked) -> Any:
        """The graph as an onnx.ModelProto whose last node gave the logits [rows, answers], with the output that is asked."""
        from onnx import checker, helper, numpy_helper

        if len(asked.output.shape or ()) == 1:
            axis = self.weight("rows.axis", np.array([1], np.int64))
            self.node("Squeeze", "rows", [self.nodes[-1].output[0], axis])
        if asked.output.dtype != "float32":
            self.node("Cast", "answer", self.nodes[-1].output, to=_element(asked.output))
        # Last, so that whoever trains the graph finds the logits before it.
        if asked.activation == "softmax":
            self.node("Softmax", "probabilities", self.nodes[-1].output, axis=-1)
        elif asked.activation == "sigmoid":
            self.node("Sigmoid", "probabilities", self.nodes[-1].output)
        self.nodes[-1].output[0] = asked.output.name
        inputs, outputs = [_value(one) for one in asked.inputs], [_value(asked.output)]
        weights = [numpy_helper.from_array(array, name) for name, array in self.weights.items()]
        graph = helper.make_graph(self.nodes, "student", inputs, outputs, weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="towline")
        checker.check_model(model, full_check=True)
        return model


def _value(one: Taken) -> Any:
    from onnx import helper

    return helper.make_tensor_value_info(one.name, _element(one), one.shape)


def _element(one: Taken) -> int:
    from onnx import helper

    return int(helper.np_dtype_to_tensor_dtype(np.dtype(one.dtype)))
