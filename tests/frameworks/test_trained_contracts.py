"""The passes that train keep the contract that every pass keeps: the same weights twice, the same doors, settings that mean them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

import towline.app
from towline.optimize.base import Pass
from towline.optimize.distill import Distill
from towline.optimize.process import Work, run_pass, write_calibration
from towline.optimize.prune import Prune
from towline.optimize.qat import Qat
from towline.optimize.quantize import Int8
from towline.optimize.rows import write_rows
from towline.optimize.train import Finetune, Sparse
from towline.optimize.training.settings import Training
from towline.testing.pass_contract import check_pass

pytestmark = pytest.mark.frameworks

DEMO = Path(towline.app.__file__).parent / "demo" / "data"
QUICK = Training(epochs=1, batch=64)


@pytest.fixture(scope="module")
def work(environments: Path, tmp_path_factory: pytest.TempPathFactory) -> Work:
    found = json.loads((DEMO / "digits_200.json").read_bytes())
    images, labels = np.array(found["images"], np.float32).reshape(-1, 1, 8, 8), np.array(found["labels"], np.int64)
    session = ort.InferenceSession(DEMO / "digits.onnx", providers=["CPUExecutionProvider"])
    answers = {session.get_outputs()[0].name: np.asarray(session.run(None, {"image": images})[0])}
    folder = tmp_path_factory.mktemp("contracts")
    (folder / "model.onnx").write_bytes((DEMO / "digits.onnx").read_bytes())
    rows = write_rows(folder / "rows", [({"image": images}, labels, answers)], count=200, output=next(iter(answers)), held_back=40)
    return Work(folder / "model.onnx", write_calibration([{"image": images[:100]}], folder), rows)


@pytest.mark.parametrize(
    "one",
    [
        Finetune(QUICK),
        Sparse(0.5, training=Training(epochs=2, batch=64)),
        Prune(0.5, training=QUICK),
        Distill("mobile", 0.5, training=QUICK),
        Qat(QUICK),
    ],
    ids=lambda one: one.name,
)
def test_a_pass_that_trains_keeps_the_contract(one: Pass, work: Work, tmp_path: Path):
    model = tmp_path / "model.onnx"
    if isinstance(one, Qat):
        # It goes on from what int8 wrote.
        model = tmp_path / "int8" / run_pass(Int8(), work, tmp_path / "int8").model
    else:
        model.write_bytes(work.model.read_bytes())

    passed = check_pass(one, model, lambda into: run_pass(one, Work(model, work.calibration, work.rows), into))

    assert passed.curves["loss"]
