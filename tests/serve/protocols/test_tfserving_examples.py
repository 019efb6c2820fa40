"""TF Serving's :classify and :regress over REST: examples in, `results` out, and a word for everything that is wrong."""

from __future__ import annotations

import json
from typing import Any

import example_models
import pytest
from plane import Api

from towline.serve.codecs.check import Limits


@pytest.fixture(scope="module")
def api() -> Api:
    return Api(example_models.plane(), Limits(max_batch=4))


def ask(api: Api, model: str, method: str, body: Any) -> tuple[int, Any]:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = api.ask("POST", f"/v1/models/{model}:{method}", raw)
    return answer.status, json.loads(answer.body)


def classify(api: Api, model: str, *examples: Any, **more: Any) -> Any:
    status, answer = ask(api, model, "classify", {"examples": examples, **more})
    assert status == 200, answer
    return answer["results"]


def refused(api: Api, model: str, method: str, body: Any) -> tuple[int, str, str, str]:
    status, answer = ask(api, model, method, body)
    return status, answer["code"], answer.get("field", ""), answer["error"]


def test_each_example_is_a_row_of_pairs_of_label_and_score(api: Api) -> None:
    assert classify(api, "two", {"x": [0.25, 0.75]}, {"x": [1, 0]}) == [[["0", 0.25], ["1", 0.75]], [["0", 1.0], ["1", 0.0]]]


def test_the_labels_of_the_version_name_the_classes_and_the_index_those_it_has_not(api: Api) -> None:
    assert classify(api, "named", {"x": [0.25, 0.75]}) == [[["cat", 0.25], ["dog", 0.75]]]
    assert classify(api, "short", {"x": [0.25, 0.75]}) == [[["cat", 0.25], ["1", 0.75]]]


def test_the_models_own_classes_go_before_all(api: Api) -> None:
    assert classify(api, "words", {"x": [0.25, 0.75], "words": ["a", {"b64": "5L2g"}]}) == [[["a", 0.25], ["你", 0.75]]]


def test_whole_numbers_keep_their_point_and_nan_and_infinity_are_words_as_in_tf_serving(api: Api) -> None:
    plain = api.ask("POST", "/v1/models/two:classify", b'{"examples":[{"x":[1.0,2.0]}]}')
    odd = api.ask("POST", "/v1/models/log:classify", b'{"examples":[{"x":[-1.0,0.0]}]}')
    given = api.ask("POST", "/v1/models/one:regress", b'{"examples":[{"x":Infinity},{"x":NaN},{"x":[0.5]}]}')

    assert plain.body == b'{"results":[[["0",1.0],["1",2.0]]]}'
    assert odd.body == b'{"results":[[["0",NaN],["1",-Infinity]]]}'
    assert given.body == b'{"results":[Infinity,NaN,0.5]}'


@pytest.mark.parametrize("model", ["one", "flat"])
def test_regress_answers_one_value_an_example(api: Api, model: str) -> None:
    assert ask(api, model, "regress", {"examples": [{"x": 0.1}, {"x": [2]}]}) == (200, {"results": [0.1, 2.0]})


def test_a_signature_is_chosen_by_name_and_only_its_outputs_are_run(api: Api) -> None:
    body = {"examples": [{"x": [3, 4]}]}

    assert ask(api, "both", "regress", {"signature_name": "sum", **body}) == (200, {"results": [7.0]})
    assert ask(api, "both", "regress", {"signature_name": "product", **body}) == (200, {"results": [12.0]})
    assert (api.plane.requests[-1].signature, api.plane.requests[-1].outputs) == ("product", ("product",))


def test_the_context_is_every_examples_own_unless_it_has_its_own(api: Api) -> None:
    results = classify(api, "add", {"a": [1.5, 2.0]}, {"a": [1.5, 2.0], "b": [0.5, 0.0]}, context={"b": [10.0, 20.0]})

    assert results == [[["0", 11.5], ["1", 22.0]], [["0", 2.0], ["1", 2.0]]]


def test_a_feature_that_is_missing_or_empty_has_the_default_of_the_graphs_own_parser_and_others_are_required(api: Api) -> None:
    results = classify(api, "add-default", {"a": [1.5, 2.0]}, {"a": [1.5, 2.0], "b": []}, {"a": [1.5, 2.0], "b": [1.0, 1.0]})

    assert results == [[["0", 2.0], ["1", float("inf")]]] * 2 + [[["0", 2.5], ["1", 3.0]]]
    assert classify(api, "words-default", {"x": [0.25, 0.75]}) == [[["a", 0.25], ["你", 0.75]]]
    assert refused(api, "add-default", "classify", {"examples": [{"b": [1.0, 1.0]}]}) == (
        400,
        "MISSING_INPUT",
        "examples[0]",
        "Feature: a (data type: float) is required but could not be found.",
    )


def test_strange_features_are_ignored_as_tensorflow_does(api: Api) -> None:
    assert classify(api, "two", {"x": [0.5, 1.0], "stranger": ["y"]}) == [[["0", 0.5], ["1", 1.0]]]


def test_a_row_of_any_length_is_taken_where_one_dim_is_free(api: Api) -> None:
    assert [len(row) for row in classify(api, "free", {"x": [1.5, 2.5, 3.5]}, {"x": [1.5, 2.5, 3.5]})] == [3, 3]


def test_a_version_without_a_batch_dim_takes_as_many_examples_as_it_has_rows(api: Api) -> None:
    assert classify(api, "fixed", {"x": [0.5, 1.0, 1.5, 2.0]}) == [[["0", 1.0], ["1", 2.0], ["2", 3.0], ["3", 4.0]]]
    assert refused(api, "fixed", "classify", {"examples": [{"x": [1, 2, 3, 4]}] * 2})[1] == "SHAPE_MISMATCH"


X = [0.5, 1.5]


@pytest.mark.parametrize(
    ("model", "body", "code", "field", "words"),
    [
        ("two", {"examples": []}, "EMPTY_BATCH", "examples", "Input is empty."),
        ("two", {}, "MISSING_INPUT", "examples", "'examples' key is missing"),
        ("two", {"examples": {"x": X}}, "MISSING_INPUT", "examples", "must be a list"),
        ("two", [1], "WRONG_TYPE", "", "JSON object"),
        ("two", {"examples": [X]}, "WRONG_TYPE", "examples[0]", "object of features"),
        ("two", {"examples": [{"x": X}], "context": 1}, "WRONG_TYPE", "context", "object of features"),
        ("two", {"examples": [{"x": X}, {"y": X}]}, "MISSING_INPUT", "examples[1]", "Feature: x (data type: float) is required"),
        ("two", {"examples": [{"x": X}, {"x": [1]}]}, "RAGGED", "examples[1].x", "2 values in the first and 1 in this"),
        ("two", {"examples": [{"x": [1, 2, 3]}]}, "WRONG_SIZE", "examples[0].x", "takes shape [N, 2]: 3 values"),
        ("two", {"examples": [{"x": []}]}, "WRONG_TYPE", "examples[0].x", "Expected type: float, got no values"),
        ("two", {"examples": [{"x": [1, 2.5, True, "a"]}]}, "WRONG_TYPE", "examples[0].x", "one type, got float and int64 and string"),
        ("two", {"examples": [{"x": [[1, 2]]}]}, "WRONG_TYPE", "examples[0].x", "flat list"),
        ("two", {"examples": [{"x": None}]}, "WRONG_TYPE", "examples[0].x", "numbers, true, false, strings"),
        ("two", {"examples": [{"x": ["a", "b"]}]}, "WRONG_TYPE", "examples[0].x", "Expected type: float, got string"),
        ("two", {"examples": [{"x": [1e39, 1.5]}]}, "OUT_OF_RANGE", "examples[0].x[0]", "float32, which does not hold 1e+39"),
        ("two", b'{"examples":[{"x":[1e400,1.0]}]}', "OUT_OF_RANGE", "examples[0].x", "64 bits"),
        ("ids", {"examples": [{"ids": 1.5}]}, "WRONG_TYPE", "examples[0].ids", "Expected type: int64, got float"),
        ("ids", {"examples": [{"ids": 1 << 63}]}, "OUT_OF_RANGE", "examples[0].ids", "64 bits"),
        ("words", {"examples": [{"x": X, "words": [{"b64": "!"}, "b"]}]}, "BAD_BASE64", "examples[0].words", "base64"),
        ("words", {"examples": [{"x": X, "words": [1, 2]}]}, "WRONG_TYPE", "examples[0].words", "Expected type: string, got int64"),
        ("two", {"examples": [{"x": X}], "signature_name": 1}, "WRONG_TYPE", "signature_name", "must be a string"),
        ("two", {"examples": [{"x": X}], "signature_name": "no"}, "UNKNOWN_SIGNATURE", "signature_name", 'name: "no" not found'),
    ],
)
def test_what_is_wrong_with_examples_is_named(api: Api, model: str, body: Any, code: str, field: str, words: str) -> None:
    status, told, where, said = refused(api, model, "classify", body)

    assert (status, told, where) == (400, code, field), said
    assert words in said


def test_too_many_examples_are_refused_before_any_is_read(api: Api) -> None:
    assert refused(api, "two", "classify", {"examples": [None] * 5})[:2] == (413, "BATCH_TOO_LARGE")


@pytest.mark.parametrize(
    ("model", "method", "words"),
    [
        ("int64", "classify", "cannot classify: that needs one output of floats of shape [N, classes]"),
        ("both", "classify", "Its outputs: 'sum' float32 [N, 1], 'product' float32 [N, 1]"),
        ("flat", "classify", "Its outputs: 'y' float32 [N]"),
        ("two", "regress", "cannot regress: that needs one output of floats of shape [N] or [N, 1]"),
        ("both", "regress", "one of several named 'outputs'"),
    ],
)
def test_a_version_that_cannot_says_why_and_what_it_has(api: Api, model: str, method: str, words: str) -> None:
    status, code, field, said = refused(api, model, method, {"examples": [{"x": X}]})

    assert (status, code, field) == (400, "WRONG_SIGNATURE", "signature_name")
    assert words in said
    assert "Use predict" in said


def test_a_free_width_that_comes_to_more_than_one_value_is_no_regression(api: Api) -> None:
    assert ask(api, "free", "regress", {"examples": [{"x": [1.5]}]}) == (200, {"results": [1.5]})
    status, code, _, said = refused(api, "free", "regress", {"examples": [{"x": [1.5, 2.5]}]})

    assert (status, code) == (500, "UNEXPECTED_SHAPE")
    assert "Output 'y' came as [1, 2], expected [1] or [1, 1]" in said


def test_methods_are_found_without_case_and_for_a_version(api: Api) -> None:
    body = b'{"examples":[{"x":[1.0]}]}'

    assert api.ask("POST", "/V1/Models/one/versions/1:REGRESS", body).body == b'{"results":[1.0]}'
    assert api.ask("POST", "/v1/models/one/versions/9:regress", body).status == 404
