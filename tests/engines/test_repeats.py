"""A run that goes straight from memory to memory gives what an ordinary one gives, and stands back where it could not."""

from __future__ import annotations

import mmap
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from towline.core.engine import EngineOptions
from towline.core.errors import EngineError, Kind
from towline.core.frames import FrameReader, FrameWriter
from towline.core.manifest import Facts, Manifest, Measured, Origin, Signature, TensorSpec
from towline.engines.onnxruntime import OnnxRuntimeEngine
from towline.engines.repeats import TINY_RUN_US, Repeats
from towline.testing import tiny_models

CAPACITY = 1 << 16
FAST_US = 10


class Desk:
    """One slot of a worker: what it is asked lies in one memory, what it answers in another."""

    def __init__(self, folder: Path, model: bytes, signature: Signature) -> None:
        tiny_models.write(folder, model)
        facts, measured = Facts(0, {}, {}), Measured("test", True, 0, 0, 1)
        manifest = Manifest(1, "onnxruntime", "model.onnx", {"serving_default": signature}, True, Origin("onnx", ""), facts, measured)
        self.session = OnnxRuntimeEngine().load(folder, manifest, EngineOptions())
        asked, answered = mmap.mmap(-1, CAPACITY), mmap.mmap(-1, CAPACITY)
        self.front, self.reader = FrameWriter(asked, 0, CAPACITY), FrameReader(asked, 0, CAPACITY)
        self.writer, self.seen = FrameWriter(answered, 0, CAPACITY), FrameReader(answered, 0, CAPACITY)
        self.repeats = Repeats(self.session, self.writer, 0)
        self.output = signature.outputs[0].name
        self.ordinary = 0

    def ask(self, inputs: Mapping[str, Any], *, spent_us: int = FAST_US) -> np.ndarray:
        """As engines/batches.py does it; the answer is what the front would read."""
        self.front.write([inputs])
        read = self.reader.read()
        if not self.repeats.run(read):
            self.ordinary += 1
            outputs = self.session.run(read, slot=0)
            self.writer.write([{self.output: outputs[0]}], outputs[0].shape)
            self.repeats.learn(read, outputs, outputs[0].shape, spent_us)
        return self.seen.read()[self.output].copy()


def signature(name: str, dtype: str, shape: tuple[int | str, ...], out: str, out_dtype: str, out_shape: tuple[int | str, ...]) -> Signature:
    return Signature((TensorSpec(name, dtype, shape),), (TensorSpec(out, out_dtype, out_shape),))


def one_node(node: str, out_type: int, **attributes: Any) -> bytes:
    """x float32 [N, 2] -> y through one node."""
    graph = helper.make_graph(
        [helper.make_node(node, ["x"], ["y"], **attributes)],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 2])],
        [helper.make_tensor_value_info("y", out_type, None)],
    )
    raw: bytes = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    return raw


MLP = signature("x", "float32", ("N", 10), "y", "float32", ("N", 10))


@pytest.fixture
def mlp(tmp_path: Path) -> Desk:
    return Desk(tmp_path, tiny_models.mlp(), MLP)


def test_each_shape_is_run_the_ordinary_way_once_and_all_answers_are_the_same(mlp: Desk) -> None:
    random = np.random.default_rng(0)
    for rows in (1, 4, 1, 2, 4, 1, 2, 7, 1):
        x = random.normal(size=(rows, 10)).astype(np.float32)
        assert np.array_equal(mlp.ask({"x": x}), mlp.session.run({"x": x})[0])

    assert mlp.ordinary == 4


def test_an_answer_in_place_of_an_error_has_its_head_again(mlp: Desk) -> None:
    x = np.ones((1, 10), np.float32)
    first = mlp.ask({"x": x})
    mlp.writer.forget()
    mlp.writer._buffer[0:40] = b'{"code": "ENGINE_REFUSED"} and some more'

    assert np.array_equal(mlp.ask({"x": x}), first)
    assert mlp.ordinary == 1


def test_a_run_that_is_not_tiny_is_not_tried_again(mlp: Desk) -> None:
    for _ in range(3):
        mlp.ask({"x": np.ones((1, 10), np.float32)}, spent_us=TINY_RUN_US + 1)

    assert mlp.ordinary == 3


def test_a_bound_run_that_is_told_to_stop_stops_and_the_next_does_not(tmp_path: Path) -> None:
    desk = Desk(tmp_path, tiny_models.slow(rounds=1 << 40, width=8), signature("x", "float32", ("N", 8), "y", "float32", ("N", 8)))
    x, y = np.ones((1, 8), np.float32), np.zeros((1, 8), np.float32)
    run = desk.session.bind({"x": x}, {"y": y}, slot=0)
    assert run is not None
    caught: list[EngineError] = []

    def stopped() -> None:
        try:
            run()
        except EngineError as error:
            caught.append(error)

    thread = threading.Thread(target=stopped)
    thread.start()
    while thread.is_alive():
        desk.session.terminate(0)
        thread.join(0.01)

    assert [error.kind for error in caught] == [Kind.DEADLINE]
    # What comes next in its slot is stopped by nothing.
    desk.session._run = lambda names, inputs, options: options.terminate
    assert desk.session.run({"x": x}, slot=0) is False


def test_an_answer_whose_length_lies_in_the_values_is_right_every_time(tmp_path: Path) -> None:
    desk = Desk(tmp_path, one_node("NonZero", TensorProto.INT64), signature("x", "float32", ("N", 2), "y", "int64", ("2", "M")))
    for values in ([[1, 0]], [[1, 1]], [[0, 1]], [[1, 1]], [[1, 0]]):
        x = np.array(values, np.float32)
        assert desk.ask({"x": x}).tolist() == desk.session.run({"x": x})[0].tolist()

    # Bound once, refused once, and not bound again.
    assert (desk.ordinary, desk.repeats._bind) == (5, None)


def test_a_model_that_draws_lots_is_never_bound(tmp_path: Path) -> None:
    desk = Desk(tmp_path, one_node("RandomNormalLike", TensorProto.FLOAT), signature("x", "float32", ("N", 2), "y", "float32", ("N", 2)))
    answers = {desk.ask({"x": np.ones((1, 2), np.float32)}).tobytes() for _ in range(4)}

    assert (len(answers), desk.ordinary) == (4, 4)


def test_an_input_that_the_engine_refuses_spoils_nothing_for_the_others(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("Gather", ["w", "x"], ["y"], axis=0)],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.INT64, ["N"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N"])],
        [onnx.numpy_helper.from_array(np.array([5, 7], np.float32), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    desk = Desk(tmp_path, model, signature("x", "int64", ("N",), "y", "float32", ("N",)))
    assert desk.ask({"x": np.array([1])}).tolist() == [7]
    with pytest.raises(EngineError) as caught:
        desk.ask({"x": np.array([9])})
    assert caught.value.kind is Kind.INVALID
    answers = [desk.ask({"x": np.array([place])}).tolist() for place in (0, 1, 0)]

    assert (answers, desk.ordinary) == ([[5], [7], [5]], 3)
