"""Passes that train change a graph's weights and nothing else of it, and say what that was good for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import numpy_helper

import towline.app
from towline.optimize.base import Judge
from towline.optimize.process import Work, run_pass
from towline.optimize.rows import write_rows
from towline.optimize.train import Finetune
from towline.optimize.training.settings import Training

pytestmark = pytest.mark.frameworks
DEMO = Path(towline.app.__file__).parent / "demo" / "data"
HELD_BACK = 40
FOUND = json.loads((DEMO / "digits_200.json").read_bytes())
IMAGES = (np.array(FOUND["images"], np.float32) / 16).reshape(-1, 1, 8, 8)
LABELS = np.array(FOUND["labels"], np.int64)


def arrays(model: Path) -> dict[str, np.ndarray]:
    return {one.name: numpy_helper.to_array(one) for one in onnx.load(model).graph.initializer}


def matrices(model: Path) -> list[np.ndarray]:
    return [array for array in arrays(model).values() if array.dtype == np.float32 and array.ndim > 1]


def answers(model: Path) -> np.ndarray:
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {session.get_inputs()[0].name: IMAGES})[0])


def right(model: Path) -> float:
    return float((answers(model)[-HELD_BACK:].argmax(axis=1) == LABELS[-HELD_BACK:]).mean())


def shaken(folder: Path) -> Path:
    """The demo's model with noise on its weights: worse than it could be."""
    model, chance = onnx.load(DEMO / "digits.onnx"), np.random.default_rng(0)
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor)
        noise = chance.normal(0, 1.2 * array.std(), array.shape) if array.dtype == np.float32 and array.ndim > 1 else 0
        tensor.CopyFrom(numpy_helper.from_array((array + noise).astype(array.dtype), tensor.name))
    onnx.save(model, folder / "shaken.onnx")
    return folder / "shaken.onnx"


def test_a_graph_is_tuned_by_a_teacher_alone_and_only_its_weights_change(environments: Path, tmp_path: Path):
    before, said = shaken(tmp_path), []
    taught = [({"image": IMAGES}, None, {"scores": answers(DEMO / "digits.onnx")})]
    rows = write_rows(tmp_path / "rows", taught, count=len(IMAGES), output="scores", held_back=HELD_BACK)

    passed = run_pass(Finetune(Training(epochs=8, batch=20, rate=3e-3)), Work(before, rows=rows, say=said.append), tmp_path / "made")

    made = tmp_path / "made" / passed.model
    assert right(before) < 0.7
    assert right(made) >= 0.85
    assert [(name, array.shape) for name, array in arrays(made).items()] == [(name, array.shape) for name, array in arrays(before).items()]
    assert onnx.load(made).graph.node == onnx.load(before).graph.node
    assert len(said) == len(passed.curves["loss"]) == 8
    assert passed.notes[0].startswith("Loss per epoch: ")
    assert passed.notes[1].startswith("On 40 rows held back, the loss went from ")


def test_the_epoch_that_a_judge_calls_best_is_taken_by_the_answers_that_the_graph_gives(environments: Path, tmp_path: Path):
    rows = write_rows(tmp_path / "rows", [({"image": IMAGES}, LABELS, {})], count=len(IMAGES), output="scores", held_back=HELD_BACK)
    judged, values = list[np.ndarray](), [0.5, 0.9, 0.4, 0.3]

    def of(answers: np.ndarray) -> float:
        judged.append(answers)
        return values[len(judged) - 1]

    training = Training(epochs=9, batch=20, rate=3e-3, patience=2)
    work = Work(shaken(tmp_path), rows=rows, judge=Judge("wer", True, "wer", of))
    passed = run_pass(Finetune(training), work, tmp_path / "made")

    assert passed.curves["validation wer"] == tuple(values), "two epochs without a better one were enough"
    made = answers(tmp_path / "made" / passed.model)[-HELD_BACK:]
    assert made == pytest.approx(judged[1], abs=1e-4)
    assert np.abs(made - judged[3]).max() > 1e-3


@pytest.mark.parametrize("how", ["magnitude", "l1", "l0"])
def test_a_share_of_the_weights_becomes_zero_and_the_answers_hold(trained: dict[str, Any], how: str):
    found = trained["sparse"][how]

    zeros, count = (sum(int(number(one)) for one in matrices(Path(found["model"]))) for number in (lambda one: (one == 0).sum(), np.size))
    assert zeros == round(0.8 * count)
    assert right(Path(found["model"])) >= right(DEMO / "digits.onnx") - 0.05
    assert len(found["curves"]["loss"]) == 6
    # What ONNX Runtime answers is what was trained.
    assert right(Path(found["model"])) == found["curves"]["validation accuracy"][-1]


def test_it_says_what_zeros_save_and_what_they_do_not(trained: dict[str, Any]):
    *_, zeros, size, speed = trained["sparse"]["l1"]["notes"]

    assert zeros == "80.0 % of 40,208 weights are zero."
    words = size.split()
    assert words[:6] == ["Compressed", "(gzip)", "the", "model", "takes", words[5]]
    assert int(words[5]) < 0.4 * int(words[-1].rstrip("."))
    assert speed.endswith("ONNX Runtime multiplies zeros like other numbers.")


def test_each_layer_has_its_share_where_that_is_asked_for(trained: dict[str, Any]):
    shares = [float((one == 0).mean()) for one in matrices(Path(trained["sparse"]["layers"]["model"]))]

    assert shares == pytest.approx([0.5] * len(shares), abs=0.01)
    overall = [float((one == 0).mean()) for one in matrices(Path(trained["sparse"]["l1"]["model"]))]
    assert max(overall) - min(overall) > 0.1


def test_a_pass_that_was_finished_is_not_trained_again(trained: dict[str, Any]):
    first, again = trained["sparse"]["l1"], trained["sparse"]["again"]

    assert Path(first["model"]).read_bytes() == Path(again["model"]).read_bytes()
    assert first["curves"] == again["curves"]
    assert again["said"] == ["goes on after 3 of 3 epochs", "80 % of the weights are cut", "goes on after 3 of 3 epochs"]


@pytest.mark.parametrize(("how", "epochs"), [("magnitude", 6), ("l0", 3)])
def test_a_pass_killed_while_zeros_come_writes_what_it_would_have(trained: dict[str, Any], how: str, epochs: int):
    killed = trained["sparse"][f"{how} killed"]

    assert (killed["death"], killed["said"]) == (-9, f"goes on after 2 of {epochs} epochs")
    assert Path(killed["model"]).read_bytes() == Path(trained["sparse"][how]["model"]).read_bytes()
