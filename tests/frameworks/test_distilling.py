"""Students really learn from a teacher: the demo's digits, a few of them labelled, taught by the demo's own network."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

import towline.app
from towline.optimize.base import Passed, PassFailed
from towline.optimize.cost import multiply_adds
from towline.optimize.distill import Distill
from towline.optimize.process import Work, run_pass
from towline.optimize.rows import UNKNOWN, write_rows
from towline.optimize.training.settings import Training

pytestmark = pytest.mark.frameworks

DEMO = Path(towline.app.__file__).parent / "demo" / "data"
TEACHER = DEMO / "digits.onnx"
HELD_BACK, LABELLED, VARIANTS = 80, 20, 12
TRAINING = Training(epochs=12, rate=5e-3, batch=64)


def answers(model: Path, images: np.ndarray) -> np.ndarray:
    return np.asarray(ort.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, {"image": images})[0])


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    """Each digit to fit to in several noisy variants, then those held back; classes, of which most are unknown."""
    found = json.loads((DEMO / "digits_200.json").read_bytes())
    images, labels = np.array(found["images"], np.float32).reshape(-1, 1, 8, 8), np.array(found["labels"], np.int64)
    rng = np.random.default_rng(0)
    fitted = np.tile(images[HELD_BACK:], (VARIANTS, 1, 1, 1))
    fitted = np.clip(fitted + rng.normal(0, 0.1 * images.max(), fitted.shape), 0, images.max()).astype(np.float32)
    truth = np.full(len(fitted), UNKNOWN, np.int64)
    truth[:LABELLED] = labels[HELD_BACK:][:LABELLED]
    return np.concatenate([fitted, images[:HELD_BACK]]), np.concatenate([truth, labels[:HELD_BACK]])


@pytest.fixture(scope="module")
def work(environments: Path, digits: tuple[np.ndarray, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Work:
    images, truth = digits
    batch = ({"image": images}, truth, {"scores": answers(TEACHER, images)})
    folder = tmp_path_factory.mktemp("digits") / "rows"
    return Work(TEACHER, rows=write_rows(folder, [batch], count=len(images), output="scores", held_back=HELD_BACK))


def right(model: Path, digits: tuple[np.ndarray, np.ndarray]) -> float:
    images, truth = (one[-HELD_BACK:] for one in digits)
    return float((answers(model, images).argmax(axis=1) == truth).mean())


def taught(chosen: Distill, work: Work, into: Path) -> tuple[Path, Passed]:
    passed = run_pass(chosen, work, into)
    return into / passed.model, passed


def test_a_taught_student_is_better_than_the_same_one_trained_on_the_labels_alone(
    work: Work, digits: tuple[np.ndarray, np.ndarray], tmp_path: Path
):
    student, passed = taught(Distill("mobile", 0.5, training=TRAINING), work, tmp_path / "taught")
    alone, _ = taught(Distill("mobile", 0.5, alpha=0, training=TRAINING), work, tmp_path / "alone")

    assert right(student, digits) > right(alone, digits) + 0.1
    assert right(student, digits) > 0.85
    assert "20 of them labelled" in passed.notes[1]
    assert passed.curves["loss"][-1] < 0.3 * passed.curves["loss"][0]
    assert "BatchNormalization" not in {node.op_type for node in onnx.load(student).graph.node}
    assert [path.name for path in student.parent.iterdir()] == ["model.onnx"]


def test_a_narrowed_student_learns_inner_tensors_too_and_the_teacher_answers_changed_pictures(
    work: Work, digits: tuple[np.ndarray, np.ndarray], tmp_path: Path
):
    chosen = Distill("narrow", 0.5, features=True, training=Training(epochs=12, rate=1e-2, batch=64, augment=("noise",)))

    said: list[str] = []
    kept = replace(work, keep=tmp_path / "keep", say=said.append)

    student, passed = taught(chosen, kept, tmp_path / "narrow")
    again, _ = taught(chosen, kept, tmp_path / "again")

    assert right(student, digits) > 0.85
    assert multiply_adds(onnx.load(student)) < 0.3 * multiply_adds(onnx.load(TEACHER))
    assert any(note.startswith("Made alike: ") for note in passed.notes)
    assert "The teacher answered the changed pictures too." in passed.notes
    # What was trained already is not trained again.
    assert said[-1] == "goes on after 12 of 12 epochs"
    assert again.read_bytes() == student.read_bytes()


def test_inner_tensors_of_another_teacher_are_not_known(work: Work, digits: tuple[np.ndarray, np.ndarray], tmp_path: Path):
    images, truth = digits
    batch = ({"image": images}, truth, {"scores": np.roll(answers(TEACHER, images), 1, axis=1)})
    rows = write_rows(tmp_path / "rows", [batch], count=len(images), output="scores", held_back=HELD_BACK)

    with pytest.raises(PassFailed, match="only where the version itself is the teacher"):
        run_pass(Distill(features=True), Work(TEACHER, rows=rows), tmp_path / "made")
