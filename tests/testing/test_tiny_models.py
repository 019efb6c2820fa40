"""The tiny models do what their one-line descriptions say, on the real engine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from towline.core import dtypes
from towline.testing import tiny_models


def run(model: bytes, **inputs: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return session.run(None, inputs)[0]


def test_the_mlp_gives_probabilities_of_any_batch():
    answer = run(tiny_models.mlp(), x=np.ones((3, 10), np.float32))

    assert answer.shape == (3, 10)
    assert np.allclose(answer.sum(axis=1), 1)


@pytest.mark.parametrize("model", [tiny_models.softmax_over_rows(), tiny_models.dynamic_int8()])
def test_a_row_of_these_depends_on_its_batch_mates(model):
    width = onnx.load_from_string(model).graph.input[0].type.tensor_type.shape.dim[1].dim_value
    rows = np.stack([np.linspace(0, 1, width), np.linspace(-9, 9, width)]).astype(np.float32)

    assert not np.allclose(run(model, x=rows)[0], run(model, x=rows[:1])[0], atol=1e-3)


def test_the_loop_counts_its_rounds():
    assert run(tiny_models.counted_loop(), rounds=np.array([5])) == [5]
    assert run(tiny_models.counted_loop(rounds=4), x=np.zeros(1, np.float32)) == [4]


def test_the_slow_model_treats_rows_alone():
    rows = np.random.default_rng(0).normal(size=(3, 64)).astype(np.float32)
    model = tiny_models.slow(rounds=3)

    assert np.allclose(run(model, x=rows)[1], run(model, x=rows[1:2])[0], atol=1e-6)


@pytest.mark.parametrize("dtype", [dtype.name for dtype in dtypes.ALL])
def test_identity_exists_for_every_dtype_we_carry(dtype):
    array = np.array([[b"a", b"b"]], object) if dtype == "string" else np.ones((1, 2), dtype)

    answer = run(tiny_models.identity(dtype), x=array)

    assert answer.shape == (1, 2)
    assert dtypes.of_array(answer).name == dtype


def test_the_small_ones_answer():
    pair = np.ones((2, 2), np.float32)
    assert run(tiny_models.integer_division(), a=np.array([6], np.int32), b=np.array([3], np.int32)) == [2]
    assert run(tiny_models.memory_bomb(), shape=np.array([2, 3])).shape == (2, 3)
    assert (run(tiny_models.add_two(), a=pair, b=pair) == 2).all()
    assert (run(tiny_models.fixed_shape(), x=np.ones((1, 4), np.float32)) == 2).all()
    assert np.isnan(run(tiny_models.logarithm(), x=-pair)).all()
    assert (run(tiny_models.embedding(), ids=np.array([1])) == [3, 4, 5]).all()


def test_the_noise_differs_from_run_to_run_of_one_session():
    session = onnxruntime.InferenceSession(tiny_models.random_noise(), providers=["CPUExecutionProvider"])
    pair = np.ones((2, 2), np.float32)

    assert (session.run(None, {"x": pair})[0] != session.run(None, {"x": pair})[0]).all()


def test_external_weights_are_read_from_beside_the_model(tmp_path: Path):
    path = tiny_models.external(tmp_path)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    answer = session.run(None, {"x": np.eye(4, dtype=np.float32)})[0]

    assert (answer == np.arange(16).reshape(4, 4)).all()
