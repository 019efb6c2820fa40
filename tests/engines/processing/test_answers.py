"""What is made of a graph's output: probabilities, the best classes, labels."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from processed import load

from towline.core import steps
from towline.engines.processing.answers import Answers, softmax, top_k
from towline.testing import tiny_models

LOGITS = np.array([[1, 3, 2], [0, 0, 0]], np.float32)


def answers(*after: steps.After, labels: tuple[bytes, ...] = ()) -> dict[str, np.ndarray]:
    return Answers(after, "y", labels, "").finish(LOGITS, {})


def test_softmax_sums_to_1_and_large_scores_do_not_overflow() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = softmax(np.array([[1000.0, 1000.0], [-1000.0, 0.0]], np.float32))

    assert got.tolist() == [[0.5, 0.5], [0.0, 1.0]]


def test_sigmoid_is_taken_of_each_score_alone_and_does_not_overflow() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = Answers((steps.Sigmoid(),), "y", (), "").finish(np.array([[-1e6, 0.0, 1e6]], np.float32), {})

    assert got["score"].tolist() == [[0.0, 0.5, 1.0]]


def test_the_best_come_first_and_of_equals_the_lower_index() -> None:
    assert top_k(LOGITS, 2).tolist() == [[1, 2], [0, 1]]
    # Enough of them that an unstable sort would mix them.
    assert top_k(np.tile([1.0, 0.0], (1, 500)), 5).tolist() == [[0, 2, 4, 6, 8]]
    assert top_k(np.array([[np.nan, 1.0]]), 2).tolist() == [[1, 0]]


def test_more_than_there_are_is_all_there_are() -> None:
    assert answers(steps.TopK(k=9))["index"].shape == (2, 3)


def test_labels_follow_their_index_and_one_without_a_label_is_empty() -> None:
    got = answers(steps.TopK(k=3), steps.Labels(), labels=(b"a", b"b"))

    assert got["label"].tolist() == [[b"b", b"", b"a"], [b"a", b"b", b""]]


def test_each_pixel_has_the_probability_and_the_lowest_number_of_its_best_class() -> None:
    values = np.zeros((1, 3, 2, 2), np.float32)
    values[0, :, 0, 0] = [0, 3, 0]
    values[0, :, 1, 1] = [1e4, -1e4, 1e4]

    found = Answers((steps.Segment(),), "out", [], "").finish(values, {})

    assert found["index"].dtype == np.int64
    assert found["index"].tolist() == [[[1, 0], [0, 0]]]
    third = 1 / 3
    np.testing.assert_allclose(found["score"], [[[np.e**3 / (np.e**3 + 2), third], [third, 0.5]]], rtol=1e-6)


def test_a_threshold_says_which_scores_reach_it() -> None:
    got = answers(steps.Threshold(at=2.0))

    assert got["chosen"].tolist() == [[False, True, True], [False, False, False]]
    assert np.array_equal(got["score"], LOGITS)


def test_outputs_that_no_step_works_on_come_back_as_they_are(tmp_path: Path) -> None:
    both = load(tmp_path, tiny_models.sum_and_product(), '[[after]]\nstep = "sigmoid"\noutput = "sum"\n')

    got = both.run(x=np.array([[1.0, -1.0]], np.float32))

    assert {name: array.tolist() for name, array in got.items()} == {"score": [[0.5]], "product": [[-1.0]]}


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_scores_are_float32_whatever_the_graph_gives(tmp_path: Path, dtype: str) -> None:
    graph = load(tmp_path, tiny_models.identity(dtype, ("N", 3)), '[[after]]\nstep = "top_k"\nk = 1\n')

    assert graph.run(x=LOGITS.astype(dtype))["score"].dtype == np.float32
