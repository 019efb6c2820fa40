"""The numbers of a quantised graph: its floats, written into it again, give the integers that ONNX Runtime's quantiser found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import numpy_helper

from towline.optimize.base import Material, PassFailed
from towline.optimize.pairs import Weight, integers_of, read_pairs, rewrite
from towline.optimize.qat import FLOATS, Qat, quantisation_trainings
from towline.optimize.quantize import Int8
from towline.testing import tiny_models

RNG = np.random.default_rng(0)
X = RNG.normal(size=(32, 3, 8, 8)).astype(np.float32)
HOWS = [
    Int8(),
    Int8(per_channel=False),
    Int8(reduce_range=True),
    Int8(weights="u8"),
    Int8(per_channel=False, weights="u8", reduce_range=True),
    Int8(floats=("logits",)),
]


def convolutions(factor: float = 1.0) -> onnx.ModelProto:
    """Two convolutions, the second in groups, and a product, with biases: x [N, 3, 8, 8] -> y [N, 5]."""
    drawn = np.random.default_rng(1)
    weights = {
        "w1": drawn.normal(size=(8, 3, 3, 3)),
        "b1": drawn.normal(size=8),
        "w2": drawn.normal(size=(8, 4, 3, 3)),
        "b2": drawn.normal(size=8),
        "w3": drawn.normal(size=(8, 5)),
        "b3": drawn.normal(size=5),
    }
    nodes = [
        onnx.helper.make_node("Conv", ["x", "w1", "b1"], ["a"], name="first"),
        onnx.helper.make_node("Relu", ["a"], ["r"], name="relu"),
        onnx.helper.make_node("Conv", ["r", "w2", "b2"], ["b"], name="second", group=2),
        onnx.helper.make_node("GlobalAveragePool", ["b"], ["p"], name="pool"),
        onnx.helper.make_node("Flatten", ["p"], ["f"], name="flat"),
        onnx.helper.make_node("Gemm", ["f", "w3", "b3"], ["y"], name="logits"),
    ]
    graph = onnx.helper.make_graph(
        nodes,
        "g",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["N", 3, 8, 8])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["N", 5])],
        [numpy_helper.from_array((factor * value).astype(np.float32), name) for name, value in weights.items()],
    )
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)


def quantized(model: onnx.ModelProto, how: Int8, folder: Path) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """What int8 writes, and the floats beside it."""
    folder.mkdir()
    onnx.save(model, folder / "m.onnx")
    how.run(folder / "m.onnx", folder, Material([{"x": X}]))
    return onnx.load(folder / "model.onnx"), onnx.load(folder / FLOATS)


def constants(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def answers(model: onnx.ModelProto) -> np.ndarray:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": X})[0])


@pytest.mark.parametrize("how", HOWS, ids=lambda how: how.settings)
def test_the_same_floats_give_the_same_integers(how: Int8, tmp_path: Path):
    model, floats = quantized(convolutions(), how, tmp_path / "made")
    before, pairs, expected = constants(model), read_pairs(model), answers(model)

    rewrite(model, floats, {one.scale_name: one.scale for one in pairs.activations})

    after = constants(model)
    assert after.keys() == before.keys()
    for name, array in before.items():
        # A product of two float32, not to the last bit.
        np.testing.assert_allclose(after[name], array, rtol=1e-6, atol=1 if array.dtype == np.int32 else 0, err_msg=name)
    onnx.checker.check_model(model, full_check=True)
    np.testing.assert_allclose(answers(model), expected, atol=0.02 * expected.std())


@pytest.mark.parametrize("how", HOWS, ids=lambda how: how.settings)
def test_other_floats_are_rounded_as_the_quantiser_rounds_them(how: Int8, tmp_path: Path):
    model, _ = quantized(convolutions(), how, tmp_path / "made")
    expected, floats = quantized(convolutions(0.7), how, tmp_path / "expected")
    scales = constants(expected)

    rewrite(model, floats, {one.scale_name: float(scales[one.scale_name]) for one in read_pairs(model).activations})

    got, wanted = constants(model), constants(expected)
    for name in [one for one in wanted if "zero_point" not in one]:
        np.testing.assert_allclose(got[name], wanted[name], rtol=1e-5, atol=1 if wanted[name].dtype.kind in "iu" else 1e-7, err_msg=name)


def test_what_is_rounded_is_read_as_int8_was_told(tmp_path: Path):
    pairs = read_pairs(quantized(convolutions(), Int8(reduce_range=True, floats=("second",)), tmp_path / "made")[0])

    assert {one.tensor for one in pairs.activations} == {"x", "r", "f", "y"}
    assert {(one.node, one.place, one.axis, one.zero_point) for one in pairs.weights} == {("first", 1, 0, 0), ("logits", 1, 1, 0)}
    assert {(one.low, one.high) for one in pairs.weights} == {(-64, 64)}
    assert {(one.low, one.high) for one in pairs.activations} == {(0, 255)}


def test_a_weight_of_zeros_stays_zeros():
    q, scale, zero_point = integers_of(np.zeros((2, 3), np.float32), Weight("n", 1, 0, 0, -127, 127))

    assert not q.any()
    assert (scale.tolist(), zero_point.tolist()) == ([1, 1], [0, 0])


def test_a_graph_without_pairs_is_refused():
    with pytest.raises(PassFailed, match="train after int8"):
        read_pairs(onnx.load_from_string(tiny_models.mlp()))


def test_training_without_rows_is_refused(tmp_path: Path):
    with pytest.raises(PassFailed, match="needs rows"):
        Qat().run(tmp_path / "model.onnx", tmp_path, Material())


def test_longer_trainings_come_after_shorter_ones():
    epochs = [one.training.epochs for one in quantisation_trainings()]

    assert epochs == sorted(set(epochs))
