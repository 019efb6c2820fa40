"""A converted graph answers under the names of its source."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper

from towline.convert.tensorflow.onnx_names import keep_names, tensors_of_layers
from towline.core.manifest import Signature, TensorSpec


def graph(output_tensors: list[str]) -> onnx.ModelProto:
    """y = relu(x + x), under the names that a converter makes; `a` and `b` are taken inside."""
    x = helper.make_tensor_value_info("in:0", TensorProto.FLOAT, ["unk__1", 2])
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["unk__2", 2]) for name in dict.fromkeys(output_tensors)]
    nodes = [
        helper.make_node("Add", ["in:0", "in:0"], ["b"]),
        helper.make_node("Identity", ["b"], ["sum:0"]),
        helper.make_node("Relu", ["b"], ["Identity:0"]),
    ]
    made = helper.make_model(helper.make_graph(nodes, "g", [x], values), opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(made)
    return made


def specs(*names: str) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(name, "float32", ("N", 2)) for name in names)


def answer(model: onnx.ModelProto, feeds: dict[str, list[list[float]]]) -> dict[str, list[list[float]]]:
    onnx.checker.check_model(model)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    found = session.run(names, {name: np.array(value, np.float32) for name, value in feeds.items()})
    return {name: array.tolist() for name, array in zip(names, found, strict=True)}


def test_inputs_outputs_and_dims_take_the_sources_names_also_where_they_are_taken_inside() -> None:
    model = graph(["Identity:0"])

    keep_names(model.graph, {"in:0": "b"}, [("Identity:0", "probs")], Signature(specs("b"), specs("probs")))

    assert answer(model, {"b": [[1, -1]]}) == {"probs": [[2, 0]]}
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "N"
    assert model.graph.output[0].type.tensor_type.shape.dim[0].dim_param == "N"


def test_outputs_come_in_the_sources_order_and_one_tensor_may_be_two() -> None:
    model = graph(["Identity:0", "sum:0"])
    outputs = [("sum:0", "total"), ("Identity:0", "probs"), ("sum:0", "again")]

    keep_names(model.graph, {"in:0": "x"}, outputs, Signature(specs("x"), specs("total", "probs", "again")))

    found = answer(model, {"x": [[1, -1]]})
    assert list(found) == ["total", "probs", "again"]
    assert found == {"total": [[2, -2]], "probs": [[2, 0]], "again": [[2, -2]]}


def test_names_inside_branches_are_renamed_with_those_around_them() -> None:
    inner = helper.make_graph(
        [helper.make_node("Neg", ["in:0"], ["neg"])], "then", [], [helper.make_tensor_value_info("neg", TensorProto.FLOAT, None)]
    )
    other = helper.make_graph(
        [helper.make_node("Identity", ["in:0"], ["same"])], "else", [], [helper.make_tensor_value_info("same", TensorProto.FLOAT, None)]
    )
    nodes = [
        helper.make_node("Constant", [], ["yes"], value=helper.make_tensor("v", TensorProto.BOOL, [], [True])),
        helper.make_node("If", ["yes"], ["out:0"], then_branch=inner, else_branch=other),
    ]
    x = helper.make_tensor_value_info("in:0", TensorProto.FLOAT, [None, 2])
    y = helper.make_tensor_value_info("out:0", TensorProto.FLOAT, [None, 2])
    model = helper.make_model(helper.make_graph(nodes, "g", [x], [y]), opset_imports=[helper.make_opsetid("", 18)], ir_version=8)

    keep_names(model.graph, {"in:0": "x"}, [("out:0", "y")], Signature(specs("x"), specs("y")))

    assert answer(model, {"x": [[1, -1]]}) == {"y": [[-1, 1]]}


OPERATIONS = [
    ("x", []),
    ("model_1/dense_1/MatMul", ["x"]),
    ("model_1/dense_1/BiasAdd", ["model_1/dense_1/MatMul"]),
    ("model_1/dense_1_1/MatMul", ["model_1/dense_1/BiasAdd"]),
    ("model_1/dense_1_1/Relu", ["model_1/dense_1_1/MatMul"]),
    ("model_1/probs_1/Softmax", ["model_1/dense_1_1/Relu"]),
    ("Identity", ["model_1/probs_1/Softmax"]),
    ("Identity_1", ["Identity"]),
]


def test_the_last_tensor_of_a_layers_scope_is_its_output() -> None:
    tensors = {"model_1/dense_1/MatMul:0", "model_1/dense_1/BiasAdd:0", "model_1/dense_1_1/Relu:0", "probs"}

    found = tensors_of_layers(OPERATIONS, {"Identity_1": "probs"}, tensors, ["dense", "dense_1", "probs"])

    assert found == {"dense": "model_1/dense_1/BiasAdd:0", "dense_1": "model_1/dense_1_1/Relu:0", "probs": "probs"}


def test_a_layer_that_was_fused_with_its_neighbours_has_no_tensor() -> None:
    found = tensors_of_layers(OPERATIONS, {}, {"model_1/dense_1/MatMul:0", "model_1/dense_1_1/Relu:0"}, ["dense", "dense_1"])

    assert found == {"dense_1": "model_1/dense_1_1/Relu:0"}
