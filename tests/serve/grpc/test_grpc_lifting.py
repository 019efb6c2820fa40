"""Long lists leave a request before protobuf reads it: what is read is the same, and no element of it is touched one by one."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from towline.core.errors import InvalidRequest
from towline.core.manifest import TensorSpec
from towline.serve.protocols.grpc import lifting, openinference_codec, tfserving_codec, varints
from towline.serve.protocols.grpc.descriptors_tf import TENSORFLOW
from towline.serve.protocols.grpc.descriptors_v2 import OPEN_INFERENCE
from towline.serve.protocols.grpc.elements import Run, array_from
from towline.serve.protocols.grpc.messages import MESSAGES
from towline.serve.protocols.grpc.wire import NotPlain, delimited, fields, head, varint

Infer, Predict = MESSAGES["inference.ModelInferRequest"], MESSAGES["tensorflow.serving.PredictRequest"]
V2 = lifting.place(5, 5, OPEN_INFERENCE.messages["InferTensorContents"], raws=7)
TF = lifting.place(2, 2, TENSORFLOW.messages["TensorProto"])
LONG = 40_000
# The same ones on any machine, however slow.
HURRY = (HealthCheck.too_slow, HealthCheck.data_too_large)
examples = settings(max_examples=40, derandomize=True, deadline=None, suppress_health_check=HURRY)


def test_every_list_of_numbers_of_both_protocols_can_be_lifted() -> None:
    contents = MESSAGES["inference.InferTensorContents"].DESCRIPTOR.fields
    tensor = MESSAGES["tensorflow.TensorProto"].DESCRIPTOR.fields

    assert {name for name, _ in V2.lists.values()} == {field.name for field in contents} - {"bytes_contents"}
    assert {name for name, _ in TF.lists.values()} == {field.name for field in tensor if field.name.endswith("_val")} - {"string_val"} | {
        "tensor_content"
    }


@pytest.mark.parametrize("values", [np.arange(LONG, dtype="<f4"), np.arange(LONG, dtype="<f8")])
def test_floats_are_a_view_of_the_message(values: np.ndarray) -> None:
    place = "fp32_contents" if values.dtype == np.float32 else "fp64_contents"
    raw = Infer(inputs=[{"name": "x", "contents": {place: values}}]).SerializeToString()
    # Before the floats comes as much as aligns them.
    start = raw.index(values.tobytes())
    raw = Infer(id="i" * ((-start - 2) % 8 + 8)).SerializeToString() + raw
    buffer = np.frombuffer(bytearray(8 + len(raw)), np.uint8)
    shift = -buffer.ctypes.data % 8
    buffer[shift : shift + len(raw)] = np.frombuffer(raw, np.uint8)

    _, lifted = lifting.lift(buffer[shift : shift + len(raw)].data, V2, 1000)  # type: ignore[arg-type]
    array = lifted.lists["x"][place].array()

    assert np.array_equal(array, values)
    assert np.shares_memory(array, buffer)


def test_raw_contents_are_views_too_each_in_its_place() -> None:
    raw = Infer(raw_input_contents=[bytes(2 * LONG), b"few", bytes(3 * LONG)]).SerializeToString()

    message, lifted = openinference_codec.read(raw)

    assert {index: (len(view), view.obj is raw) for index, view in lifted.raws.items()} == {0: (2 * LONG, True), 2: (3 * LONG, True)}
    assert list(message.raw_input_contents) == [b"", b"few", b""]


def test_protobuf_reads_no_element_of_what_was_lifted() -> None:
    raw = Infer(inputs=[{"name": "x", "shape": [LONG], "contents": {"int64_contents": range(LONG)}}], id="seven").SerializeToString()

    message, lifted = openinference_codec.read(raw)

    assert len(lifted.lists["x"]["int64_contents"]) == LONG
    assert not message.inputs[0].contents.int64_contents
    assert (message.id, list(message.inputs[0].shape)) == ("seven", [LONG])


def test_a_short_message_goes_to_protobuf_alone() -> None:
    raw = Infer(inputs=[{"name": "x", "contents": {"fp32_contents": [1, 2]}}]).SerializeToString()

    message, lifted = openinference_codec.read(raw)

    assert lifted is lifting.NOTHING
    assert list(message.inputs[0].contents.fp32_contents) == [1, 2]


def test_a_count_that_contradicts_the_shape_is_known_before_an_element_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(memoryview(b"\x81\x01" * LONG), "int64")
    monkeypatch.setattr(varints, "decode", None)

    assert len(run) == LONG


# What a serialiser may write of a list: packed, in one piece or several, or element by element.
_NUMBERS = {1: "bool", 2: "int32", 3: "int64", 4: "uint32", 5: "uint64", 6: "float", 7: "double"}
_FIXED = {"float": ("<f", 5), "double": ("<d", 1)}


def element(kind: str, value: int) -> bytes:
    return struct.pack(_FIXED[kind][0], value) if kind in _FIXED else varint(value % 2**64)


def unpacked(number: int, kind: str, value: int) -> bytes:
    return varint(number << 3 | (_FIXED[kind][1] if kind in _FIXED else 0)) + element(kind, value)


values = st.lists(st.one_of(st.integers(0, 3), st.integers(-(2**31), 2**31)), max_size=6)


@st.composite
def pieces(draw: st.DrawFn, numbers: Sequence[tuple[int, str]]) -> bytes:
    """The bytes of a message with lists."""
    parts = []
    for number, kind in draw(st.lists(st.sampled_from(numbers), max_size=3)):
        drawn = draw(values)
        if draw(st.integers(0, 3)):
            parts.append(delimited(number, b"".join(element(kind, value) for value in drawn)))
        else:
            parts += [unpacked(number, kind, value) for value in drawn]
    return b"".join(parts)


@st.composite
def requests(draw: st.DrawFn, where: lifting.Place) -> bytes:
    """A request as serialisers write it, or nearly: names and values may be missing, twice, or in another order."""
    numbers = [(number, kind) for number, (_, kind) in where.lists.items() if kind]
    tensors = []
    for name in draw(st.lists(st.sampled_from("xyz"), max_size=3)):
        parts = [delimited(1, name.encode())]
        parts += [delimited(where.values, draw(pieces(numbers))) for _ in range(draw(st.sampled_from([1, 1, 1, 0, 2])))]
        tensors.append(delimited(where.tensors, b"".join(draw(st.permutations(parts)))))
    tensors += [delimited(7, content) for content in draw(st.lists(st.binary(max_size=3), max_size=2))]
    return b"".join(draw(st.permutations(tensors)))


def seen(raw: bytes, message: Any, lifted: lifting.Lifted, where: lifting.Place) -> Any:
    """All that a request says, list by list, wherever it was read from."""
    given_ = message.inputs if where is V2 else [(name, message.inputs[name]) for name in sorted(message.inputs)]
    said = []
    for each in given_:
        name, tensor = (each.name, each.contents) if where is V2 else each
        lists = lifted.lists.get(name, {})
        told = {}
        for field, kind in where.lists.values():
            if kind:
                value = lists[field].array() if field in lists else np.array(list(getattr(tensor, field)), np.dtype(DTYPES[kind]))
                told[field] = (str(value.dtype), value.tobytes())
            else:
                told[field] = ("", bytes(lists.get(field, tensor.tensor_content)))
        said.append((name, told))
    if where is V2:
        said.append([bytes(lifted.raws.get(index, raw)) for index, raw in enumerate(message.raw_input_contents)])
    return said


DTYPES = {"float": "f4", "double": "f8"} | {kind: kind for kind in ("bool", "int32", "int64", "uint32", "uint64")}


def outcome(raw: bytes, kind: Any, where: lifting.Place, *, lifts: bool) -> Any:
    """What is read, "refused" where it is no message, and "left" where all of it is left to protobuf."""
    try:
        rest, lifted = lifting.lift(raw, where, 1) if lifts else (raw, lifting.NOTHING)
    except (NotPlain, UnicodeDecodeError):
        return "left"
    try:
        return seen(raw, kind.FromString(rest), lifted, where)
    except (DecodeError, varints.Malformed):
        return "refused"


each_protocol = pytest.mark.parametrize(("kind", "where"), [(Infer, V2), (Predict, TF)], ids=["v2", "tfserving"])


@each_protocol
@examples
@given(st.data())
def test_what_is_read_is_the_same_with_and_without_lifting(kind: Any, where: lifting.Place, data: st.DataObject) -> None:
    raw = data.draw(requests(where))

    lifted = outcome(raw, kind, where, lifts=True)

    assert lifted in ("left", outcome(raw, kind, where, lifts=False))


@each_protocol
@examples
@given(st.data())
def test_a_message_with_a_few_bytes_changed_is_read_the_same_or_refused_both_ways(
    kind: Any, where: lifting.Place, data: st.DataObject
) -> None:
    raw = bytearray(data.draw(requests(where)) or b"\0")
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at : at + data.draw(st.integers(0, 1))] = data.draw(st.binary(max_size=2))
        raw = raw or bytearray(b"\0")

    lifted = outcome(bytes(raw), kind, where, lifts=True)

    assert lifted in ("left", outcome(bytes(raw), kind, where, lifts=False))


@each_protocol
def test_a_plain_request_is_not_left_to_protobuf(kind: Any, where: lifting.Place) -> None:
    name, scalar = where.lists[6]
    tensor = delimited(where.values, delimited(6, element(scalar, 3)))
    raw = delimited(where.tensors, delimited(1, b"x") + tensor)

    _, lifted = lifting.lift(raw, where, 1)

    assert list(lifted.lists["x"]) == [name]


def test_a_request_of_very_many_fields_is_left_to_protobuf_soon() -> None:
    with pytest.raises(NotPlain):
        lifting.lift(delimited(2, b"1") * (lifting.MAX_FIELDS + 1), V2, 1)


@pytest.mark.parametrize(("run", "kind"), [(b"\0" * 7, "float"), (b"\0" * 12, "double"), (b"\1\x81", "int64"), (b"\x80", "bool")])
def test_a_list_that_is_cut_off_is_left_to_protobuf_which_refuses_it(run: bytes, kind: str) -> None:
    with pytest.raises(NotPlain):
        Run(memoryview(run), kind)


def test_a_length_longer_than_it_need_be_is_left_to_protobuf() -> None:
    assert [field[0] for field in fields(memoryview(b"\x0a\x03abc"))] == [1]
    with pytest.raises(NotPlain):
        list(fields(memoryview(b"\x0a\x83\x00abc")))


def test_floats_between_two_words_are_copied_to_where_an_engine_can_load_them() -> None:
    values = np.arange(100, dtype="<f4")
    arrays = [Run(memoryview(bytes(shift) + values.tobytes())[shift:], "float").array() for shift in range(4)]

    assert all(array.flags.aligned and np.array_equal(array, values) for array in arrays)


def test_a_number_of_more_than_ten_bytes_is_refused_by_name() -> None:
    with pytest.raises(InvalidRequest) as caught:
        array_from(Run(memoryview(b"\x80" * 11 + b"\1"), "int64"), TensorSpec("x", "int64", (1,)), "inputs[0]")

    assert (caught.value.code, caught.value.field) == ("BAD_MESSAGE", "inputs[0]")


def test_tensor_content_is_a_view_of_the_message() -> None:
    raw = Predict(inputs={"x": {"dtype": 1, "tensor_content": bytes(2 * LONG)}}).SerializeToString()

    message, lifted = tfserving_codec.read(raw)

    assert lifted.lists["x"]["tensor_content"].obj is raw
    assert not message.inputs["x"].tensor_content
    assert head(4, 2 * LONG) in raw
