"""Weights of 4 and 8 bits: what is written really is as small as it says, answers as the rounded weights do, and says why it cannot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from towline.convert.onnx import inspect_model
from towline.optimize.base import Material, Pass, PassFailed, settings_of
from towline.optimize.passes import kind_of, pass_of
from towline.optimize.process import Work, run_pass
from towline.optimize.stored import Stored, integers
from towline.optimize.weight_only import WeightOnly, weights_only
from towline.testing import tiny_models

RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(16, 10)).astype(np.float32)
ALL = (*weights_only(), WeightOnly(4, block=16, symmetric=True), Stored(4, block=10), Stored(8, block=7, symmetric=False))


def made(how: Pass, model: Path, into: Path) -> Path:
    into.mkdir()
    return into / how.run(model, into, Material()).model


def answers(model: Path, feeds: dict[str, np.ndarray]) -> np.ndarray:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    return ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"]).run(None, feeds)[0]  # type: ignore[no-any-return]


def graph_of(nodes: list[onnx.NodeProto], weights: dict[str, np.ndarray], shape: list[object], opset: int = 17) -> onnx.ModelProto:
    """One input x, one output y, and an IR version that goes with the operator set."""
    sides = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)], [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    constants = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "g", *sides, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=7)


def saved(model: onnx.ModelProto, folder: Path) -> Path:
    onnx.save(model, folder / "m.onnx")
    return folder / "m.onnx"


@pytest.fixture
def mlp(tmp_path: Path) -> Path:
    return tiny_models.write(tmp_path, tiny_models.mlp(width=100), "m.onnx")


@pytest.mark.parametrize("how", ALL, ids=lambda how: f"{how.name}, {how.settings}")
def test_answers_stay_close_and_the_engine_takes_the_file(how: Pass, mlp: Path, tmp_path: Path):
    small = made(how, mlp, tmp_path / "made")

    np.testing.assert_allclose(answers(small, {"x": ROWS}), answers(mlp, {"x": ROWS}), atol=0.35 if "4" in how.name else 0.04)
    assert inspect_model(small).operators, "what we write, we import"


def test_in_its_own_process_a_pass_does_what_it_does_here(mlp: Path, tmp_path: Path):
    passed = run_pass(WeightOnly(8), Work(mlp), tmp_path / "made")

    assert passed.notes == ("2 matrix products have weights of 8 bits.",)
    assert (tmp_path / "made" / passed.model).read_bytes() == made(WeightOnly(8), mlp, tmp_path / "again").read_bytes()


@pytest.mark.parametrize(("how", "share"), [(Stored(8), 0.30), (Stored(4), 0.16), (WeightOnly(8), 0.36), (WeightOnly(4), 0.22)])
def test_the_file_is_as_small_as_its_bits(how: Pass, share: float, tmp_path: Path):
    wide = graph_of([helper.make_node("MatMul", ["x", "w"], ["y"], name="m")], {"w": RNG.normal(size=(256, 512))}, ["N", 256])
    big = saved(wide, tmp_path)

    assert made(how, big, tmp_path / "made").stat().st_size < share * big.stat().st_size


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("block", [0, 5, 64])
def test_no_weight_moves_further_than_half_a_step(bits: int, symmetric: bool, block: int):
    rows = RNG.normal(size=(3, 13)).astype(np.float32)
    rows[1] = 0

    packed = integers(rows, bits, block, symmetric=symmetric)

    shift = 0 if packed.zero_point is None else packed.zero_point.astype(np.float32)
    back = ((packed.q.astype(np.float32) - shift) * packed.scale).reshape(3, -1)[:, :13]
    steps = np.repeat(packed.scale, packed.q.shape[2], axis=2).reshape(3, -1)[:, :13]
    # A zero point is rounded as well: at an end of the range that can be another half.
    assert (np.abs(back - rows) <= steps * (0.501 if symmetric else 1.001)).all()
    assert not back[1].any()
    lowest, highest = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if symmetric else (0, 2**bits - 1)
    assert packed.q.min() >= lowest
    assert packed.q.max() <= highest


def test_what_is_stored_is_floats_once_loaded_and_nothing_runs_per_request(mlp: Path, tmp_path: Path):
    small = made(Stored(8), mlp, tmp_path / "made")
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "loaded.onnx")
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 3
    ort.InferenceSession(str(small), options, providers=["CPUExecutionProvider"])

    before = {one.op_type for one in onnx.load(small).graph.node}
    after = {one.op_type for one in onnx.load(tmp_path / "loaded.onnx").graph.node}

    assert {"Cast", "Mul"} <= before
    assert not {"Cast", "Mul", "Transpose", "Reshape"} & after


@pytest.mark.parametrize(
    ("kind", "shape", "channels", "x", "attributes"),
    [
        ("Conv", (20, 8, 3, 3), 0, (4, 8, 6, 6), {}),
        ("ConvTranspose", (8, 20, 2, 2), 1, (4, 8, 6, 6), {}),
        ("MatMul", (30, 20), 1, (64, 30), {}),
        ("Gemm", (30, 20), 1, (64, 30), {}),
        ("Gemm", (20, 30), 0, (64, 30), {"transB": 1}),
    ],
)
def test_each_kind_of_weight_is_stored_along_its_own_channels(
    kind: str, shape: tuple[int, ...], channels: int, x: tuple[int, ...], attributes: dict[str, int], tmp_path: Path
):
    # One output a thousand times louder than the others: a scale that they shared with it would wipe those out.
    loud = np.ones(20)
    loud[3] = 1000.0
    weight = RNG.normal(size=shape) * loud.reshape([20 if axis == channels else 1 for axis in range(len(shape))])
    rows = RNG.normal(size=x).astype(np.float32)
    big = saved(graph_of([helper.make_node(kind, ["x", "w"], ["y"], name="n", **attributes)], {"w": weight}, ["N", *x[1:]]), tmp_path)

    got, expected = answers(made(Stored(8), big, tmp_path / "made"), {"x": rows}), answers(big, {"x": rows})

    noise, signal = (np.moveaxis(one, 1, 0).reshape(20, -1).std(axis=1) for one in (got - expected, expected))
    assert (noise < 0.03 * signal).all(), noise / signal


def test_a_weight_that_two_products_share_is_written_once(tmp_path: Path):
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"], name="one"), helper.make_node("MatMul", ["h", "w"], ["y"], name="two")]
    big = saved(graph_of(nodes, {"w": RNG.normal(size=(40, 40)) / 6}, ["N", 40]), tmp_path)
    x = RNG.normal(size=(4, 40)).astype(np.float32)

    for how in (WeightOnly(8), Stored(8)):
        small = made(how, big, tmp_path / how.name)
        names = [tensor.name for tensor in onnx.load(small).graph.initializer]
        assert len(names) == len(set(names))
        np.testing.assert_allclose(answers(small, {"x": x}), answers(big, {"x": x}), atol=0.06)


def test_an_old_operator_set_is_raised_where_four_bits_need_it(tmp_path: Path):
    node = helper.make_node("MatMul", ["x", "w"], ["y"], name="m")
    old = saved(graph_of([node], {"w": RNG.normal(size=(33, 17))}, ["N", 33], opset=11), tmp_path)
    x = RNG.normal(size=(4, 33)).astype(np.float32)

    small = made(Stored(4, block=16, symmetric=False), old, tmp_path / "made")

    assert onnx.load(small).opset_import[0].version == 21
    np.testing.assert_allclose(answers(small, {"x": x}), answers(old, {"x": x}), atol=3)


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        (WeightOnly(4), "no matrix product of this graph has a constant weight"),
        (WeightOnly(4, block=24), "a block of 24 weights: ONNX Runtime knows 16, 32"),
        (Stored(8), "no operator of this graph has a constant weight of 256 floats"),
    ],
)
def test_a_graph_without_weights_is_refused_with_the_reason(how: Pass, reason: str, tmp_path: Path):
    with pytest.raises(PassFailed) as failed:
        made(how, tiny_models.write(tmp_path, tiny_models.add_two(), "m.onnx"), tmp_path / "made")

    assert reason.lower() in failed.value.message.lower()


def test_weights_that_are_no_numbers_stay_as_they_are(tmp_path: Path):
    broken = np.full((40, 40), np.nan)
    node = helper.make_node("MatMul", ["x", "w"], ["y"], name="m")

    with pytest.raises(PassFailed, match="nothing to store"):
        made(Stored(8), saved(graph_of([node], {"w": broken}, ["N", 40]), tmp_path), tmp_path / "made")


@pytest.mark.parametrize("how", ALL, ids=lambda how: f"{how.name}, {how.settings}")
def test_a_pass_comes_back_from_its_settings(how: Pass):
    assert pass_of(kind_of(how), settings_of(how)) == how
