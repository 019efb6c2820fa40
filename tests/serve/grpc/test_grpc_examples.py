"""Classify, Regress and MultiInference without a socket: tf.Examples in, what REST answers out."""

from __future__ import annotations

import json
import struct
from typing import Any

import example_models
import grpc
import numpy as np
import pytest
from calling import Asker, Refused
from plane import Api, HonestPlane

from towline.core.errors import EngineError, InvalidRequest, Overloaded
from towline.core.inference import Response
from towline.serve.codecs.check import Limits
from towline.serve.protocols.grpc.messages import MESSAGES
from towline.serve.protocols.grpc.tfserving import methods
from towline.serve.protocols.tfserving_examples import INT64, ExampleCodec, Feature, Task, classes_of

SERVICE = "tensorflow.serving.PredictionService"
CLASSIFY, REGRESS = "tensorflow/serving/classify", "tensorflow/serving/regress"
LIMITS = Limits(max_batch=4)


@pytest.fixture
def plane() -> HonestPlane:
    return example_models.plane()


@pytest.fixture
def asker(plane: HonestPlane) -> Asker:
    return Asker(methods(plane, LIMITS))


def feature(value: Any) -> dict[str, Any]:
    kind = {int: "int64_list", float: "float_list", bytes: "bytes_list"}[type(value[0])]
    return {kind: {"value": value}}


def example(**features: Any) -> dict[str, Any]:
    return {"features": {"feature": {name: feature(value) for name, value in features.items()}}}


def given(*examples: Any, context: Any = None) -> dict[str, Any]:
    if context is None:
        return {"example_list": {"examples": examples}}
    return {"example_list_with_context": {"examples": examples, "context": context}}


def classify(asker: Asker, model: str, *examples: Any, context: Any = None, **spec: Any) -> Any:
    kind = MESSAGES["tensorflow.serving.ClassificationRequest"]
    request = kind(model_spec={"name": model, **spec}, input=given(*examples, context=context))
    return asker.ask(f"{SERVICE}/Classify", request, "tensorflow.serving.ClassificationResponse")


def regress(asker: Asker, model: str, *examples: Any, **spec: Any) -> Any:
    request = MESSAGES["tensorflow.serving.RegressionRequest"](model_spec={"name": model, **spec}, input=given(*examples))
    return asker.ask(f"{SERVICE}/Regress", request, "tensorflow.serving.RegressionResponse")


def pairs(answer: Any) -> list[list[tuple[str, float]]]:
    return [[(one.label, one.score) for one in row.classes] for row in answer.result.classifications]


def task(signature: str, method: str, model: str = "both") -> dict[str, Any]:
    return {"model_spec": {"name": model, "signature_name": signature}, "method_name": method}


def multi(asker: Asker, tasks: list[dict[str, Any]], *examples: Any) -> Any:
    request = MESSAGES["tensorflow.serving.MultiInferenceRequest"](tasks=tasks, input=given(*examples))
    return asker.ask(f"{SERVICE}/MultiInference", request, "tensorflow.serving.MultiInferenceResponse")


def as_float32(value: float) -> float:
    return float(struct.unpack("<f", struct.pack("<f", value))[0])


def test_classify_answers_with_labels_scores_and_the_version(asker: Asker) -> None:
    answer = classify(asker, "named", example(x=[0.25, 0.75]), example(x=[1, 0]))

    assert pairs(answer) == [[("cat", 0.25), ("dog", 0.75)], [("cat", 1.0), ("dog", 0.0)]]
    assert (answer.model_spec.name, answer.model_spec.version.value) == ("named", 1)


def test_regress_answers_with_values_and_the_version(asker: Asker) -> None:
    answer = regress(asker, "one", example(x=[0.5]), example(x=[-2.0]))

    assert [one.value for one in answer.result.regressions] == [0.5, -2.0]
    assert answer.model_spec.version.value == 1


def test_the_context_is_shared_and_an_examples_own_feature_goes_before_it(asker: Asker) -> None:
    own = example(a=[1.0, 2.0], b=[0.0, 0.0])
    answer = classify(asker, "add", example(a=[1.0, 2.0]), own, context=example(b=[10.0, 20.0]))

    assert pairs(answer) == [[("0", 11.0), ("1", 22.0)], [("0", 1.0), ("1", 2.0)]]


def test_bytes_are_text_for_the_model_and_labels_in_the_answer(asker: Asker) -> None:
    answer = classify(asker, "words", example(x=[0.25, 0.75], words=["你".encode(), b"b"]))

    assert pairs(answer) == [[("你", 0.25), ("b", 0.75)]]


@pytest.mark.parametrize(
    ("model", "features"),
    [
        ("two", [{"x": [0.1, 0.7]}, {"x": [3, 4]}]),
        ("named", [{"x": [1e-8, 0.3]}]),
        ("add", [{"a": [1, 2], "b": [0.5, 0.25]}]),
        ("ids", [{"ids": [0]}, {"ids": [2]}]),
        ("two", [{"x": [0.1]}]),
        ("two", [{"y": [0.1, 0.7]}]),
        ("two", [{"x": [1.0, 2.0]}, {"x": [1.0]}]),
        ("two", [{"x": [1.0, 2.0]}] * 5),
        ("ids", [{"ids": [1.5]}]),
        ("flat", [{"x": [1.5]}]),
        ("nobody", [{"x": [1.5]}]),
    ],
)
def test_rest_and_grpc_say_the_same(asker: Asker, plane: HonestPlane, model: str, features: list[dict[str, Any]]) -> None:
    answer = Api(plane, LIMITS).ask("POST", f"/v1/models/{model}:classify", json.dumps({"examples": features}).encode())
    over_rest = json.loads(answer.body)
    examples = [example(**one) for one in features]
    if answer.status != 200:
        with pytest.raises(Refused) as caught:
            classify(asker, model, *examples)
        assert (caught.value.code, caught.value.field) == (over_rest["code"], over_rest.get("field", ""))
        return
    expected = [[(label, as_float32(score)) for label, score in row] for row in over_rest["results"]]
    assert pairs(classify(asker, model, *examples)) == expected


def test_a_feature_without_a_kind_and_an_input_without_examples_are_refused(asker: Asker) -> None:
    with pytest.raises(Refused, match=r"INVALID_ARGUMENT: Feature: x.* got no values"):
        classify(asker, "two", {"features": {"feature": {"x": {}}}})
    with pytest.raises(Refused, match="INVALID_ARGUMENT: Input is empty"):
        classify(asker, "two")
    with pytest.raises(Refused, match='FAILED_PRECONDITION: Serving signature key "no" not found'):
        classify(asker, "two", example(x=[1.0, 2.0]), signature_name="no")


@pytest.mark.parametrize(
    ("model", "value", "field", "words"),
    [
        ("int8", [1, 128], "examples[0].x[1]", "does not hold 128"),
        ("int8", [-129, 0], "examples[0].x[0]", "does not hold -129"),
        ("uint64", [0, -1], "examples[0].x[1]", "does not hold -1"),
        ("bool", [1, 2], "examples[0].x[1]", "does not hold 2"),
        ("image", [1, 2, 3, 4], "examples[0].x", "do not fill one row"),
    ],
)
def test_what_an_input_cannot_take_is_named(plane: HonestPlane, model: str, value: list[int], field: str, words: str) -> None:
    codec = ExampleCodec(plane.find(model), LIMITS, "")
    with pytest.raises(InvalidRequest, match=words) as caught:
        codec.decode([{"x": Feature(INT64, value)}], {}, Task(CLASSIFY, "y"), None)

    assert caught.value.field == field


def test_several_tasks_are_answered_together_in_their_order(asker: Asker) -> None:
    tasks = [task("product", REGRESS), task("sum", REGRESS), task("sum", CLASSIFY)]

    first, second, third = multi(asker, tasks, example(x=[3.0, 4.0]), example(x=[1.0, 2.0])).results

    assert [one.value for one in first.regression_result.regressions] == [12.0, 2.0]
    assert [one.value for one in second.regression_result.regressions] == [7.0, 3.0]
    assert [row.classes[0].score for row in third.classification_result.classifications] == [7.0, 3.0]
    assert (first.model_spec.signature_name, first.model_spec.version.value, second.model_spec.signature_name) == ("product", 1, "sum")


@pytest.mark.parametrize(
    ("tasks", "words"),
    [
        ([], "'tasks' takes 1 to 16 tasks, got 0"),
        ([task("sum", REGRESS)] * 17, "got 17"),
        ([task("sum", REGRESS)] * 2, "Duplicate evaluation of signature: sum"),
        ([task("sum", REGRESS), task("", CLASSIFY, "two")], "All tasks must be of one model and version"),
        ([task("sum", "tensorflow/serving/predict")], "Unsupported signature method_name: tensorflow/serving/predict"),
        ([task("sum", REGRESS), task("", CLASSIFY)], "cannot classify"),
    ],
)
def test_what_is_wrong_with_tasks_is_named_and_nothing_runs(asker: Asker, plane: HonestPlane, tasks: Any, words: str) -> None:
    with pytest.raises(Refused, match=f"INVALID_ARGUMENT: .*{words}"):
        multi(asker, tasks, example(x=[3.0, 4.0]))

    assert plane.requests == []


def test_one_refusal_is_the_answer_to_all_tasks(asker: Asker, plane: HonestPlane) -> None:
    plane.refusal = Overloaded("The queue is full.")

    with pytest.raises(Refused, match="RESOURCE_EXHAUSTED: The queue is full") as caught:
        multi(asker, [task("sum", REGRESS), task("product", REGRESS)], example(x=[3.0, 4.0]))

    assert caught.value.status is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert len(plane.requests) == 1


def test_a_refusal_of_one_task_gives_up_the_others(plane: HonestPlane) -> None:
    given_up: list[str] = []

    def infer(served: Any, request: Any, done: Any, *, protocol: str) -> Any:
        (output,) = request.outputs
        if output == "product":
            done(Overloaded("The queue is full."))
        return lambda: given_up.append(output)

    plane.infer = infer  # type: ignore[method-assign]
    with pytest.raises(Refused, match="RESOURCE_EXHAUSTED"):
        multi(Asker(methods(plane, LIMITS)), [task("sum", REGRESS), task("product", REGRESS)], example(x=[3.0, 4.0]))

    assert given_up == ["sum"]


@pytest.mark.parametrize(
    ("outputs", "words"),
    [
        ({"y": np.zeros((1, 2), "f4")}, r"Output 'y' came as \[1, 2\], expected \[2, classes\]"),
        ({"y": np.zeros((2,), "f4")}, r"Output 'y' came as \[2\]"),
        ({"y": np.zeros((2, 2), "f4"), "classes": np.full((2, 1), b"a", object)}, r"Output 'classes' came as \[2, 1\], expected \[2, 2\]"),
    ],
)
def test_outputs_that_do_not_fit_their_examples_are_never_paired(outputs: dict[str, Any], words: str) -> None:
    read = Task(CLASSIFY, "y", "classes" if "classes" in outputs else "")

    with pytest.raises(EngineError, match=words):
        classes_of(Response(outputs, "m", 1), read, (), rows=2)
