"""Plain /predict: a value in, a value out, and the best label where there are labels."""

from __future__ import annotations

import json

import numpy as np
import pytest
from plane import Api, HonestPlane, version

from towline.core.errors import TowlineError
from towline.core.inference import Response
from towline.serve.protocols import simple_answer
from towline.testing import tiny_models

LABELS = tuple(f"digit {n}" for n in range(10))
JSON = {"Content-Type": "application/json"}


def predict(plane: HonestPlane, value: object, path: str = "/predict") -> dict[str, object]:
    answer = Api(plane).ask("POST", path, json.dumps({"input": value}).encode(), JSON)
    assert answer.status == 200, answer.body
    return json.loads(answer.body)  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def one() -> HonestPlane:
    return HonestPlane(version("id", tiny_models.identity()))


def test_a_batch_is_answered_as_a_batch_and_an_item_as_an_item(one: HonestPlane) -> None:
    assert predict(one, [[1, 2], [3, 4]]) == {"output": [[1, 2], [3, 4]]}
    assert predict(one, [1, 2]) == {"output": [1, 2]}


def test_a_model_without_a_batch_dim_takes_items_too() -> None:
    plane = HonestPlane(version("fixed", tiny_models.fixed_shape()))

    assert predict(plane, [1, 2, 3, 4]) == {"output": [2, 4, 6, 8]}
    assert predict(plane, [[1, 2, 3, 4]]) == {"output": [[2, 4, 6, 8]]}


def test_several_inputs_are_named(one: HonestPlane) -> None:
    plane = HonestPlane(version("two", tiny_models.add_two()), version("id", tiny_models.identity()))

    assert predict(plane, {"a": [1, 2], "b": [3, 4]}, "/models/two/predict") == {"output": [4, 6]}
    assert predict(plane, {"b": [[1, 2]], "a": [[3, 4]]}, "/models/two/predict") == {"output": [[4, 6]]}


def test_strings_are_taken_and_given_back() -> None:
    plane = HonestPlane(version("text", tiny_models.identity("string")))

    assert predict(plane, ["a", 'b"c']) == {"output": ["a", 'b"c']}


def test_scores_of_labels_come_with_the_best_label() -> None:
    plane = HonestPlane(version("mlp", tiny_models.mlp(), labels=LABELS))
    batch = np.random.default_rng(0).normal(size=(3, 10)).round(3).tolist()

    many, one = predict(plane, batch), predict(plane, batch[1])

    scores = np.array(many["output"])
    assert [found["label"] for found in many["predictions"]] == [LABELS[index] for index in scores.argmax(axis=1)]  # type: ignore[attr-defined]
    assert one["label"] == many["predictions"][1]["label"]  # type: ignore[index]
    assert one["score"] == max(one["output"])  # type: ignore[call-overload]
    assert one["index"] == LABELS.index(one["label"])  # type: ignore[arg-type]


def test_labels_that_do_not_fit_the_output_are_left_out() -> None:
    plane = HonestPlane(version("id", tiny_models.identity(), labels=LABELS))

    assert predict(plane, [1, 2]) == {"output": [1, 2]}


def test_nan_is_null_with_a_warning() -> None:
    answer = predict(HonestPlane(version("log", tiny_models.logarithm())), [-1, 1])

    assert answer["output"] == [None, 0]
    assert "NaN" in str(answer["warning"])


def test_several_outputs_are_named() -> None:
    outputs = {"a": np.array([[1]], np.int8), "b": np.array([True])}

    assert simple_answer.encode(Response(outputs, "m", 1), (), is_item=False) == b'{"output":{"a":[[1]],"b":[true]}}'


def test_an_error_carries_the_id_of_its_request(one: HonestPlane) -> None:
    answer = Api(one).ask("POST", "/predict", b"{", JSON)

    assert json.loads(answer.body)["error"]["request_id"] == "request-7"


@pytest.mark.parametrize(
    "headers", [{}, {"Content-Type": "application/x-www-form-urlencoded"}, {"Content-Type": "application/json; charset=UTF-8"}]
)
def test_json_is_taken_as_curl_sends_it(one: HonestPlane, headers: dict[str, str]) -> None:
    answer = Api(one).ask("POST", "/predict", b'{"input": [1, 2]}', headers)

    assert answer.status == 200


def test_an_internal_error_keeps_its_message_and_code(one: HonestPlane) -> None:
    plane = HonestPlane(version("id", tiny_models.identity()))
    plane.refusal = TowlineError("The engine stopped.", code="ENGINE_CRASHED")
    answer = Api(plane).ask("POST", "/predict", b'{"input": [1, 2]}', JSON)

    assert answer.status == 500
    assert json.loads(answer.body)["error"] == {
        "code": "ENGINE_CRASHED",
        "message": "The engine stopped.",
        "field": "",
        "request_id": "request-7",
    }


def test_json_with_its_charset_is_taken(one: HonestPlane) -> None:
    for value in ("application/json; charset=utf-8", "Application/JSON;charset=UTF-8"):
        assert Api(one).ask("POST", "/predict", b'{"input": [1, 2]}', {"Content-Type": value}).status == 200
