"""A converted graph gets the names, shapes and types that its model answers with."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from towline.convert.base import ConversionFailed
from towline.convert.tabular.columns import Columns
from towline.convert.tabular.finish import finish
from towline.convert.tabular.outputs import Output
from towline.core.manifest import TensorSpec

FLOAT, DOUBLE, INT = TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.INT64


def columns(*specs: TensorSpec) -> Columns:
    return Columns(specs, (), matrix=len(specs) == 1)


def output(name: str, dtype: str, *shape: int) -> Output:
    return Output(TensorSpec(name, dtype, ("N", *shape)), "predict")


def graph(nodes: list[onnx.NodeProto], inputs: dict[str, int], outputs: dict[str, tuple[int, list[int | None]]], width: int = 2):
    """As a converter writes one: its own names, a domain listed twice."""
    made = helper.make_graph(
        nodes,
        "converted",
        [helper.make_tensor_value_info(name, kind, [None, width]) for name, kind in inputs.items()],
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in outputs.items()],
        [numpy_helper.from_array(np.float32([2.0]), "by")],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 12), helper.make_opsetid("", 18)], ir_version=10)


def answers(model: onnx.ModelProto, **inputs: np.ndarray) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return dict(zip([one.name for one in session.get_outputs()], session.run(None, inputs), strict=True))


X = np.float32([[1, 2], [3, 4], [5, 6]])


def test_names_are_those_of_the_model_whatever_the_converter_made_of_them():
    model = graph([helper.make_node("Mul", ["age__y_", "by"], ["variable"])], {"age__y_": FLOAT}, {"variable": (FLOAT, [None, 2])})

    done = finish(model, columns(TensorSpec("age (y)", "float32", ("N", 2))), (output("transformed", "float32", 2),), doubles=False)

    np.testing.assert_array_equal(answers(done, **{"age (y)": X})["transformed"], X * 2)
    assert len(done.graph.node) == 1
    assert [opset.version for opset in done.opset_import] == [18]


def test_a_tensor_inside_that_bears_an_outputs_name_makes_room():
    nodes = [helper.make_node("Mul", ["X", "by"], ["prediction"]), helper.make_node("Mul", ["prediction", "by"], ["variable"])]
    model = graph(nodes, {"X": FLOAT}, {"variable": (FLOAT, [None, 2])})

    done = finish(model, columns(TensorSpec("X", "float32", ("N", 2))), (output("prediction", "float32", 2),), doubles=False)

    np.testing.assert_array_equal(answers(done, X=X)["prediction"], X * 4)


def test_two_columns_that_trade_names_stay_themselves():
    model = graph([helper.make_node("Sub", ["a", "b"], ["variable"])], {"a": FLOAT, "b": FLOAT}, {"variable": (FLOAT, [None, 1])}, width=1)
    takes = columns(TensorSpec("b", "float32", ("N", 1)), TensorSpec("a", "float32", ("N", 1)))

    done = finish(model, takes, (output("transformed", "float32", 1),), doubles=False)

    assert answers(done, b=np.float32([[5]]), a=np.float32([[3]]))["transformed"].tolist() == [[2]]


def test_a_regressors_one_column_is_a_number_per_row():
    nodes = [helper.make_node("ReduceSum", ["X"], ["variable"], keepdims=1, noop_with_empty_axes=1)]
    model = graph(nodes, {"X": FLOAT}, {"variable": (FLOAT, [None, 1])}, width=1)

    done = finish(model, columns(TensorSpec("X", "float32", ("N", 1))), (output("prediction", "float32"),), doubles=False)

    assert answers(done, X=X[:, :1])["prediction"].tolist() == [1, 3, 5]


def test_of_the_scores_of_two_classes_the_seconds_are_the_models():
    model = graph([helper.make_node("Mul", ["X", "by"], ["probabilities"])], {"X": FLOAT}, {"probabilities": (FLOAT, [None, 2])})

    done = finish(model, columns(TensorSpec("X", "float32", ("N", 2))), (output("scores", "float32"),), doubles=False)

    assert answers(done, X=X)["scores"].tolist() == [4, 8, 12]


def test_an_array_per_label_becomes_an_axis_after_the_rows():
    nodes = [helper.make_node("Mul", ["X", "by"], ["twice"]), helper.make_node("SequenceConstruct", ["X", "twice"], ["probabilities"])]
    model = graph(nodes, {"X": FLOAT}, {"probabilities": (FLOAT, [None, 2])})
    model.graph.output[0].CopyFrom(helper.make_tensor_sequence_value_info("probabilities", FLOAT, None))

    done = finish(model, columns(TensorSpec("X", "float32", ("N", 2))), (output("probabilities", "float32", 2, 2),), doubles=False)

    np.testing.assert_array_equal(answers(done, X=X)["probabilities"], np.stack([X, X * 2], axis=1))


def test_labels_before_rows_are_turned_round():
    shape = numpy_helper.from_array(np.int64([1, -1, 2]), "shape")
    nodes = [
        helper.make_node("Reshape", ["X", "shape"], ["one"]),
        helper.make_node("Mul", ["one", "by"], ["two"]),
        helper.make_node("Concat", ["one", "two"], ["probabilities"], axis=0),
    ]
    model = graph(nodes, {"X": FLOAT}, {"probabilities": (FLOAT, [2, None, 2])})
    model.graph.initializer.append(shape)

    done = finish(model, columns(TensorSpec("X", "float32", ("N", 2))), (output("probabilities", "float32", 2, 2),), doubles=False)

    np.testing.assert_array_equal(answers(done, X=X)["probabilities"], np.stack([X, X * 2], axis=1))


def test_in_doubles_only_the_inside_is_double():
    model = graph([helper.make_node("Mul", ["X", "X"], ["variable"])], {"X": DOUBLE}, {"variable": (DOUBLE, [None, 2])})

    done = finish(model, columns(TensorSpec("X", "float32", ("N", 2))), (output("transformed", "float32", 2),), doubles=True)

    got = answers(done, X=np.float32([[1 + 2**-23, 3]]))["transformed"]
    assert got.dtype == np.float32
    assert got[0, 0] == np.float32((1 + 2**-23) ** 2)
    assert [node.op_type for node in done.graph.node] == ["Cast", "Mul", "Cast"]


def test_letters_are_made_small_by_a_locale_that_every_server_has():
    normal = helper.make_node("StringNormalizer", ["X"], ["variable"], case_change_action="LOWER", locale="en_US")
    made = helper.make_graph(
        [normal],
        "converted",
        [helper.make_tensor_value_info("X", TensorProto.STRING, [None])],
        [helper.make_tensor_value_info("variable", TensorProto.STRING, [None])],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    takes = Columns((TensorSpec("X", "string", ("N",)),), (), matrix=True)

    done = finish(model, takes, (Output(TensorSpec("transformed", "string", ("N",)), "transform"),), doubles=False)

    assert answers(done, X=np.array(["Ä Tree"], dtype=object))["transformed"].tolist() == ["ä tree"]


def test_another_number_of_outputs_is_no_conversion():
    model = graph([helper.make_node("Mul", ["X", "by"], ["variable"])], {"X": FLOAT}, {"variable": (FLOAT, [None, 2])})

    with pytest.raises(ConversionFailed, match="1 inputs and 1 outputs; the model has 1 and 2"):
        finish(
            model,
            columns(TensorSpec("X", "float32", ("N", 2))),
            (output("label", "int64"), output("probabilities", "float32", 2)),
            doubles=False,
        )
