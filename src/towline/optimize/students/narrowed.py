"""A student with the version's own graph, each hidden layer narrower. Weights are drawn anew (He et al. 2015).

Walks the operators once. Those with weights are given narrower ones; the shape of every other output is asked of ONNX's own shape
inference, one operator at a time, so that any operator is followed; constants that carry a width are cut to the new one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from towline.optimize.base import PassFailed

_CONVOLUTIONS = ("Conv", "ConvTranspose")
_WEIGHTED = (*_CONVOLUTIONS, "Gemm", "MatMul", "Gather")
# Weights that normalise: drawn as (scale, bias, mean, variance).
_NORMS = {"BatchNormalization": (1, 0, 0, 1), "LayerNormalization": (1, 0), "InstanceNormalization": (1, 0)}
_ELEMENTWISE = ("Add", "Sub", "Mul", "Div", "Pow", "PRelu", "Where", "Max", "Min")
_LEAST = 4
_VECTORS = 8
Shape = tuple[int | str, ...]


def narrowed(model: Any, width: float, seed: int = 0) -> Any:
    """`model` (an onnx.ModelProto) with hidden widths times `width`. Raises PassFailed that names the operator where it cannot."""
    import onnx
    from onnx import checker

    student = onnx.ModelProto()
    student.CopyFrom(model)
    _constants_as_weights(student.graph)
    made = _Narrowing(student, width, seed).made()
    try:
        checker.check_model(made, full_check=True)
    except (checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise PassFailed(f"The narrowed graph does not hold together: {str(error).splitlines()[0][:160]}") from error
    return made


def scaled(size: int, width: float) -> int:
    """A hidden width times `width`: whole vectors of 8 where there are any left, and never wider than it was. Pure."""
    small = max(min(size, _LEAST), round(size * width))
    return min(size, round(small / _VECTORS) * _VECTORS) if small >= _VECTORS else small


class _Narrowing:
    """One walk over a graph, which is changed in place."""

    def __init__(self, model: Any, width: float, seed: int) -> None:
        from onnx import numpy_helper, shape_inference

        self._model, self._graph, self._width = model, model.graph, width
        self._rng = np.random.default_rng(seed)
        self._weights = {one.name: numpy_helper.to_array(one) for one in self._graph.initializer}
        inferred = shape_inference.infer_shapes(model, data_prop=True).graph
        self._old = {one.name: _shape(one) for one in (*inferred.input, *inferred.value_info, *inferred.output)}
        self._new: dict[str, Shape | None] = {one.name: _shape(one) for one in self._graph.input}
        self._types = {one.name: one.type.tensor_type.elem_type for one in (*inferred.input, *inferred.value_info, *inferred.output)}
        self._answering = _answering(self._graph, self._weights)
        self._changed: dict[str, np.ndarray] = {}

    def made(self) -> Any:
        from onnx import numpy_helper

        if not self._graph.node or not any(node.op_type in _WEIGHTED and self._has_weight(node) for node in self._graph.node):
            raise PassFailed("The graph has no layers with weights of their own, so there is nothing to narrow.")
        for node in self._graph.node:
            self._follow(node)
        without_what_nothing_reads(self._graph)
        del self._graph.initializer[:]
        used = {name for node in self._graph.node for name in node.input}
        weights = {name: array for name, array in {**self._weights, **self._changed}.items() if name in used}
        self._graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in weights.items())
        del self._graph.value_info[:]
        return self._model

    def _follow(self, node: Any) -> None:
        if any(one.HasField("g") or one.graphs for one in node.attribute):
            raise self._stuck(node, "holds graphs of its own")
        if node.op_type in _CONVOLUTIONS and self._has_weight(node):
            self._convolution(node)
        elif node.op_type in ("Gemm", "MatMul") and self._has_weight(node):
            self._product(node)
        elif node.op_type == "Gather" and node.input[0] in self._weights and self._weights[node.input[0]].ndim == 2:
            self._table(node)
        elif node.op_type in _NORMS:
            self._norm(node)
        elif node.op_type == "Reshape":
            self._reshape(node)
        elif node.op_type in _ELEMENTWISE:
            self._elementwise(node)
        elif self._is_narrowed(node) and any(self._weights[name].ndim > 1 for name in node.input if name in self._weights):
            raise self._stuck(node, "has weights that are not drawn anew")
        self._infer(node)

    def _convolution(self, node: Any) -> None:
        """The weight is [made, taken / groups, kernel …], that of a transposed one [taken, made / groups, kernel …]."""
        weight, group = self._weights[node.input[1]], next((one for one in node.attribute if one.name == "group"), None)
        groups = group.i if group is not None else 1
        turned = node.op_type == "ConvTranspose"
        old_taken, old_made = weight.shape[not turned] * (1 if turned else groups), weight.shape[turned] * (groups if turned else 1)
        taken = self._size(node, node.input[0], 1)
        if groups == old_taken and group is not None and groups > 1:
            # Depthwise: as many groups as channels, whatever their number.
            group.i = groups = taken
            made = taken * (old_made // old_taken)
        else:
            made = old_made if self._answers(node) else max(groups, scaled(old_made, self._width) // groups * groups)
        if taken % groups:
            raise self._stuck(node, f"has {groups} groups, which {taken} channels cannot be shared among")
        kernel = weight.shape[2:]
        shape = (taken, made // groups, *kernel) if turned else (made, taken // groups, *kernel)
        self._draw(node, 1, shape, (taken // groups) * math.prod(kernel))
        self._zeros(node, 2, (made,))

    def _product(self, node: Any) -> None:
        weight = self._weights[node.input[1]]
        flags = {one.name: one.i for one in node.attribute}
        if flags.get("transA") or weight.ndim != 2:
            raise self._stuck(node, "multiplies in an order that is not followed")
        taken = self._size(node, node.input[0], -1)
        old_made = weight.shape[0 if flags.get("transB") else 1]
        made = old_made if self._answers(node) else scaled(old_made, self._width)
        self._draw(node, 1, (made, taken) if flags.get("transB") else (taken, made), taken)
        self._zeros(node, 2, (made,))

    def _table(self, node: Any) -> None:
        """An embedding: a row per token, each a narrower vector."""
        rows, size = self._weights[node.input[0]].shape
        if not np.issubdtype(self._weights[node.input[0]].dtype, np.floating) or any(
            one.name == "axis" and one.i for one in node.attribute
        ):
            return
        self._draw(node, 0, (rows, size if self._answers(node) else scaled(size, self._width)), 2)

    def _norm(self, node: Any) -> None:
        size = self._size(node, node.input[0], -1 if node.op_type == "LayerNormalization" else 1)
        for place, value in enumerate(_NORMS[node.op_type], start=1):
            if place < len(node.input) and node.input[place] in self._weights:
                self._put(node, place, np.full(size, value, self._weights[node.input[place]].dtype))

    def _reshape(self, node: Any) -> None:
        """Of the new sizes the first and the last follow; those between are kept."""
        old, taken, new = self._old.get(node.output[0]), self._old.get(node.input[0]), self._new.get(node.input[0])
        if new is None or new == taken:
            return
        if not old or len(old) < 2 or any(not isinstance(size, int) for size in old[1:-1]):
            raise self._stuck(node, "makes a shape that is not known")
        target = np.array([0, *old[1:-1], -1], np.int64)
        node.input[1] = self._fresh(f"{node.output[0]}.shape", target)
        for one in [one for one in node.attribute if one.name == "allowzero"]:
            node.attribute.remove(one)

    def _elementwise(self, node: Any) -> None:
        """Constants beside something narrowed are cut to its width."""
        given = [(self._old[name], self._new[name]) for name in node.input if self._new.get(name) and self._old.get(name)]
        for place, name in enumerate(node.input):
            if name in self._weights:
                for old, new in given:
                    assert old is not None
                    assert new is not None
                    self._put(node, place, _cut(self._weights[name], old, new))

    def _infer(self, node: Any) -> None:
        """The shapes of what the operator makes, from those of what it takes now."""
        from onnx import TensorProto, helper, numpy_helper, shape_inference

        if not self._is_narrowed(node) and not any(name in self._changed for name in node.input):
            self._new.update({name: self._old.get(name) for name in node.output})
            return
        weights = {name: self._weight(name) for name in node.input if name in self._weights or name in self._changed}
        inputs = [
            helper.make_tensor_value_info(name, self._types.get(name, TensorProto.FLOAT), self._new.get(name))
            for name in dict.fromkeys(node.input)
            if name and name not in weights
        ]
        outputs = [helper.make_empty_tensor_value_info(name) for name in node.output if name]
        graph = helper.make_graph([node], "one", inputs, outputs, [numpy_helper.from_array(array, name) for name, array in weights.items()])
        alone = helper.make_model(graph, opset_imports=self._model.opset_import, ir_version=self._model.ir_version)
        try:
            found = shape_inference.infer_shapes(alone, strict_mode=True, data_prop=True).graph.output
        except shape_inference.InferenceError as error:
            raise self._stuck(node, f"cannot follow: {str(error).splitlines()[0][-100:]}") from error
        for value in found:
            self._new[value.name] = _shape(value)

    def _is_narrowed(self, node: Any) -> bool:
        return any(self._new.get(name) != self._old.get(name) for name in node.input)

    def _answers(self, node: Any) -> bool:
        return node.output[0] in self._answering

    def _has_weight(self, node: Any) -> bool:
        place = 0 if node.op_type == "Gather" else 1
        return len(node.input) > place and node.input[place] in self._weights

    def _size(self, node: Any, name: str, axis: int) -> int:
        shape = self._new.get(name)
        if not shape or not isinstance(shape[axis], int):
            raise self._stuck(node, "takes a shape that is not known")
        return int(shape[axis])

    def _weight(self, name: str) -> np.ndarray:
        return self._changed[name] if name in self._changed else self._weights[name]

    def _draw(self, node: Any, place: int, shape: Sequence[int], taken: int) -> None:
        dtype = self._weights[node.input[place]].dtype
        self._put(node, place, self._rng.normal(0, math.sqrt(2 / taken), shape).astype(dtype))

    def _zeros(self, node: Any, place: int, shape: Sequence[int]) -> None:
        if len(node.input) > place and node.input[place] in self._weights:
            self._put(node, place, np.zeros(shape, self._weights[node.input[place]].dtype))

    def _put(self, node: Any, place: int, array: np.ndarray) -> None:
        """Weights that several operators share stay shared where they are of one shape."""
        name = node.input[place]
        if name in self._changed and self._changed[name].shape != array.shape:
            node.input[place] = self._fresh(f"{node.output[0]}.{place}", array)
        else:
            self._changed.setdefault(name, array)

    def _fresh(self, name: str, array: np.ndarray) -> str:
        while name in self._weights or name in self._changed or name in self._old:
            name += "_"
        self._changed[name] = array
        return name

    def _stuck(self, node: Any, why: str) -> PassFailed:
        return PassFailed(
            f"The graph cannot be narrowed: operator '{node.name or node.output[0]}' ({node.op_type}) {why}.",
            hint="Try a student of another architecture: mobile, mlp or one of your own.",
        )


def _cut(constant: np.ndarray, old: Shape, new: Shape) -> np.ndarray:
    """`constant` with the axes cut along which what it is broadcast over was narrowed from `old` to `new`. Pure."""
    places: list[slice] = []
    for axis, size in enumerate(constant.shape, start=-constant.ndim):
        known = -axis <= len(old) and -axis <= len(new)
        narrower = known and isinstance(new[axis], int) and size == old[axis] != 1
        places.append(slice(0, int(new[axis])) if narrower else slice(None))
    return np.ascontiguousarray(constant[tuple(places)])


def _answering(graph: Any, weights: Mapping[str, np.ndarray]) -> set[str]:
    """What the last operators with weights make: nothing with weights stands between them and an output."""
    made_by = {name: node for node in graph.node for name in node.output}
    waiting, seen, found = [value.name for value in graph.output], set[str](), set[str]()
    while waiting:
        node = made_by.get(waiting.pop())
        if node is None or node.output[0] in seen:
            continue
        seen.add(node.output[0])
        place = 0 if node.op_type == "Gather" else 1
        if node.op_type in _WEIGHTED and len(node.input) > place and node.input[place] in weights:
            found.add(node.output[0])
        else:
            waiting.extend(node.input)
    return found


def _constants_as_weights(graph: Any) -> None:
    for node in [node for node in graph.node if node.op_type == "Constant" and node.attribute[0].name == "value"]:
        tensor = graph.initializer.add()
        tensor.CopyFrom(node.attribute[0].t)
        tensor.name = node.output[0]
        graph.node.remove(node)


def without_what_nothing_reads(graph: Any) -> None:
    needed = {value.name for value in graph.output}
    for node in reversed(list(graph.node)):
        if needed.isdisjoint(node.output):
            graph.node.remove(node)
        else:
            needed.update(node.input)


def _shape(value: Any) -> Shape | None:
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return None
    return tuple(dim.dim_value if dim.HasField("dim_value") else dim.dim_param for dim in tensor.shape.dim)
