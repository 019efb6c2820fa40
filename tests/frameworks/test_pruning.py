"""Channels that do nothing are what is taken out of a graph, and its answers stay; what is taken beyond that, training makes good."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import numpy_helper
from trainable_graphs import GRAPHS, Drawing

from towline.optimize.base import PassFailed
from towline.optimize.process import Work, run_pass
from towline.optimize.prune import Prune
from towline.optimize.rows import write_rows
from towline.optimize.training.settings import Training
from towline.testing import tiny_models

pytestmark = pytest.mark.frameworks

ROWS = 256


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Threads that wait for one another are slow where other tests run as well."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


# Nothing is learnt: what comes out is what was taken out, and nothing else.
STILL = Training(epochs=1, rate=1e-30, batch=ROWS)
CLASSES = 4


def asked(model: Path, rows: Mapping[str, np.ndarray]) -> np.ndarray:
    return np.asarray(ort.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, dict(rows))[0])


def widths(model: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of what layers hold, by the node that reads it first."""
    graph = onnx.load(model).graph
    shapes = {one.name: tuple(one.dims) for one in graph.initializer}
    return {node.name or node.output[0]: shapes[node.input[1]] for node in graph.node if len(node.input) > 1 and node.input[1] in shapes}


def weights(model: Path) -> list[int]:
    """How many each layer holds, in the order of the graph."""
    graph = onnx.load(model).graph
    sizes = {one.name: int(np.prod(one.dims)) for one in graph.initializer}
    return [sizes[node.input[1]] for node in graph.node if node.op_type in ("Conv", "Gemm", "MatMul")]


def half_dead(model: Any) -> Any:
    """With every second channel of every layer but the last always zero: its weights and what a norm adds to it."""
    held = {one.name: one for one in model.graph.initializer}
    last = [node for node in model.graph.node if node.op_type in ("Gemm", "MatMul")][-1]

    def silence(name: str, axis: int) -> None:
        values = numpy_helper.to_array(held[name]).copy()
        np.moveaxis(values, axis, 0)[::2] = 0
        held[name].CopyFrom(numpy_helper.from_array(values, name))

    after_last = False
    for node in model.graph.node:
        after_last |= node is last
        if after_last:
            continue
        weights = [name for name in node.input[1:] if name in held and held[name].dims]
        if node.op_type == "BatchNormalization":
            # The norm learns nothing from the rows either: its mean and variance stay.
            node.attribute.append(onnx.helper.make_attribute("momentum", 1.0))
            for name in weights[:2]:
                silence(name, 0)
        elif node.op_type in ("Conv", "Gemm", "MatMul", "Add"):
            turned = any(one.name == "transB" and one.i for one in node.attribute)
            for name in weights:
                dims = len(held[name].dims)
                silence(name, dims - 1 if dims < 3 and not turned else 0)
    return model


@pytest.fixture
def rows_of(tmp_path: Path) -> Callable[..., Path]:
    """`rows_of(inputs, classes)` is a folder of rows with labels by chance."""

    def make(inputs: Mapping[str, np.ndarray], classes: int, name: str = "rows") -> Path:
        rng = np.random.default_rng(0)
        count = len(next(iter(inputs.values())))
        truth = rng.integers(0, classes, count)
        return write_rows(tmp_path / f"{name}.rows", [(inputs, truth, {})], count=count, output="y", held_back=count // 4)

    return make


def many(inputs: Mapping[str, np.ndarray], count: int = 8) -> dict[str, np.ndarray]:
    return {name: np.concatenate([array] * count) for name, array in inputs.items()}


# Of convolutions in groups 13 of 32 channels would go: no whole number for each of four groups.
@pytest.mark.parametrize(
    ("name", "importance", "ratio", "stay"),
    [("cnn", "taylor", 0.5, 0.5), ("keras", "magnitude", 0.5, 0.5), ("mobile", "magnitude", 0.5, 0.5), ("grouped", "magnitude", 0.4, 0.7)],
)
def test_channels_that_do_nothing_go_first_and_the_answers_stay(
    environments: Path, tmp_path: Path, rows_of: Callable[..., Path], name: str, importance: Any, ratio: float, stay: float
):
    drawn, inputs = GRAPHS[name]()
    onnx.save(half_dead(drawn), tmp_path / "dead.onnx")
    expected = asked(tmp_path / "dead.onnx", inputs)
    rows = rows_of(many(inputs), expected.shape[1])

    passed = run_pass(Prune(ratio, importance, multiple=1, training=STILL), Work(tmp_path / "dead.onnx", rows=rows), tmp_path / "made")

    made = tmp_path / "made" / passed.model
    onnx.checker.check_model(onnx.load(made), full_check=True)
    np.testing.assert_allclose(asked(made, inputs), expected, rtol=1e-4, atol=1e-5)
    before, after = weights(tmp_path / "dead.onnx"), weights(made)
    assert len(before) == len(after)
    assert all(now <= stay * was for was, now in zip(before, after, strict=True)), (before, after)


def test_what_cannot_lose_channels_alone_is_left_whole_and_named(environments: Path, tmp_path: Path, rows_of: Callable[..., Path]):
    """The heads of attention: their sizes stand in reshapes, and their products are no layer's."""
    drawn, inputs = GRAPHS["encoder"]()
    onnx.save(drawn, tmp_path / "m.onnx")
    rows = rows_of(many(inputs), 3)

    passed = run_pass(Prune(0.5, multiple=1, training=STILL), Work(tmp_path / "m.onnx", rows=rows), tmp_path / "made")

    before, after = (
        sorted(shape for shape in widths(one).values() if len(shape) == 2) for one in (tmp_path / "m.onnx", tmp_path / "made/model.onnx")
    )
    assert before.count((16, 64)) == after.count((16, 32)) == 2
    assert before.count((16, 16)) - 1 == after.count((16, 16)) == 8
    assert any(note.startswith("Left whole") for note in passed.notes)
    assert np.isfinite(asked(tmp_path / "made/model.onnx", inputs)).all()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Mapping[str, np.ndarray], np.ndarray]:
    """Rows of four patterns in noise, all labelled, and the last fifth of them as arrays."""
    rng = np.random.default_rng(3)
    patterns = rng.normal(0, 1, (CLASSES, 1, 8, 8))
    truth = rng.integers(0, CLASSES, 1000)
    x = (patterns[truth] + rng.normal(0, 0.9, (1000, 1, 8, 8))).astype(np.float32)
    folder = tmp_path_factory.mktemp("pictures")
    write_rows(folder / "rows", [({"x": x}, truth, {})], count=1000, output="y", held_back=200)
    return folder / "rows", {"x": x[800:]}, truth[800:]


@pytest.fixture(scope="module")
def taught(environments: Path, pictures: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small graph that was trained on them, by pruning nothing."""
    draw = Drawing(1)
    x = draw.op("Relu", draw.norm(draw.op("Conv", "x", draw.weight(16, 1, 3, 3), pads=[1, 1, 1, 1], name="first"), 16))
    x = draw.op("Relu", draw.norm(draw.op("Conv", x, draw.weight(32, 16, 3, 3), strides=[2, 2], name="second"), 32))
    x = draw.op("Reshape", x, draw.whole(-1, 32 * 9))
    x = draw.op("Gemm", x, draw.weight(288, CLASSES), draw.weight(CLASSES), name="last")
    folder = tmp_path_factory.mktemp("taught")
    onnx.save(draw.model([("f:x", ("N", 1, 8, 8))], draw.op("Softmax", x), ("N", CLASSES)), folder / "m.onnx")
    training = Training(epochs=4, batch=50)
    made = run_pass(Prune(0.0, training=training), Work(folder / "m.onnx", rows=pictures[0]), folder / "made")
    return folder / "made" / made.model


def right(model: Path, pictures: Any) -> float:
    _, inputs, truth = pictures
    return float((asked(model, inputs).argmax(1) == truth).mean())


GENTLE = Training(epochs=4, batch=50, rate=3e-3)


def test_half_of_the_channels_go_and_training_brings_the_answers_back(taught: Path, pictures: Any, tmp_path: Path):
    by_hand = Prune(0.5, layers=(("first", 0.0), ("second", 0.75)), multiple=1, training=STILL)
    still = run_pass(by_hand, Work(taught, rows=pictures[0]), tmp_path / "still")
    passed = run_pass(Prune(0.5, multiple=1, training=GENTLE), Work(taught, rows=pictures[0]), tmp_path / "made")

    assert still.notes[1] == "Channels: first 16 to 16, second 32 to 8."
    assert right(taught, pictures) > 0.95
    assert right(tmp_path / "still" / still.model, pictures) < right(tmp_path / "made" / passed.model, pictures)
    assert right(tmp_path / "made" / passed.model, pictures) > right(taught, pictures) - 0.03
    assert widths(tmp_path / "made" / passed.model)["second"] == (16, 8, 3, 3)
    assert passed.notes[1] == "Channels: first 16 to 8, second 32 to 16."
    assert passed.notes[0].startswith("6,100 parameters became ")
    assert len(passed.curves["loss"]) == GENTLE.epochs


class Stopped(Exception):
    """Somebody pulled the plug."""


def test_a_kill_in_the_second_step_of_three_goes_on_there_and_ends_alike(taught: Path, pictures: Any, tmp_path: Path):
    steps = Prune(0.6, steps=3, guided=True, multiple=1, training=Training(epochs=1, batch=50))
    heard: list[str] = []

    def until_second_step(sentence: str) -> None:
        heard.append(sentence)
        if sentence.startswith("step 2 of 3"):
            raise Stopped

    undisturbed = run_pass(steps, Work(taught, rows=pictures[0]), tmp_path / "whole")
    with pytest.raises(Stopped):
        run_pass(steps, Work(taught, rows=pictures[0], keep=tmp_path / "keep", say=until_second_step), tmp_path / "killed")
    again: list[str] = []
    resumed = run_pass(steps, Work(taught, rows=pictures[0], keep=tmp_path / "keep", say=again.append), tmp_path / "resumed")

    first, second = (undisturbed.curves[f"sensitivity of {name}"][1] for name in ("first", "second"))
    made = widths(tmp_path / "whole/model.onnx")
    # Where the loss rises more, more stays.
    assert (made["first"][0] / 16 > made["second"][0] / 32) == (first > second)
    assert any(sentence.startswith("step 1 of 3") for sentence in heard)
    assert not any(sentence.startswith(("layer", "step 1 of 3")) for sentence in again), again
    assert resumed.curves == undisturbed.curves
    inputs = pictures[1]
    np.testing.assert_array_equal(asked(tmp_path / "resumed/model.onnx", inputs), asked(tmp_path / "whole/model.onnx", inputs))


def test_graphs_that_cannot_be_pruned_are_refused_with_the_reason(environments: Path, tmp_path: Path, rows_of: Callable[..., Path]):
    draw = Drawing()
    x = draw.op("Gemm", "x", draw.weight(10, CLASSES), draw.weight(CLASSES), name="only")
    onnx.save(draw.model([("f:x", ("N", 10))], x, ("N", CLASSES)), tmp_path / "one.onnx")
    rows = rows_of({"x": draw.pixels(16, 10)}, CLASSES)

    named = tiny_models.write(tmp_path, tiny_models.mlp(), "mlp.onnx")
    ten = rows_of({"x": draw.pixels(16, 10)}, 10, "ten")
    with pytest.raises(PassFailed, match=r"'third' is no layer whose channels can be taken out\. These are: hidden"):
        run_pass(Prune(0.5, layers=(("third", 0.5),)), Work(named, rows=ten), tmp_path / "third")
    with pytest.raises(PassFailed, match="No layer of this graph has channels that can be taken out"):
        run_pass(Prune(0.5), Work(tmp_path / "one.onnx", rows=rows), tmp_path / "one")
    two, inputs = GRAPHS["cnn"]()
    dense = next(node for node in two.graph.node if node.name == "dense").output[0]
    two.graph.output.append(onnx.helper.make_tensor_value_info(dense, onnx.TensorProto.FLOAT, ("N", 32)))
    onnx.save(two, tmp_path / "two.onnx")
    with pytest.raises(PassFailed, match="Another output of the graph reads channels that were taken out"):
        run_pass(Prune(0.5), Work(tmp_path / "two.onnx", rows=rows_of(many(inputs), 10, "two")), tmp_path / "two")
    tiny_models.write(tmp_path, tiny_models.counted_loop(rounds=3), "loop.onnx")
    with pytest.raises(PassFailed, match="operator Loop cannot be trained"):
        run_pass(Prune(0.5), Work(tmp_path / "loop.onnx", rows=rows), tmp_path / "loop")
