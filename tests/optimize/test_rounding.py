"""Weights that are rounded for what they are multiplied with lose less than weights that are rounded each to the nearest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from convolutions import PICTURES, write
from onnx import numpy_helper

from towline.optimize import moments as moments_module
from towline.optimize.base import Material, Pass, PassFailed
from towline.optimize.moments import layers, moments
from towline.optimize.quantize import Int8
from towline.optimize.rounding import LIMITS, Round, rounded
from towline.optimize.sensitivity import answers, sqnr_db

BATCHES = [{"x": PICTURES[:16]}, {"x": PICTURES[16:]}]


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return write(tmp_path / "small.onnx")


def made(how: Pass, model: Path) -> Path:
    into = model.parent / f"made-{len(list(model.parent.iterdir()))}"
    into.mkdir()
    return into / how.run(model, into, Material(BATCHES)).model


def constants(model: Path) -> dict[str, np.ndarray]:
    return {one.name: numpy_helper.to_array(one) for one in onnx.load(model).graph.initializer}


def noise_db(first: Path, second: Path) -> float:
    return sqnr_db(answers(first, BATCHES), answers(second, BATCHES))


def correlated(outputs: int = 100, inputs: int = 150) -> tuple[np.ndarray, np.ndarray]:
    """Weights [1, outputs, inputs], and rows that they are multiplied with, which go together as neighbours in a picture do."""
    random = np.random.default_rng(0)
    weights = random.normal(size=(1, outputs, inputs))
    rows = random.normal(size=(500, 4)) @ random.normal(size=(4, inputs)) + 0.1 * random.normal(size=(500, inputs))
    return weights, rows


def test_rounding_by_what_is_multiplied_loses_a_fraction_of_rounding_to_the_nearest():
    weights, rows = correlated()
    steps = np.abs(weights).max(axis=2, keepdims=True) / 7

    numbers = rounded(weights, rows[None].transpose(0, 2, 1) @ rows[None] / len(rows), steps, 7)

    def lost(found: np.ndarray) -> float:
        return float((((weights - found * steps)[0] @ rows.T) ** 2).mean())

    assert lost(numbers) < lost(np.rint(weights / steps)) / 10
    assert np.array_equal(numbers, np.rint(numbers))


def test_the_greatest_weight_stays_the_greatest_however_much_there_is_to_make_up_for():
    """Whoever looks for the scale then finds the same."""
    weights, square = np.array([[[0.26, 1.0]]]), np.array([[[9.0, 3.0], [3.0, 1.0]]])

    assert rounded(weights, square, np.full((1, 1, 1), 0.5), 2)[0, 0, 1] == 2


def test_inputs_that_have_nothing_to_do_with_each_other_are_rounded_to_the_nearest():
    weights, _ = correlated()
    steps = np.abs(weights).max(axis=2, keepdims=True) / 7

    np.testing.assert_array_equal(rounded(weights, np.eye(150)[None], steps, 7), np.rint(weights / steps))


@pytest.mark.parametrize("bits", [8, 7])
def test_eight_bits_find_the_integers_again(small: Path, bits: int):
    before = made(Round(bits=bits), small)

    after = constants(made(Int8(reduce_range=bits == 7), before))

    for name in ("w1", "w2", "w3", "w5"):
        numbers, steps = after[f"{name}_quantized"], after[f"{name}_scale"]
        axis = 1 if name == "w5" else 0
        by = steps.reshape([-1 if place == axis else 1 for place in range(numbers.ndim)])
        np.testing.assert_allclose(numbers * by, constants(before)[name], rtol=1e-4, atol=1e-6, err_msg=name)
        assert np.abs(numbers.astype(int)).max() == LIMITS[bits]


def test_learned_rounding_and_biases_each_take_noise_from_the_answers(small: Path):
    nearest, biases, learned = (
        noise_db(small, made(how, small))
        for how in (Round(learned=False, bias_correction=False), Round(learned=False), Round(bias_correction=False))
    )

    assert biases > nearest + 1
    assert learned > nearest + 2


def test_a_corrected_bias_gives_each_output_its_mean_back(small: Path):
    graph = onnx.load(small).graph
    found = layers(graph, constants(small))
    mean = moments(small, found, BATCHES, seed=0)["logits"].mean[0]

    before, after = constants(small), constants(made(Round(learned=False), small))

    first, second = (mean @ one["w5"] + one["b5"] for one in (before, after))
    np.testing.assert_allclose(first, second, atol=1e-4)
    assert np.abs(mean @ (before["w5"] - after["w5"])).max() > 1e-4


def test_what_a_layer_reads_is_what_its_weights_are_multiplied_with(small: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(moments_module, "POSITIONS", 10**6)
    graph = onnx.load(small).graph
    found = layers(graph, constants(small))
    ran = answers(_with_output(small, "c2"), BATCHES)[-1]

    read = moments(small, found, BATCHES, seed=0)["depth"].mean
    made_of_means = np.einsum("gok,gk->go", found["depth"].weights, read)[:, 0] + constants(small)["b2"]

    np.testing.assert_allclose(made_of_means, ran.mean(axis=(0, 2, 3)), rtol=1e-3, atol=1e-4)


def test_without_rows_nothing_is_rounded(small: Path, tmp_path: Path):
    with pytest.raises(PassFailed, match="needs calibration data"):
        Round().run(small, tmp_path, Material())


def _with_output(model: Path, name: str) -> Path:
    whole = onnx.load(model)
    whole.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    onnx.save(whole, model.with_name("more.onnx"))
    return model.with_name("more.onnx")
