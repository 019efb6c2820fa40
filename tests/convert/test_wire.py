"""Our own reading of the protobuf finds every tensor that names a file, wherever onnx's own definition lets one hide."""

from __future__ import annotations

import mmap

import numpy as np
import onnx
import pytest
from google.protobuf.descriptor import FieldDescriptor
from onnx import helper, numpy_helper

from towline.convert import wire
from towline.convert.wire import ExternalTensor, external_tensors
from towline.core.errors import ImportRefused
from towline.testing import tiny_models

TENSOR = onnx.TensorProto.DESCRIPTOR


def leads_to_a_tensor(message, seen=()) -> bool:
    inner = [field.message_type for field in message.fields if field.message_type]
    return message is TENSOR or any(leads_to_a_tensor(child, (*seen, message)) for child in inner if child not in (*seen, message))


def test_the_paths_to_tensors_are_those_of_onnx():
    """Should a later onnx put tensors somewhere new, this test names the field that the walk must learn."""
    file = onnx.ModelProto.DESCRIPTOR.file.message_types_by_name
    for name, paths in wire.PATHS.items():
        fields = [field for field in file[name].fields if field.message_type]
        wanted = {field.number: field.message_type.name for field in fields if leads_to_a_tensor(field.message_type)}
        if name == "TensorProto":
            wanted = {TENSOR.fields_by_name["external_data"].number: "StringStringEntryProto"}
        assert paths == wanted, name
    reached = {child for paths in wire.PATHS.values() for child in paths.values()} | {"ModelProto"}
    assert reached - {"StringStringEntryProto"} == set(wire.PATHS)


def test_the_fields_of_a_model_are_those_of_onnx():
    kinds = {FieldDescriptor.TYPE_INT64: 0, FieldDescriptor.TYPE_STRING: 2, FieldDescriptor.TYPE_MESSAGE: 2}

    assert {field.number: kinds[field.type] for field in onnx.ModelProto.DESCRIPTOR.fields} == wire._MODEL_FIELDS


def outside(name: str) -> onnx.TensorProto:
    tensor = numpy_helper.from_array(np.zeros(2, np.float32), name)
    tiny_models.refer_outside(tensor, f"{name}.bin", offset="4")
    return tensor


def model_with_tensors_everywhere() -> onnx.ModelProto:
    model = onnx.load_from_string(tiny_models.mlp())
    graph = model.graph
    graph.initializer.append(outside("initializer"))
    graph.sparse_initializer.append(helper.make_sparse_tensor(outside("values"), outside("indices"), [2]))
    graph.node.append(helper.make_node("Constant", [], ["c"], value=outside("attribute")))
    graph.node[0].attribute.append(helper.make_attribute("list", [outside("in a list")]))
    graph.node[0].attribute.append(helper.make_attribute("sparse", helper.make_sparse_tensor(outside("sparse"), outside("sparse i"), [2])))
    inner = helper.make_graph([], "inner", [], [], [outside("subgraph")])
    graph.node[0].attribute.append(helper.make_attribute("graph", inner))
    graph.node[0].attribute.append(helper.make_attribute("graphs", [helper.make_graph([], "other", [], [], [outside("of several")])]))
    model.training_info.add().initialization.initializer.append(outside("training"))
    model.training_info.add().algorithm.initializer.append(outside("algorithm"))
    function = model.functions.add(name="F")
    function.node.append(helper.make_node("Constant", [], ["c"], value=outside("function")))
    function.attribute_proto.append(helper.make_attribute("default", outside("default")))
    return model


EVERYWHERE = (
    "initializer, values, indices, attribute, in a list, sparse, sparse i, subgraph, of several, training, algorithm, function, default"
)


def test_tensors_are_found_in_all_places():
    found = external_tensors(model_with_tensors_everywhere().SerializeToString())

    assert {tensor.name for tensor in found} == set(EVERYWHERE.split(", "))
    assert {tensor.values("location") for tensor in found} == {(f"{tensor.name}.bin",) for tensor in found}
    assert {tensor.values("offset") for tensor in found} == {("4",)}


def test_a_graph_given_twice_is_read_twice_since_parsers_merge_them():
    raw = tiny_models.mlp()
    second = onnx.ModelProto(graph=onnx.GraphProto(initializer=[outside("hidden")])).SerializeToString()

    assert external_tensors(raw + second) == (ExternalTensor("hidden", (("location", "hidden.bin"), ("offset", "4"))),)
    assert onnx.load_from_string(raw + second).graph.initializer[-1].name == "hidden"


def test_a_tensor_that_keeps_its_data_but_names_a_file_is_found_too():
    model = onnx.load_from_string(tiny_models.mlp())
    model.graph.initializer[0].external_data.add(key="location", value="../x")

    assert [tensor.values("location") for tensor in external_tensors(model.SerializeToString())] == [("../x",)]


def test_a_mapped_file_reads_as_bytes_do(tmp_path):
    path = tiny_models.write(tmp_path, model_with_tensors_everywhere().SerializeToString())
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as raw:
        assert external_tensors(raw) == external_tensors(path.read_bytes())
        wire.check_whole(raw)


@pytest.mark.parametrize("cut", [5, 50, 500])
def test_an_inner_message_longer_than_its_holder_is_damage(cut):
    raw = bytearray(model_with_tensors_everywhere().SerializeToString())
    # The location of the last tensor claims more bytes than there are.
    at = raw.rindex(b"default.bin")
    raw[at - 1] = 0x7F if cut == 5 else min(cut, 0x7F)
    with pytest.raises(ImportRefused) as refusal:
        external_tensors(bytes(raw))

    assert refusal.value.code == "TORN_FILE"


def test_a_message_without_end_is_refused():
    with pytest.raises(ImportRefused) as refusal:
        wire.check_whole(b"\x08\x08" + b"\xff" * 20)

    assert refusal.value.code == "NOT_ONNX"
