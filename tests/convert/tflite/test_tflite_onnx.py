"""A converted graph gets the names that clients of the TensorFlow Lite file know."""

from __future__ import annotations

from typing import Any

import pytest
from onnx import TensorProto, helper
from small_files import read

from towline.convert.base import ConversionFailed
from towline.convert.foreign.importers import importer_entry
from towline.convert.tflite.model import read_model
from towline.convert.tflite.onnx_importer import rename, tensor_names
from towline.core.manifest import Signature, TensorSpec

SIGNATURE = Signature((TensorSpec("x", "float32", ("N", 2)),), (TensorSpec("y", "float32", ("N", 2)),))
NAMES = {"serving_default_x:0": "x", "PartitionedCall:0": "y"}


def graph(*, inner: str = "inner", output: str = "PartitionedCall:0") -> Any:
    value = helper.make_tensor_value_info
    nodes = [helper.make_node("Relu", ["serving_default_x:0"], [inner]), helper.make_node("Neg", [inner], [output])]
    return helper.make_graph(
        nodes,
        "tflite graph",
        [value("serving_default_x:0", TensorProto.FLOAT, ["unk__1", 2])],
        [value(output, TensorProto.FLOAT, ["unk__2", 2])],
    )


def test_names_and_open_dims_are_those_of_the_signature() -> None:
    renamed = graph()

    rename(renamed, NAMES, SIGNATURE)

    assert [list(node.input) + list(node.output) for node in renamed.node] == [["x", "inner"], ["inner", "y"]]
    for value, name in ((renamed.input[0], "x"), (renamed.output[0], "y")):
        assert value.name == name
        assert [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim] == ["N", 2]


def test_a_name_that_is_taken_inside_the_graph_is_not_given_twice() -> None:
    with pytest.raises(ConversionFailed, match="'y' already"):
        rename(graph(inner="y"), NAMES, SIGNATURE)


def test_an_output_that_the_model_does_not_have_is_named() -> None:
    with pytest.raises(ConversionFailed, match="has 'other', which the model does not"):
        rename(graph(output="other"), NAMES, SIGNATURE)


def test_tensors_are_known_by_the_names_of_the_signature() -> None:
    assert tensor_names(read_model(read("int8"))) == {
        "serving_default_picture:0": "picture",
        "StatefulPartitionedCall_1:0": "output_0",
    }


def test_the_route_to_onnx_is_gone_in_the_environment_of_tensorflow() -> None:
    assert importer_entry("tflite").environment == "litert"
    assert importer_entry("tflite", "litert").environment == "litert"
    assert importer_entry("tflite", "tf2onnx").environment == "tensorflow"
