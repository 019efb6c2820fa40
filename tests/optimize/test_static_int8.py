"""Eight bits where they were asked for and nowhere else, also after ONNX Runtime has had its way with the graph."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from convolutions import PICTURES, write
from onnxruntime.quantization import calibrate

from towline.optimize.base import Material, PassFailed
from towline.optimize.equalise import Equalise
from towline.optimize.qdq import channel_ranges, prepared
from towline.optimize.quantize import Int8
from towline.optimize.sensitivity import answers, sensitivities, sqnr_db

BATCHES = [{"x": PICTURES[:16]}, {"x": PICTURES[16:]}]


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return write(tmp_path / "small.onnx")


def made(how: Int8 | Equalise, model: Path) -> Path:
    into = model.parent / f"made-{len(list(model.parent.iterdir()))}"
    into.mkdir()
    return into / how.run(model, into, Material(BATCHES)).model


def loaded_operators(model: Path) -> Counter[str]:
    """What is left of the graph once ONNX Runtime has optimised it."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(model.with_suffix(".loaded.onnx"))
    ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(model.with_suffix(".loaded.onnx")).graph.node)


def noise_db(first: Path, second: Path) -> float:
    return sqnr_db(answers(first, BATCHES), answers(second, BATCHES))


def test_an_activation_goes_into_the_range_of_the_convolution_before_it(small: Path):
    whole = made(Int8(), small)

    assert "Clip" not in [node.op_type for node in onnx.load(whole).graph.node]
    loaded = loaded_operators(whole)
    assert loaded["QLinearConv"] == 4
    assert loaded["QuantizeLinear"] <= 2, "integers go from convolution to convolution"


@pytest.mark.parametrize("operator", ["depth", "narrow", "logits"])
def test_what_is_to_stay_in_float_stays_so_between_two_that_do_not(small: Path, operator: str):
    whole, mixed = loaded_operators(made(Int8(), small)), loaded_operators(made(Int8(floats=(operator,)), small))

    counted = ("QLinearConv", "QGemm")
    assert sum(mixed[kind] for kind in counted) == sum(whole[kind] for kind in counted) - 1


@pytest.mark.parametrize("floats", [(), ("narrow",)])
def test_operators_stand_in_the_order_of_their_tensors_as_the_import_of_a_version_asks(small: Path, floats: tuple[str, ...]):
    graph = onnx.load(made(Int8(floats=floats), small)).graph
    known = {one.name for one in (*graph.input, *graph.initializer)}

    for node in graph.node:
        assert set(node.input) - {""} <= known, node.name
        known |= set(node.output)


def test_channels_of_one_reach_lose_less_in_eight_bits_and_nothing_in_floats(small: Path, tmp_path: Path):
    equal = made(Equalise(), small)

    assert noise_db(small, equal) > 100
    assert noise_db(small, made(Int8(), equal)) > noise_db(small, made(Int8(), small)) + 6
    reach = channel_ranges(prepared(equal, tmp_path), BATCHES)["a1"]
    assert reach.min() > 0.5 * reach.max(), "a fiftieth before"


def test_a_clip_is_never_reached_earlier_than_calibration_and_headroom_allow(small: Path):
    equal = made(Equalise(), small)
    louder = [{"x": PICTURES * 1.2}]

    assert sqnr_db(answers(small, louder), answers(equal, louder)) > 100


def test_what_nothing_can_take_in_is_not_rescaled(tmp_path: Path):
    bare = write(tmp_path / "bare.onnx")
    graph = onnx.load(bare)
    for name in ("c1", "a1", "c2", "a2", "c3", "c4", "sum", "mean", "flat"):
        graph.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    onnx.save(graph, bare)

    with pytest.raises(PassFailed, match="nothing to equalise"):
        made(Equalise(), bare)


def test_signed_activations_are_written_as_such_and_never_beside_unsigned_weights(small: Path):
    graph = onnx.load(made(Int8(activations="s8"), small)).graph

    zeros = {one.name: one.data_type for one in graph.initializer if one.name.endswith("zero_point")}
    assert set(zeros.values()) <= {onnx.TensorProto.INT8, onnx.TensorProto.INT32}
    with pytest.raises(PassFailed, match="u8s8, u8u8 and s8s8"):
        made(Int8(activations="s8", weights="u8"), small)


def test_ranges_of_what_is_never_negative_use_all_integers(small: Path):
    for how in ("minmax", "percentile", "entropy"):
        graph = onnx.load(made(Int8(calibration=how), small)).graph
        zero = next(onnx.numpy_helper.to_array(one) for one in graph.initializer if one.name == "a1_zero_point")
        assert int(zero) == 0, how


def test_sensitivity_of_all_operators_takes_one_calibration(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    runs: list[object] = []
    real = calibrate.create_calibrator
    monkeypatch.setattr(calibrate, "create_calibrator", lambda *given, **named: runs.append(given) or real(*given, **named))

    found = list(sensitivities(small, tmp_path, BATCHES, Int8()))

    assert [one.operator for one in found] == ["first", "depth", "narrow", "again", "logits"]
    assert len(runs) == 1
    assert np.isfinite([one.sqnr_db for one in found]).all()


def test_a_graph_in_eight_bits_is_not_quantised_again(small: Path):
    with pytest.raises(PassFailed, match="eight bits already"):
        made(Int8(), made(Int8(), small))
