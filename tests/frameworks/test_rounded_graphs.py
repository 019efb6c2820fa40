"""What is trained with roundings in place is what ONNX Runtime runs, and what int8 lost is learnt back."""

from __future__ import annotations

import itertools
import json
import subprocess
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import numpy_helper
from trainable_graphs import GRAPHS

import towline
import towline.app
from towline.app.optimizing.optimize import Lessons, Limits, optimize
from towline.optimize.base import Chain, Material, Passed
from towline.optimize.pairs import read_pairs
from towline.optimize.process import Work, run_pass, write_calibration
from towline.optimize.qat import Qat
from towline.optimize.quantize import Int8
from towline.optimize.rows import write_rows
from towline.optimize.training.settings import Training

HERE = Path(__file__).parent
DEMO = Path(towline.app.__file__).parent / "demo" / "data"
TIMEOUT_S = 300
HOWS = {
    "channels": Int8(reduce_range=True),
    "tensors": Int8(per_channel=False, reduce_range=True),
    "unsigned": Int8(weights="u8", reduce_range=True),
}

pytestmark = pytest.mark.frameworks


def asked(model: Path, rows: dict[str, np.ndarray]) -> np.ndarray:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {one.name: rows[one.name] for one in session.get_inputs()})[0])


@pytest.fixture(scope="module")
def rounded(environments: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What rounded_answers.py makes of every graph, in one process."""
    folder = tmp_path_factory.mktemp("rounded")
    for name, draw in GRAPHS.items():
        model, rows = draw()
        for how in HOWS:
            made = folder / f"{name} {how}"
            made.mkdir()
            onnx.save(model, made / "m.onnx")
            np.savez(made / "rows.npz", **rows)
            HOWS[how].run(made / "m.onnx", made, Material([rows]))
    words = [environments / "torch/bin/python", HERE / "rounded_answers.py", folder]
    space = {"PYTHONPATH": str(HERE.parents[1] / "src"), "PATH": ""}
    ran = subprocess.run(words, capture_output=True, text=True, timeout=TIMEOUT_S, check=False, env=space)
    assert ran.returncode == 0, ran.stderr[-3000:]
    return folder


@pytest.mark.parametrize("name", [f"{name} {how}" for name in GRAPHS for how in HOWS])
def test_a_rounding_module_answers_as_onnx_runtime_does_before_and_after_its_numbers_changed(rounded: Path, name: str):
    made = rounded / name
    rows, said = dict(np.load(made / "rows.npz")), np.load(made / "answers.npz")

    for which, model in (("first", "model.onnx"), ("second", "stepped.onnx")):
        expected = asked(made / model, rows)
        # Where a sum falls between two integers, its last bit decides: one step, of some of the inner values.
        off = np.abs(said[which] - expected).mean() / expected.std()
        rounding = np.abs(said["floats"] - said["second"]).mean() / expected.std()
        assert off < 0.03, (which, off)
        assert rounding > 1e-4, "it rounds at all"
    assert np.abs(said["first"] - said["second"]).max() > 0
    graph = onnx.load(made / "stepped.onnx").graph
    read = {name for node in graph.node for name in node.input}
    assert {one.name for one in graph.initializer} <= read, "nothing is left that nobody reads"


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    found = json.loads((DEMO / "digits_200.json").read_bytes())
    return (np.array(found["images"], np.float32) / 16).reshape(-1, 1, 8, 8), np.array(found["labels"], np.int64)


def unlike_channels(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same answers with channels of wildly unlike ranges: what one convolution makes a thousand times larger, the next makes small."""
    held = {tensor.name: tensor for tensor in model.graph.initializer}

    def scaled(name: str, by: np.ndarray) -> None:
        array = numpy_helper.to_array(held[name])
        held[name].CopyFrom(numpy_helper.from_array((array * by).astype(np.float32), name))

    for first, second, width in (("first", "second", 16),):
        by = np.exp(np.random.default_rng(0).uniform(-3, 3, width))
        scaled(f"{first}.weight", by[:, None, None, None])
        scaled(f"{first}.bias", by)
        scaled(f"{second}.weight", 1 / by[None, :, None, None])
    return model


def test_what_int8_lost_is_learnt_back_from_a_teacher_without_labels(
    environments: Path, digits: tuple[np.ndarray, np.ndarray], tmp_path: Path
):
    images, _ = digits
    model = tmp_path / "m.onnx"
    onnx.save(unlike_channels(onnx.load(DEMO / "digits.onnx")), model)
    (name,) = (one.name for one in onnx.load(model).graph.output)
    teacher = asked(model, {"image": images})
    rows = write_rows(tmp_path / "rows", [({"image": images}, None, {name: teacher})], count=200, output=name, held_back=60)
    work = Work(model, write_calibration([{"image": images[:100]}], tmp_path), rows)

    def right(passed: Passed, folder: Path) -> float:
        return float((asked(folder / passed.model, {"image": images[140:]}).argmax(1) == teacher[140:].argmax(1)).mean())

    lost = right(run_pass(Int8(per_channel=False, reduce_range=True), work, tmp_path / "int8"), tmp_path / "int8")
    said: list[str] = []
    how = Qat(Training(epochs=20, batch=28, rate=5e-3), alpha=1.0)
    again = Work(tmp_path / "int8" / "model.onnx", work.calibration, rows, tmp_path / "keep", said.append)
    trained = run_pass(how, again, tmp_path / "qat")
    epochs = len(said)
    resumed = run_pass(how, again, tmp_path / "resumed")

    assert lost < 0.5
    assert right(trained, tmp_path / "qat") > 0.9
    assert trained.curves["validation"][-1] < 0.4 * trained.curves["validation"][0]
    assert trained.notes[0].startswith("On rows held back, rounded: the loss was ")
    assert epochs >= 20
    assert not any(": loss " in line for line in said[epochs:]), "what was trained before a kill is not trained again"
    assert (tmp_path / "resumed" / resumed.model).read_bytes() == (tmp_path / "qat" / trained.model).read_bytes()
    kinds = [[node.op_type for node in onnx.load(tmp_path / one / "model.onnx").graph.node] for one in ("int8", "qat")]
    assert kinds[0] == kinds[1], "the graph stays the one that int8 wrote"
    before, after = ([pair.scale for pair in read_pairs(onnx.load(tmp_path / one / "model.onnx")).activations] for one in ("int8", "qat"))
    tied = [(first, second) for first, second in itertools.combinations(range(len(before)), 2) if before[first] == before[second]]
    assert tied, "what a Flatten or a MaxPool moves has one range before and behind it"
    assert all(after[first] == after[second] for first, second in tied), "ranges that part keep an operator between them out of eight bits"
    assert before != after


def test_a_search_trains_on_from_the_int8_that_it_refused(environments: Path, digits: tuple[np.ndarray, np.ndarray], tmp_path: Path):
    images, labels = digits
    onnx.save(unlike_channels(onnx.load(DEMO / "digits.onnx")), tmp_path / "m.onnx")
    np.savez(tmp_path / "train.npz", image=images[:150], label=labels[:150])
    np.savez(tmp_path / "test.npz", image=images[100:], label=labels[100:])
    towline.import_model(tmp_path / "m.onnx", name="m", home=tmp_path / "home")
    int8 = Int8(per_channel=False, reduce_range=True)
    chains = (Chain((int8,)), Chain((int8, Qat(Training(epochs=6, batch=28, rate=5e-3)))))

    found = optimize(
        "m",
        tmp_path / "test.npz",
        lessons=Lessons(str(tmp_path / "train.npz")),
        passes=chains,
        limits=Limits(max_drop=0.3),
        home=tmp_path / "home",
    )

    lost, trained = found.tried
    assert [one.tried for one in found.tried] == list(chains)
    assert not lost.fits
    assert trained.drop < lost.drop - 0.2, (lost.drop, trained.drop)
    assert "held back, rounded" in trained.notes[0]
    assert trained.size_ratio == pytest.approx(lost.size_ratio, rel=0.02)
    assert len(trained.curves["loss"]) == 6
