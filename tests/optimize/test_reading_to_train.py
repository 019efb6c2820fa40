"""A graph is made regular before it is trained, and its answers stay: looked at without PyTorch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from towline.optimize.base import PassFailed
from towline.optimize.prune import Prune, prunings
from towline.optimize.training.reading import flattens, read_graph, read_proto
from towline.optimize.training.settings import Training
from towline.optimize.training.unturning import unturned
from towline.testing import tiny_models

RNG = np.random.default_rng(0)


def written(folder: Path, nodes: list[onnx.NodeProto], weights: dict[str, np.ndarray], shape: tuple[str | int, ...]) -> Path:
    given = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
    answers = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    graph = helper.make_graph(nodes, "g", given, answers, [numpy_helper.from_array(one, name) for name, one in weights.items()])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "m.onnx")
    return folder / "m.onnx"


def asked(model: Path, x: np.ndarray) -> np.ndarray:
    return np.asarray(ort.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0])


@pytest.mark.parametrize(
    ("shape", "target", "is_flat"),
    [
        ((None, 8, 4, 4), [-1, 128], True),
        ((None, 8, 4, 4), [0, -1], True),
        ((None, 8, 4, 4), [0, 128], True),
        ((1, 8, 4, 4), [1, 128], True),
        ((1, 8, 4, 4), [1, -1], True),
        # Rows and channels together.
        ((None, 8, 4, 4), [-1, 16], False),
        ((None, 2, 1024), [-1, 1024], False),
        ((None, 8, None, 4), [-1, 128], False),
        ((None, 8, 4, 4), [-1, 8, 16], False),
        ((), [-1, 128], False),
    ],
)
def test_a_reshape_that_merges_all_axes_but_the_first_is_a_flatten(shape: tuple[int | None, ...], target: list[int], is_flat: bool):
    assert flattens(shape, target) is is_flat


@pytest.mark.parametrize("kind", ["MatMul", "Gemm", "Gemm turned"])
def test_a_transpose_before_a_flatten_goes_into_the_dense_layer_and_the_answers_stay(tmp_path: Path, kind: str):
    weight = RNG.normal(size=(2 * 3 * 4, 5)).astype(np.float32)
    attributes = {"transB": 1} if kind == "Gemm turned" else {}
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[0, 2, 3, 1]),
        helper.make_node("Reshape", ["t", "shape"], ["f"]),
        helper.make_node(kind.split()[0], ["f", "w"], ["y"], **attributes),
    ]
    weights = {"w": weight.T.copy() if attributes else weight, "shape": np.array([-1, 24])}
    model, x = written(tmp_path, nodes, weights, ("N", 2, 3, 4)), RNG.normal(size=(6, 2, 3, 4)).astype(np.float32)

    changed = unturned(model, tmp_path / "unturned.onnx")

    assert [node.op_type for node in onnx.load(changed).graph.node] == ["Reshape", kind.split()[0]]
    np.testing.assert_allclose(asked(changed, x), asked(model, x), rtol=1e-5, atol=1e-6)


def test_a_transpose_that_something_else_reads_as_well_stays(tmp_path: Path):
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[0, 2, 3, 1]),
        helper.make_node("Flatten", ["t"], ["f"]),
        helper.make_node("MatMul", ["f", "w"], ["m"]),
        helper.make_node("ReduceMax", ["t"], ["most"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Unsqueeze", ["most", "one"], ["column"]),
        helper.make_node("Add", ["m", "column"], ["y"]),
    ]
    weights = {"w": RNG.normal(size=(24, 5)).astype(np.float32), "one": np.array([1])}
    model = written(tmp_path, nodes, weights, ("N", 2, 3, 4))

    assert unturned(model, tmp_path / "unturned.onnx") == model


@pytest.mark.parametrize(("spread", "layers"), [(np.ones(4, np.float32), 2), (np.arange(1, 5, dtype=np.float32), 1)])
def test_new_norms_are_told_apart_and_one_that_is_used_twice_stays_one(tmp_path: Path, spread: np.ndarray, layers: int):
    nodes = [helper.make_node("BatchNormalization", [given, "ones", "zeros", "zeros", "ones"], [made]) for given, made in ("xa", "ay")]
    model = written(tmp_path, nodes, {"zeros": np.zeros(4, np.float32), "ones": spread}, ("N", 4))

    first, second = read_graph(model, "y").nodes

    # The zeros of a mean and those of a bias part in any case.
    assert len({first.inputs[1:], second.inputs[1:]}) == layers
    assert len({*first.inputs[1:], *second.inputs[1:]}) == (8 if layers == 2 else 2)


def test_nodes_without_names_are_named_the_same_way_each_time(tmp_path: Path):
    nodes = [
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"], name="r"),
        helper.make_node("Tanh", ["b"], ["y"], name="r"),
    ]
    model = written(tmp_path, nodes, {}, ("N", 4))

    assert [node.name for node in read_proto(model).graph.node] == ["Relu_0", "r", "r_2"]
    assert read_proto(model) == read_proto(model)


def test_a_graph_that_was_made_regular_stays_as_it_is(tmp_path: Path):
    nodes = [helper.make_node("Reshape", ["x", "shape"], ["f"]), helper.make_node("MatMul", ["f", "w"], ["y"])]
    weights = {"w": RNG.normal(size=(24, 5)).astype(np.float32), "shape": np.array([-1, 24])}
    once = read_proto(written(tmp_path, nodes, weights, ("N", 2, 3, 4)))
    onnx.save(once, tmp_path / "once.onnx")

    assert read_proto(tmp_path / "once.onnx") == once
    assert sorted(one.name for one in once.graph.initializer) == ["Reshape_0.flat", "w"]


def test_an_output_that_is_not_there_and_operators_of_strangers_are_refused_by_name(tmp_path: Path):
    model = tiny_models.write(tmp_path, tiny_models.mlp())
    with pytest.raises(PassFailed, match="no output 'z'; it has y"):
        read_graph(model, "z")
    strange = written(tmp_path, [helper.make_node("FusedConv", ["x"], ["y"], domain="com.microsoft")], {}, ("N", 4))
    with pytest.raises(PassFailed, match=r"none of ONNX's own cannot be trained: com\.microsoft\.FusedConv"):
        read_graph(strange, "y")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (Prune(1.0), "A ratio of 1 cannot be pruned"),
        (Prune(-0.1), "A ratio of -0.1"),
        (Prune(0.5, layers=(("a", 2.0),)), "A ratio of 2"),
        (Prune(0.5, steps=0), "at least one step"),
        (Prune(0.5), "needs rows to learn from"),
    ],
)
def test_settings_that_cannot_be_are_refused_before_pytorch_is_loaded(tmp_path: Path, wrong: Prune, said: str):
    from towline.optimize.base import Material

    with pytest.raises(PassFailed, match=said):
        wrong.run(tmp_path / "m.onnx", tmp_path, Material())


def test_a_search_tries_half_first_and_then_more():
    tried = prunings(Training(epochs=4))

    assert [one.ratio for one in tried[:2]] == [0.5, 0.7]
    assert len({one.settings for one in tried}) == len(tried)
    assert tried[0].settings == "50% of the channels by magnitude, guided by sensitivity; 4 epochs, adam 0.001, cosine, batches of 128"
