"""Dims that are always the same are fixed where that was asked for; any other candidate that takes less than its version is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from towline.app.optimizing.doors import fitting, narrowed
from towline.core.manifest import TENSORS_SIGNATURE, Facts, Manifest, Measured, Origin, Processing, Signature, Step, TensorSpec
from towline.optimize.base import Chain, Material, Passed, PassFailed
from towline.optimize.graph import Slim
from towline.optimize.shapes import FixShape, always
from towline.testing import tiny_models
from towline.testing.pass_contract import check_pass

IDS = np.random.default_rng(0).integers(0, 64, (9, 7))
ROWS = {"input_ids": IDS, "attention_mask": np.ones_like(IDS)}
BATCHES = [{name: array[part] for name, array in ROWS.items()} for part in (slice(0, 4), slice(4, 9))]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tiny_models.write(tmp_path, tiny_models.token_vectors(), "m.onnx")


def fixed(model: Path, into: Path) -> Passed:
    into.mkdir()
    return FixShape().run(model, into, Material(BATCHES))


def shapes(model: Path) -> dict[str, list[int | str]]:
    graph = onnx.load(model).graph
    return {one.name: [dim.dim_value or dim.dim_param for dim in one.type.tensor_type.shape.dim] for one in (*graph.input, *graph.output)}


def test_a_length_that_is_always_the_same_is_fixed_wherever_its_symbol_stands_and_the_batch_stays_open(model: Path, tmp_path: Path):
    passed = fixed(model, tmp_path / "made")

    made = tmp_path / "made" / passed.model
    assert shapes(made) == {"input_ids": ["N", 7], "attention_mask": ["N", 7], "vectors": ["N", 7, 4]}
    assert passed.notes == ("It takes one size only: input_ids [N, 7], attention_mask [N, 7].",)
    sessions = [ort.InferenceSession(str(one), providers=["CPUExecutionProvider"]) for one in (model, made)]
    needed = [{one.name: ROWS[one.name] for one in session.get_inputs()} for session in sessions]
    first, second = (session.run(None, feeds)[0] for session, feeds in zip(sessions, needed, strict=True))
    np.testing.assert_array_equal(first, second)
    with pytest.raises(Exception, match="INVALID_ARGUMENT"):
        sessions[1].run(None, {name: array[:, :3] for name, array in needed[1].items()})


def test_it_keeps_the_contract_of_passes(model: Path):
    check_pass(FixShape(), model, lambda into: fixed(model, into))


def test_rows_of_several_lengths_fix_nothing(model: Path, tmp_path: Path):
    shorter = {name: array[:, :5] for name, array in ROWS.items()}

    for batches, said in (([*BATCHES, shorter], "nothing to fix"), ([], "told by calibration data")):
        with pytest.raises(PassFailed, match=said):
            FixShape().run(model, tmp_path, Material(batches))


def test_the_batch_is_never_fixed_though_all_batches_are_of_one_size_nor_what_has_two_sizes_under_one_symbol():
    def given(name: str, *shape: int | str | None) -> object:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    inputs = [given("a", "N", "T", 3, "N"), given("b", "N", None, "T", "S"), given("unread", "N", "S")]
    batch = {"a": np.zeros((4, 5, 3, 4)), "b": np.zeros((4, 6, 8, 9))}

    assert always(inputs, [batch, batch]) == {"b": {1: 6, 3: 9}}


def manifest(processing: Processing | None = None) -> Manifest:
    inputs = (TensorSpec("ids", "int64", ("N", "T")), TensorSpec("mask", "int64", ("N", "T")))
    graph = Signature(inputs, (TensorSpec("y", "float32", ("N", "T", 4)),))
    signatures = {"serving_default": graph} | ({TENSORS_SIGNATURE: graph} if processing else {})
    origin, facts = Origin("onnx", "sha256:0", {}), Facts(0, {}, {})
    measured = Measured(cpu="x", deterministic=True, memory_loaded_bytes=1, memory_peak_bytes=2, max_batch=3)
    return Manifest(1, "onnxruntime", "m.onnx", signatures, True, origin, facts, measured, processing=processing or Processing())


def having(*sizes: int | str) -> Signature:
    """As the graph of a candidate tells itself; what it calls an open dim does not matter."""
    return Signature(tuple(TensorSpec(name, "int64", sizes) for name in ("ids", "mask")), (TensorSpec("y", "float32", None),))


def test_a_candidate_that_takes_less_is_refused_unless_that_was_asked_for():
    for chosen, sizes in ((Slim(), ("N", 7)), (Slim(), (1, "T"))):
        with pytest.raises(PassFailed, match="one size only where the version takes any"):
            narrowed(manifest(), having(*sizes), Chain((chosen,)))
    assert narrowed(manifest(), having("batch", "length"), Chain((Slim(),))) == manifest()

    asked = narrowed(manifest(), having("N", 7), Chain((FixShape(), Slim())))

    assert [spec.shape for spec in asked.signature.inputs] == [("N", 7), ("N", 7)]
    assert [spec.shape for spec in asked.signature.outputs] == [("N", 7, 4)]


def test_behind_declared_processing_no_size_is_fixed_for_nobody_knows_what_it_will_give():
    read = manifest(Processing(before=(Step("text"),)))

    with pytest.raises(PassFailed, match="versions that take tensors"):
        narrowed(read, having("N", 7), Chain((FixShape(),)))


def test_requests_of_another_size_are_not_replayed():
    asked = narrowed(manifest(), having("N", 7), Chain((FixShape(),)))
    right, wrong = ({name: np.zeros((2, size), np.int64) for name in ("ids", "mask")} for size in (7, 3))

    assert fitting(asked.signature, [wrong, right]) == [right]
    assert len(fitting(manifest().signature, [wrong, right])) == 2


def test_onnx_runtime_multiplies_no_bfloat16_on_this_cpu_which_is_why_there_is_no_such_pass():
    """Should this fail some day, measure what it gains (docs/reference/optimize/runtime.md)."""
    ends = [helper.make_tensor_value_info(name, TensorProto.BFLOAT16, [4, 4]) for name in ("x", "w", "y")]
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "product", ends[:2], ends[2:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = ort.SessionOptions()
    options.log_severity_level = 4

    with pytest.raises(Exception, match="NOT_IMPLEMENTED"):
        ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
