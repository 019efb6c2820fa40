"""What labelled rows lose by an operator in eight bits is told as the search is judged, with how sure that is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from towline.app.judging import own_metric
from towline.app.judging.measure import metric_of
from towline.app.optimizing.losses import Losses, losses_of
from towline.app.optimizing.validating import judge_of
from towline.core.manifest import (
    DEFAULT_SIGNATURE,
    TENSORS_SIGNATURE,
    Facts,
    Manifest,
    Measured,
    Origin,
    Processing,
    Signature,
    Step,
    TensorSpec,
)
from towline.optimize.rows import write_rows
from towline.optimize.sensitivity import answers_file
from towline.verify.accuracy import Reading
from towline.verify.data.dataset import in_memory
from towline.verify.metrics.named import NAMED

TRUTH = np.arange(100) % 10
RIGHT = np.eye(10, dtype=np.float32)[TRUTH]
CLASSES = Losses(Reading("y", "scores"), TRUTH, 10)


def with_wrong(rows: int) -> np.ndarray:
    scores = RIGHT.copy()
    scores[:rows] = np.roll(RIGHT[:rows], 1, axis=1)
    return scores


def test_a_row_in_a_hundred_is_a_loss_that_chance_explains_and_ten_are_sure():
    one, ten = (CLASSES.between(RIGHT, with_wrong(rows)) for rows in (1, 10))

    assert (one.figure, one.lost, one.rows) == ("accuracy", pytest.approx(0.01), 100)
    assert one.low == 0 < one.high
    assert ten.lost == pytest.approx(0.1)
    assert 0.02 < ten.low < 0.1 < ten.high


def test_what_is_gained_is_no_loss():
    found = CLASSES.between(with_wrong(10), RIGHT)

    assert found.lost == pytest.approx(-0.1)
    assert found.low < found.high < 0


def test_of_values_the_loss_is_how_much_the_mean_error_grows():
    values = Losses(Reading("y", "values"), np.zeros(50), 0)
    found = values.between(np.full((50, 1), 0.25), np.full((50, 1), -0.75))

    assert (found.figure, found.lost) == ("mae", pytest.approx(0.5))
    assert found.low == found.high == pytest.approx(0.5)


def test_the_loss_is_told_by_the_metric_that_judges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    # As many draws as there are to be, however busy the machine is.
    monkeypatch.setattr(own_metric, "DRAWING_S", 600.0)
    # One class of ten is lost whole, which alone makes the worst recall.
    one_lost = np.where(TRUTH[:, None] == 2, np.roll(RIGHT, 1, axis=1), RIGHT)
    file = tmp_path / "mine.py"
    file.write_text("def wrong(answers, truth):\n    return int((answers.argmax(1) != truth).sum())\n")
    own = metric_of(f"{file}:wrong:lower")

    worst, wrong = (Losses(CLASSES.reading, TRUTH, 10, one).between(RIGHT, one_lost) for one in (NAMED["worst_recall"], own))

    assert worst.words() == "100.00 pt of worst_recall on 100 rows"
    assert wrong.words() == "10 of wrong on 100 rows"
    assert 0 < wrong.low < wrong.lost < wrong.high


def test_a_training_is_judged_by_the_metric_on_the_rows_that_it_holds_back(tmp_path: Path):
    rows = write_rows(tmp_path / "rows", [({"x": RIGHT}, TRUTH, {})], count=100, output="y", held_back=20)
    unlabelled = write_rows(tmp_path / "unlabelled", [({"x": RIGHT}, None, {})], count=100, output="y", held_back=20)

    judge = judge_of(NAMED["worst_recall"], CLASSES, rows)

    assert judge is not None
    assert (judge.name, judge.is_higher_better, judge.of(RIGHT[80:])) == ("worst_recall", True, 1.0)
    assert judge.of(with_wrong(81)[80:]) == 0.5
    assert judge_of(None, CLASSES, rows) is None, "where nobody asked, the loss tells"
    assert judge_of(NAMED["f1"], CLASSES, unlabelled) is None
    assert judge_of(NAMED["f1"], None, rows) is None


def test_answers_of_which_only_the_first_were_kept_are_held_to_the_first_labels():
    assert CLASSES.between(RIGHT[:40], with_wrong(10)[:40]).lost == pytest.approx(0.25)


def test_answers_are_read_once_and_those_of_another_shape_say_nothing(tmp_path: Path):
    np.save(answers_file(tmp_path, None), RIGHT)
    np.save(answers_file(tmp_path, 0), with_wrong(10))
    np.save(answers_file(tmp_path, 1), RIGHT[:, :5])

    told = CLASSES.of(tmp_path, 0)

    assert told is not None
    assert told.lost == pytest.approx(0.1)
    assert CLASSES.of(tmp_path, 1) is None
    assert list(tmp_path.iterdir()) == [answers_file(tmp_path, None)]


def manifest(processing: Processing, signatures: dict[str, Signature]) -> Manifest:
    origin, facts = Origin("onnx", "sha256:0", {}), Facts(0, {}, {})
    measured = Measured(cpu="x", deterministic=True, memory_loaded_bytes=1, memory_peak_bytes=2, max_batch=3)
    return Manifest(1, "onnxruntime", "m.onnx", signatures, True, origin, facts, measured, processing=processing)


def test_labels_are_held_against_the_graphs_own_output_behind_which_answers_are_processed():
    inner = Signature((TensorSpec("x", "float32", (None, 3)),), (TensorSpec("logits", "float32", (None, 10)),))
    outer = Signature(inner.inputs, (TensorSpec("score", "float32", (None, 5)), TensorSpec("class", "int64", (None, 5))))
    processed = manifest(Processing(after=(Step("top_k"),)), {DEFAULT_SIGNATURE: outer, TENSORS_SIGNATURE: inner})

    found = losses_of(processed, 10, in_memory({"x": RIGHT}, "", TRUTH), "class")

    assert found is not None
    assert (found.output, found.reading.kind) == ("logits", "scores")


def test_without_labels_or_with_some_that_no_output_answers_nothing_is_told():
    scores = manifest(Processing(), {DEFAULT_SIGNATURE: Signature((), (TensorSpec("y", "float32", (None, 10)),))})
    pictures = manifest(Processing(), {DEFAULT_SIGNATURE: Signature((), (TensorSpec("y", "float32", (None, 8, 8)),))})

    assert losses_of(scores, 10, in_memory({"x": RIGHT}, "", None), "y") is None
    assert losses_of(pictures, 10, in_memory({"x": RIGHT}, "", TRUTH), "y") is None


@pytest.mark.parametrize(("kind", "known"), [(np.int64, 35), (np.float32, 20)])
def test_rows_that_a_training_holds_back_tell_too_where_their_labels_are_of_one_kind(kind: type, known: int, tmp_path: Path):
    scores = manifest(Processing(), {DEFAULT_SIGNATURE: Signature((), (TensorSpec("y", "float32", (None, 10)),))})
    rows = write_rows(tmp_path / "rows", [({"x": RIGHT}, TRUTH.astype(kind), {})], count=100, output="y", held_back=15)

    found = losses_of(scores, 10, in_memory({"x": RIGHT}, "", TRUTH).first(20), "y", rows)

    assert found is not None
    # Batches of three: two rows of the twenty do not calibrate.
    assert found.truth.tolist() == [*TRUTH[: 20 // 3 * 3], *TRUTH[85:]][: known - 2]
