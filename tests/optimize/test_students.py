"""A student takes and answers what its version does, at any number of rows, for fewer multiply-adds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper, numpy_helper
from student_graphs import encoder, plain, remembering, residual

from towline.optimize.base import Material, Pass, PassFailed, settings_of
from towline.optimize.cost import multiply_adds, parameters
from towline.optimize.distill import Distill, given_student, student_of, students_to_try
from towline.optimize.passes import pass_of
from towline.optimize.rows import write_rows
from towline.optimize.students.asked import asked_of
from towline.optimize.students.folding import folded
from towline.optimize.students.narrowed import narrowed, scaled
from towline.optimize.students.pairing import paired
from towline.optimize.students.shallow import Block, blocks_of, left_out
from towline.optimize.students.spreads import needs_scaling
from towline.optimize.training.settings import Training
from towline.testing import tiny_models

RNG = np.random.default_rng(0)


def tiny(model: bytes) -> onnx.ModelProto:
    return onnx.load_from_string(model)


def output(model: onnx.ModelProto) -> str:
    return str(model.graph.output[0].name)


def session(model: onnx.ModelProto) -> ort.InferenceSession:
    return ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def feeds(model: onnx.ModelProto, rows: int) -> dict[str, np.ndarray]:
    """Rows of any kind that the graph takes; sizes that are free are 32."""
    made = {}
    for one in asked_of(model, output(model)).inputs:
        sizes = [rows, *(size if isinstance(size, int) else 32 for size in (one.shape or ())[1:])]
        low, high = (1, 2) if "mask" in one.name else (0, 3)
        whole = one.dtype in ("int64", "int32", "uint8")
        made[one.name] = (RNG.integers(low, high, sizes) if whole else RNG.normal(0, 1, sizes)).astype(one.dtype)
    return made


def answers(model: onnx.ModelProto, given: dict[str, np.ndarray]) -> np.ndarray:
    return np.asarray(session(model).run(None, given)[0])


def drawn(model: onnx.ModelProto, student: str, **settings: Any) -> onnx.ModelProto:
    made = student_of(Distill(student, **settings), model, output(model))  # type: ignore[arg-type]
    onnx.checker.check_model(made, full_check=True)
    return made


def signature(model: onnx.ModelProto) -> tuple[Any, ...]:
    weights = {one.name for one in model.graph.initializer}
    return [one for one in model.graph.input if one.name not in weights], list(model.graph.output)


TAKEN = {
    "a small picture": (plain(["N", 1, 8, 8]), "mobile"),
    "a picture, channels last": (plain(["N", 32, 32, 3]), "mobile"),
    "a grey picture without channels": (plain(["N", 28, 28]), "mobile"),
    "a picture in bytes": (plain(["N", 64, 64, 3], dtype=2), "mobile"),
    "a picture of any size": (plain(["N", 3, "H", "W"]), "mobile"),
    "a large picture": (plain(["N", 3, 224, 224]), "mobile"),
    "numbers": (tiny(tiny_models.mlp()), "mlp"),
    "doubles": (plain(["N", 7], dtype=11), "mlp"),
    "a target of one axis": (plain(["N", 7], rank=1), "mlp"),
    "a picture as numbers": (plain(["N", 1, 8, 8]), "mlp"),
    "tokens": (encoder(), "bag"),
    "tokens with a mask": (tiny(tiny_models.bag_of_tokens()), "bag"),
    "the graph itself, of dense layers": (tiny(tiny_models.mlp()), "narrow"),
    "the graph itself, of convolutions": (tiny(tiny_models.convolutions()), "narrow"),
    "the graph itself, of residuals": (residual(), "narrow"),
    "the graph itself, of attention": (encoder(), "narrow"),
}


@pytest.mark.parametrize("name", TAKEN)
def test_a_student_takes_and_answers_what_its_version_does(name: str):
    model, student = TAKEN[name]

    made = drawn(model, student)

    assert signature(made) == signature(model)
    for rows in (1, 3):
        given = feeds(model, rows)
        assert (answers(made, given).shape, answers(made, given).dtype) == (answers(model, given).shape, answers(model, given).dtype)


@pytest.mark.parametrize("name", ["numbers", "the graph itself, of residuals"])
def test_a_student_of_a_version_that_ends_in_probabilities_gives_probabilities(name: str):
    model, student = TAKEN[name]

    said = answers(drawn(model, student), feeds(model, 5))

    np.testing.assert_allclose(said.sum(axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("student", ["narrow", "mobile", "mlp"])
def test_equal_seeds_draw_equal_weights_and_others_do_not(student: str):
    draws = [drawn(residual(), student, training=Training(seed=seed)).SerializeToString() for seed in (1, 1, 2)]

    assert draws[0] == draws[1] != draws[2]


def test_width_and_depth_scale_what_a_student_costs():
    model = plain(["N", 3, 32, 32])
    costs = {
        (width, depth): multiply_adds(drawn(model, "mobile", width=width, depth=depth)) for width in (0.5, 1.0) for depth in (0.5, 1.0)
    }

    assert costs[0.5, 0.5] < costs[0.5, 1.0] < costs[1.0, 0.5] < costs[1.0, 1.0]


def test_each_hidden_layer_is_narrowed_and_what_answers_is_not():
    shapes = {one.name: tuple(one.dims) for one in narrowed(residual(), 0.5).graph.initializer}

    assert shapes["stem.w"] == (16, 3, 3, 3)
    assert shapes["block0.wide.w"] == (32, 16, 1, 1)
    assert shapes["block0.deep.w"] == (32, 1, 3, 3)
    assert shapes["block0.slope"] == (32, 1, 1)
    assert shapes["block0.var"] == (32,)
    assert shapes["head.w"] == (16 * 64, 5)


def test_attention_keeps_its_heads_each_narrower():
    made = narrowed(encoder(width=32, heads=4), 0.5)

    shapes = {one.name: tuple(one.dims) for one in made.graph.initializer}
    assert (shapes["table"], shapes["places"], shapes["q.w"]) == ((50, 16), (1, 8, 16), (16, 16))
    inferred = onnx.shape_inference.infer_shapes(made, data_prop=True)
    heads = next(one for one in inferred.graph.value_info if one.name == "q.split").type.tensor_type.shape.dim
    assert [dim.dim_value for dim in heads][1:] == [8, 4, 4]


@pytest.mark.parametrize(
    ("size", "width", "made"),
    [(64, 0.25, 16), (64, 0.5, 32), (20, 0.5, 8), (10, 0.25, 4), (3, 0.25, 3), (24, 0.9, 24), (8, 1.0, 8), (1, 0.1, 1)],
)
def test_a_narrower_width_is_whole_vectors_where_there_are_any(size: int, width: float, made: int):
    assert scaled(size, width) == made


@pytest.mark.parametrize(
    ("model", "student", "named"),
    [
        (tiny(tiny_models.dynamic_int8()), "narrow", "no layers with weights of their own"),
        (tiny(tiny_models.identity()), "narrow", "no layers with weights of their own"),
        (remembering(), "narrow", r"operator 'lstm' \(LSTM\) has weights that are not drawn anew"),
        (tiny(tiny_models.mlp()), "mobile", r"one input that is a picture, and one output.*x float32\['N', 10\]"),
        (encoder(), "mlp", "needs inputs of fixed sizes"),
        (residual(), "bag", "needs inputs that are tokens"),
        (tiny(tiny_models.sum_and_product()), "mlp", "one output with a number per class"),
        (tiny(tiny_models.token_vectors()), "bag", "one output with a number per class"),
    ],
)
def test_a_student_that_cannot_be_drawn_is_refused_with_what_is_in_its_way(model: onnx.ModelProto, student: str, named: str):
    with pytest.raises(PassFailed, match=named):
        drawn(model, student)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"width": 0.0}, "both are factors"),
        ({"width": 1.0}, "less than 1"),
        ({"width": 0.5, "depth": 2.0}, "neither of more"),
        ({"alpha": 1.5}, "alpha is 0 to 1"),
        ({"temperature": 0.0}, "temperature more than 0"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings: dict[str, float], named: str):
    with pytest.raises(PassFailed, match=named):
        drawn(residual(), "narrow", **settings)


def test_half_as_deep_leaves_out_half_of_the_equal_blocks_and_keeps_the_weights_of_the_others():
    model = residual(blocks=4)

    made = drawn(model, "narrow", width=1.0, depth=0.5)

    kept = [node.name for node in made.graph.node if node.op_type == "Add"]
    assert kept == ["block0.sum_node", "block2.sum_node"]
    before, after = ({one.name: numpy_helper.to_array(one) for one in some.graph.initializer} for some in (model, made))
    assert set(after) < set(before)
    np.testing.assert_array_equal(after["block2.wide.w"], before["block2.wide.w"])
    assert signature(made) == signature(model)
    assert np.isfinite(answers(made, feeds(model, 2))).all()


def test_a_block_has_one_way_in_and_one_out_and_never_the_layer_that_answers():
    assert blocks_of(residual(blocks=2)) == (Block("stem.relu", "block0.sum"), Block("block0.sum", "block1.sum"))
    # 10-10-10: the second layer takes and gives ten numbers, and answers.
    assert blocks_of(tiny(tiny_models.mlp(width=10))) == ()


@pytest.mark.parametrize(
    ("count", "depth", "gone"), [(4, 0.5, (3, 1)), (4, 1.0, ()), (4, 0.75, (3,)), (3, 0.01, (2, 1, 0)), (6, 0.5, (5, 3, 1))]
)
def test_what_is_left_out_is_spread_over_the_graph(count: int, depth: float, gone: tuple[int, ...]):
    blocks = [Block(str(place), str(place + 1)) for place in range(count)]

    assert left_out(blocks, depth) == tuple(blocks[place] for place in gone)


def test_a_graph_without_equal_blocks_cannot_be_made_less_deep():
    with pytest.raises(PassFailed, match="no block that takes and gives the same shape"):
        drawn(tiny(tiny_models.mlp()), "narrow", width=1.0, depth=0.5)


@pytest.mark.parametrize(
    "model", [drawn(plain(["N", 3, 16, 16]), "mobile"), tiny(tiny_models.convolutions(epsilon=0.5))], ids=["mobile", "a large epsilon"]
)
def test_folding_batch_norms_changes_no_answer(model: onnx.ModelProto):
    for one in model.graph.initializer:
        if one.name.endswith((".scale", ".bias", ".mean", ".var")):
            one.CopyFrom(numpy_helper.from_array(RNG.uniform(0.5, 1.5, one.dims).astype(np.float32), one.name))
    given = feeds(model, 4)
    before = answers(model, given)

    made = folded(model)

    assert "BatchNormalization" not in {node.op_type for node in made.graph.node}
    onnx.checker.check_model(made, full_check=True)
    np.testing.assert_allclose(answers(made, given), before, rtol=1e-4, atol=1e-4)


def test_a_norm_whose_convolution_is_read_elsewhere_is_not_folded():
    model = tiny(tiny_models.convolutions())
    model.graph.output.append(helper.make_tensor_value_info("conv1", 1, ["N", 8, 8, 8]))

    assert [node.op_type for node in folded(model).graph.node].count("BatchNormalization") == 1


def test_a_given_student_takes_the_names_and_the_activation_of_its_version(tmp_path: Path):
    its = plain(["M", 10], classes=10)
    file = tmp_path / "mine.onnx"
    onnx.save(its, file)
    model = tiny(tiny_models.mlp())

    made = student_of(given_student(file), model, "y")

    assert signature(made)[0][0].name == "x"
    given = feeds(model, 3)
    said, raw = answers(made, given), answers(its, {"x": given["x"]})
    np.testing.assert_allclose(said, np.exp(raw) / np.exp(raw).sum(axis=1, keepdims=True), rtol=1e-5)


@pytest.mark.parametrize(
    ("its", "named"),
    [
        (plain(["N", 11], classes=10), r"takes x float32\['N', 11\]; the version x float32\['N', 10\]"),
        (plain(["N", 10], classes=4), r"answers y float32\['N', 4\]; the version y float32\['N', 10\]"),
        (plain(["N", 10], classes=10, dtype=11), "takes x float64"),
        (tiny(tiny_models.sum_and_product()), "has 2 outputs"),
    ],
)
def test_a_given_student_of_another_signature_is_refused(tmp_path: Path, its: onnx.ModelProto, named: str):
    file = tmp_path / "mine.onnx"
    onnx.save(its, file)

    with pytest.raises(PassFailed, match=named):
        drawn(tiny(tiny_models.mlp()), "given", file=str(file))


def test_a_given_student_that_is_absent_changed_or_no_model_is_refused(tmp_path: Path):
    model, file = tiny(tiny_models.mlp()), tmp_path / "mine.onnx"
    with pytest.raises(PassFailed, match="no student at"):
        given_student(file)
    with pytest.raises(PassFailed, match="no student at"):
        drawn(model, "given", file=str(file))
    file.write_bytes(b"\x08\x0atorn")
    with pytest.raises(PassFailed, match="no ONNX file"):
        drawn(model, "given", file=str(file))
    with pytest.raises(PassFailed, match="changed since it was chosen"):
        drawn(model, "given", file=str(file), digest="0" * 64)


def test_what_a_graph_costs_is_counted_by_hand_the_same():
    model = tiny(tiny_models.convolutions())

    assert multiply_adds(model) == 8 * 8 * 8 * (3 * 9) + 8 * 8 * 8 * (8 * 9) + 8 * 4
    assert multiply_adds(tiny(tiny_models.mlp())) == 10 * 64 + 64 * 10
    assert parameters(tiny(tiny_models.mlp())) == 640 + 64 + 640 + 10


def test_a_search_tries_students_that_cost_half_at_most(tmp_path: Path):
    onnx.save(residual(), tmp_path / "m.onnx")

    tried = students_to_try(tmp_path / "m.onnx", "probabilities")

    assert tried[0] == Distill("narrow", 0.25)
    most = multiply_adds(residual()) / 2
    assert all(multiply_adds(student_of(one, residual(), "probabilities")) <= most for one in tried)


def test_a_search_tries_no_student_of_what_is_tiny_already(tmp_path: Path):
    onnx.save(plain(["N", 7]), tmp_path / "m.onnx")

    assert students_to_try(tmp_path / "m.onnx", "y") == ()


@pytest.mark.parametrize(
    ("model", "form"),
    [
        (plain(["N", 3, 32, 32]), "picture"),
        (plain(["N", 2, 3, 3]), "flat"),
        (plain(["N", 5, 9]), "picture"),
        (plain(["N", 3, 9]), "flat"),
        (plain(["N", "F"]), "other"),
        (plain(["N", 40000]), "other"),
        (plain(["N", 8], dtype=7), "other"),
        (encoder(), "tokens"),
        (tiny(tiny_models.sum_and_product()), "other"),
    ],
)
def test_what_a_student_is_made_for_is_told_by_the_signature(model: onnx.ModelProto, form: str):
    assert asked_of(model, output(model)).form == form


def test_inner_tensors_are_paired_by_name_and_else_by_size():
    model = residual()

    assert paired(narrowed(model, 0.5), model) == (("block1.sum", "block1.sum"), ("block2.sum", "block2.sum"), ("block3.sum", "block3.sum"))
    (pair,) = paired(drawn(model, "mobile"), model)[-1:]
    assert pair[1] == "block3.sum"
    with pytest.raises(PassFailed, match="No inner tensor of the student is of a size"):
        paired(drawn(model, "mlp"), model)


@pytest.mark.parametrize(
    ("mean", "deviation", "needs"),
    [([0.1], [0.3], False), ([120.0], [60.0], True), ([0.0, 3.0], [1.0, 1.0], True), ([0.0], [0.001], True), ([0.0], [0.0], False)],
)
def test_inputs_far_from_zero_and_one_are_scaled(mean: list[float], deviation: list[float], needs: bool):
    assert needs_scaling(np.array(mean), np.array(deviation)) == needs


def test_nothing_is_taught_without_rows_or_a_teacher(tmp_path: Path):
    model = tiny_models.write(tmp_path, tiny_models.mlp())
    batch = ({"x": RNG.normal(size=(4, 10)).astype(np.float32)}, np.arange(4), {})
    rows = write_rows(tmp_path / "rows", [batch], count=4, output="y", held_back=0)

    with pytest.raises(PassFailed, match="needs rows to learn from"):
        Distill().run(model, tmp_path, Material())
    with pytest.raises(PassFailed, match="needs a teacher's answers"):
        Distill().run(model, tmp_path, Material(rows=rows))


def test_what_a_student_is_and_how_it_learns_reads_well():
    assert Distill().settings.startswith("narrow student, 0.25 wide, temperature 4, alpha 0.9, 5 epochs")
    assert Distill("given", file="/some/where/mine.onnx", features=True).settings.startswith("student mine.onnx, ")
    assert "mobile student, 0.5 wide, 2 deep" in Distill("mobile", 0.5, 2).settings
    assert isinstance(Distill(), Pass)
    chosen = Distill("mlp", features=(("a", "b"),), training=Training(augment=("flip",)))
    assert pass_of("Distill", settings_of(chosen)) == chosen
