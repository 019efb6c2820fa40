"""Each pass changes a real graph as it says, and the figures of sensitivity are what their formula gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from towline.optimize import sensitivity
from towline.optimize.base import Pass, PassFailed
from towline.optimize.graph import Half, Slim
from towline.optimize.process import Work, run_pass, run_sensitivity, write_calibration
from towline.optimize.quantize import DynamicInt8, Int8, reduces_range
from towline.optimize.rows import write_rows
from towline.optimize.sensitivity import answers_file, moved, sqnr_db
from towline.testing import tiny_models

ROWS = np.random.default_rng(0).normal(size=(64, 10)).astype(np.float32)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tiny_models.write(tmp_path, tiny_models.mlp(), "m.onnx")


def answers(model: Path) -> np.ndarray:
    return ort.InferenceSession(str(model), providers=["CPUExecutionProvider"]).run(None, {"x": ROWS})[0]  # type: ignore[no-any-return]


def operators(model: Path) -> list[str]:
    return [node.op_type for node in onnx.load(model).graph.node]


@pytest.mark.parametrize("how", [Slim(), Half(), DynamicInt8(), Int8(), Int8(calibration="percentile", weights="u8")])
def test_a_pass_writes_a_model_that_answers_much_as_before(model: Path, tmp_path: Path, how: Pass):
    batches = write_calibration([{"x": ROWS[:32]}, {"x": ROWS[32:]}], tmp_path)

    passed = run_pass(how, Work(model, batches), tmp_path / "made")

    np.testing.assert_allclose(answers(tmp_path / "made" / passed.model), answers(model), atol=0.15)


def test_eight_bits_are_really_in_the_graph_and_named_operators_stay_in_float(model: Path, tmp_path: Path):
    batches = write_calibration([{"x": ROWS}], tmp_path)

    whole = run_pass(Int8(), Work(model, batches), tmp_path / "whole")
    mixed = run_pass(Int8(floats=("hidden",)), Work(model, batches), tmp_path / "mixed")

    counts = [operators(tmp_path / name / one.model).count("QuantizeLinear") for name, one in (("whole", whole), ("mixed", mixed))]
    assert counts[0] > counts[1] > 0


def test_static_quantisation_without_rows_is_refused(model: Path, tmp_path: Path):
    with pytest.raises(PassFailed, match="needs calibration data"):
        run_pass(Int8(), Work(model), tmp_path / "made")


def test_a_pass_whose_process_dies_is_a_failure_of_the_pass(tmp_path: Path):
    (tmp_path / "torn.onnx").write_bytes(b"\x08\x0atorn")

    with pytest.raises(PassFailed):
        run_pass(Slim(), Work(tmp_path / "torn.onnx"), tmp_path / "made")


def test_each_operator_is_quantised_alone_to_see_what_it_costs(model: Path, tmp_path: Path):
    batches = write_calibration([{"x": ROWS}], tmp_path)

    found = list(run_sensitivity(Int8(), Work(model, batches), tmp_path / "scratch"))

    assert [one.operator for one in found] == ["hidden", "logits"]
    assert all(5 < one.sqnr_db < 60 for one in found)
    assert not list((tmp_path / "scratch").glob("*.npy"))


def test_answers_of_each_operator_alone_stay_for_whoever_knows_what_is_right(model: Path, tmp_path: Path):
    batches = write_calibration([{"x": ROWS[:32]}, {"x": ROWS[32:]}], tmp_path)

    found = list(run_sensitivity(Int8(), Work(model, batches), tmp_path / "scratch", "y"))

    kept = [np.load(answers_file(tmp_path / "scratch", number)) for number in (None, 0, 1)]
    np.testing.assert_allclose(kept[0], answers(model), atol=1e-6)
    assert [sqnr_db([kept[0]], [one]) for one in kept[1:]] == pytest.approx([one.sqnr_db for one in found])


def test_rows_that_a_training_holds_back_are_answered_behind_those_that_calibrate(model: Path, tmp_path: Path):
    batches = write_calibration([{"x": ROWS[:10]}, {"x": ROWS[10:20]}], tmp_path)
    rows = write_rows(tmp_path / "rows", [({"x": ROWS}, np.zeros(64, np.int64), {})], count=64, output="y", held_back=25)

    list(run_sensitivity(Int8(), Work(model, batches, rows), tmp_path / "scratch", "y"))

    kept = np.load(answers_file(tmp_path / "scratch", None))
    np.testing.assert_allclose(kept, answers(model)[[*range(20), *range(39, 59)]], atol=1e-6)


def test_no_more_rows_are_answered_than_the_work_allows(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    costs = [one.cost for one in sensitivity.sensitivities(model, tmp_path, [{"x": ROWS[:10]}], Int8())]
    monkeypatch.setattr(sensitivity, "MOST_WORK", 35 * sum(costs) * len(costs))

    list(sensitivity.sensitivities(model, tmp_path, [{"x": ROWS[:10]}], Int8(), "y", iter([{"x": ROWS[10:20]}] * 9)))

    assert len(np.load(answers_file(tmp_path, None))) == 30


def test_of_wide_answers_only_some_rows_stay(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sensitivity, "MAX_ANSWER_BYTES", 5 * answers(model)[0].nbytes)

    list(sensitivity.sensitivities(model, tmp_path, [{"x": ROWS}], Int8(), "y"))

    assert {len(np.load(one)) for one in tmp_path.glob("*.npy")} == {5}


def test_signal_to_noise_is_in_decibels():
    signal = np.full((4, 2), 10.0)

    assert sqnr_db([signal], [signal + 1]) == pytest.approx(20)
    assert sqnr_db([signal], [signal]) == np.inf
    assert moved([np.eye(2)], [np.eye(2)[::-1]]) == 1


@pytest.mark.parametrize(
    ("cpu", "narrow"),
    [
        ("AuthenticAMD-25-1 avx2", True),
        ("GenuineIntel-6-85 avx2 avx512", True),
        ("GenuineIntel-6-85 avx2 avx512 avx512-vnni", False),
        ("GenuineIntel-6-151 avx2 avx-vnni", False),
        ("0x41 dotprod", False),
    ],
)
def test_weights_keep_to_seven_bits_where_products_would_overflow(cpu: str, narrow: bool):
    assert reduces_range(cpu) is narrow
