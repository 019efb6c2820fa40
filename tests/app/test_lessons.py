"""Rows to learn from have the truth where it is known, a teacher's answer to every one, and those that validate at the end."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import towline
from towline.app.home import opened_store
from towline.app.judging.judge import Options
from towline.app.optimizing.lessons import Lessons, taught_student, write_lessons
from towline.app.optimizing.training_words import training_of
from towline.core.errors import UsageError
from towline.core.refs import parse_ref
from towline.optimize.rows import UNKNOWN, Rows, open_rows
from towline.optimize.training.settings import Training
from towline.testing import tiny_models
from towline.testing.server import RunningServer

CHANCE = np.random.default_rng(0)
LABELLED, UNLABELLED = (CHANCE.normal(size=(rows, 10)).astype(np.float32) for rows in (50, 30))
# Sorted by class, as many a data set is.
TRUTH = np.repeat(np.arange(10), 5)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two versions, and beside the store the data."""
    place = tmp_path_factory.mktemp("lessons")
    home = place / "home"
    for seed in (0, 1):
        model = tiny_models.write(place, tiny_models.mlp(seed=seed), f"m{seed}.onnx")
        towline.import_model(model, name="m", home=home)
    np.savez(place / "labelled.npz", x=LABELLED, labels=TRUTH)
    np.savez(place / "unlabelled.npz", x=UNLABELLED)
    return home


def learned(home: Path, into: Path, lessons: Lessons) -> Rows:
    with opened_store(home) as store:
        version = store.version(parse_ref("m:1"))
        folder, _ = write_lessons(store, version, lessons, Options(), into / "rows", lambda sentence: None)
    return open_rows(folder)


def test_rows_without_labels_come_first_and_every_row_has_the_teachers_answer(home: Path, tmp_path: Path):
    rows = learned(home, tmp_path, Lessons(str(home.parent / "labelled.npz"), str(home.parent / "unlabelled.npz")))

    assert (rows.count, rows.held_back, rows.output) == (80, 5, "y")
    assert rows.truth is not None
    assert (rows.truth[:30] == UNKNOWN).all()
    assert (rows.truth[30:] != UNKNOWN).all()
    np.testing.assert_allclose(rows.answers["y"], towline.load("m:1", home=home).predict(np.array(rows.inputs["x"])), atol=1e-6)


def test_sorted_rows_are_mixed_with_their_truth_and_the_same_for_equal_seeds(home: Path, tmp_path: Path):
    rows = learned(home, tmp_path, Lessons(str(home.parent / "labelled.npz")))

    assert rows.truth is not None
    assert len(set(rows.truth[-5:].tolist())) > 1, "one class alone must not validate"
    place = {row.tobytes(): truth for row, truth in zip(LABELLED, TRUTH, strict=True)}
    assert all(place[np.array(row).tobytes()] == truth for row, truth in zip(rows.inputs["x"], rows.truth, strict=True))


def test_another_version_teaches_where_one_is_named(home: Path, tmp_path: Path):
    rows = learned(home, tmp_path, Lessons(unlabelled=str(home.parent / "unlabelled.npz"), teacher="m:2"))

    assert rows.truth is None
    np.testing.assert_allclose(rows.answers["y"], towline.load("m:2", home=home).predict(np.array(rows.inputs["x"])), atol=1e-6)


@pytest.mark.services
def test_a_served_version_teaches_by_its_address(home: Path, tmp_path: Path):
    with RunningServer("m:2", home=home) as server:
        rows = learned(home, tmp_path, Lessons(unlabelled=str(home.parent / "unlabelled.npz"), teacher=f"{server.url}/v2/models/m"))

    np.testing.assert_allclose(rows.answers["y"], towline.load("m:2", home=home).predict(np.array(rows.inputs["x"])), atol=1e-6)


def test_data_to_train_on_without_labels_is_refused_by_what_would_help(home: Path, tmp_path: Path):
    with pytest.raises(UsageError, match="no labels") as refused:
        learned(home, tmp_path, Lessons(train=str(home.parent / "unlabelled.npz")))

    assert "--unlabelled" in str(refused.value.hint)


def test_a_student_that_is_no_model_is_refused_before_anything_is_trained(tmp_path: Path):
    (tmp_path / "student.onnx").write_bytes(b"no model")

    with pytest.raises(UsageError, match=r"The student .*student.onnx cannot be taught"):
        taught_student(str(tmp_path / "student.onnx"), Training())


@pytest.mark.parametrize(
    ("lessons", "only", "said"),
    [
        (Lessons(student="s.onnx"), (), "student needs rows"),
        (Lessons(teacher="m:2"), (), "teacher needs rows"),
        (Lessons(), ("pruning",), "no pass 'pruning'"),
        (Lessons(), ("prune", "distill"), "'distill' needs rows to train on"),
    ],
)
def test_a_wish_that_could_only_be_passed_over_is_refused(home: Path, lessons: Lessons, only: tuple[str, ...], said: str):
    with pytest.raises(UsageError, match=said):
        towline.optimize("m:1", home.parent / "labelled.npz", lessons=lessons, only=only, home=home)


def test_words_say_how_a_training_goes():
    assert training_of("") == Training()
    assert training_of("epochs=3,rate=0.01,augment=shift+noise") == Training(epochs=3, rate=0.01, augment=("shift", "noise"))


@pytest.mark.parametrize(
    "words", ["epoch=3", "epochs", "epochs=three", "optimizer=best", "epochs=0", "rate=-1", "augment=shift+fly", "seed=1"]
)
def test_words_that_say_nothing_are_refused(words: str):
    with pytest.raises(UsageError, match=words.partition("=")[0][:5]):
        training_of(words)
