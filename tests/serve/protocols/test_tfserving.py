"""TF Serving REST: what its clients send is answered as TF Serving would."""

from __future__ import annotations

import base64
import contextlib
import gzip
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import helper
from plane import Api, HonestPlane, version

from towline.core.errors import DeadlineExceeded, EngineError, Kind, Overloaded, TowlineError
from towline.core.manifest import Signature, TensorSpec
from towline.serve.codecs import json as json_codec
from towline.serve.codecs.check import Limits
from towline.serve.protocols import tfserving_answer, tfserving_body
from towline.testing import tiny_models


@pytest.fixture(scope="module")
def plane() -> HonestPlane:
    return HonestPlane(
        version("m", tiny_models.mlp()),
        version("m", tiny_models.mlp(seed=1), number=3),
        version("two", tiny_models.add_two()),
        version("id", tiny_models.identity()),
        version("text", tiny_models.identity("string")),
        version("log", tiny_models.logarithm()),
        version("wide", tiny_models.identity("float64")),
        version("ids", tiny_models.embedding(rows=4)),
        version("fixed", tiny_models.fixed_shape()),
        version("outputs", two_outputs()),
        label_of={("m", "stable"): 1},
    )


@pytest.fixture
def api(plane: HonestPlane) -> Api:
    plane.refusal = None
    plane.requests.clear()
    return Api(plane)


def two_outputs() -> bytes:
    """x float32 [N, 2] -> same [N, 2] and sum [1], whose first dims differ unless N is 1."""
    x = helper.make_tensor_value_info("x", 1, ["N", 2])
    same, total = helper.make_tensor_value_info("same", 1, ["N", 2]), helper.make_tensor_value_info("sum_bytes", 1, [1])
    nodes = [helper.make_node("Identity", ["x"], ["same"]), helper.make_node("ReduceSum", ["x"], ["s"], keepdims=0)]
    nodes.append(helper.make_node("Unsqueeze", ["s", "axes"], ["sum_bytes"]))
    axes = helper.make_tensor("axes", 7, [1], [0])
    graph = helper.make_graph(nodes, "g", [x], [same, total], [axes])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


def predict(api: Api, model: str, body: object, **headers: str) -> tuple[int, object]:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = api.ask("POST", f"/v1/models/{model}:predict", raw, headers)
    return answer.status, json.loads(answer.body)


def test_the_answer_is_the_models_own(api: Api) -> None:
    x = np.random.default_rng(0).normal(size=(3, 10)).astype(np.float32)
    want = onnxruntime.InferenceSession(tiny_models.mlp(seed=1)).run(None, {"x": x})[0]

    status, answer = predict(api, "m", {"instances": x.tolist()})

    assert status == 200
    np.testing.assert_array_equal(np.array(answer["predictions"], np.float32), want)  # type: ignore[index,call-overload]


def test_row_form_answers_predictions_and_column_form_outputs(api: Api) -> None:
    assert predict(api, "id", {"instances": [[1, 2], [3, 4]]}) == (200, {"predictions": [[1, 2], [3, 4]]})
    assert predict(api, "id", {"inputs": [[1, 2]]}) == (200, {"outputs": [[1, 2]]})


def test_several_inputs_come_as_objects(api: Api) -> None:
    rows = {"instances": [{"a": [1, 2], "b": [3, 4]}, {"b": [1, 1], "a": [0, 0]}]}
    assert predict(api, "two", rows) == (200, {"predictions": [[4, 6], [1, 1]]})
    columns = {"inputs": {"b": [[1, 1]], "a": [[2, 2]], "stranger": 7}}
    assert predict(api, "two", columns) == (200, {"outputs": [[3, 3]]})


def test_one_input_may_be_named_too(api: Api) -> None:
    assert predict(api, "id", {"inputs": {"x": [[1, 2]]}}) == (200, {"outputs": [[1, 2]]})
    assert predict(api, "id", {"instances": [{"x": [1, 2]}]}) == (200, {"predictions": [[1, 2]]})


def test_several_outputs_come_as_objects(api: Api) -> None:
    assert predict(api, "outputs", {"instances": [[1, 2]]}) == (200, {"predictions": [{"same": [1, 2], "sum_bytes": 3}]})
    assert predict(api, "outputs", {"inputs": [[1, 2], [3, 4]]}) == (200, {"outputs": {"same": [[1, 2], [3, 4]], "sum_bytes": [10]}})


def test_outputs_that_cannot_be_split_into_rows_are_refused_as_tf_serving_does(api: Api) -> None:
    status, answer = predict(api, "outputs", {"instances": [[1, 2], [3, 4]]})

    assert status == 400
    assert "inconsistent batch size: 1 expecting: 2" in answer["error"]  # type: ignore[index,call-overload]


def test_whole_floats_print_with_a_point_and_others_as_short_as_they_round_trip(api: Api) -> None:
    answer = api.ask("POST", "/v1/models/id:predict", b'{"instances": [[1, 0.1], [16777216, -0.0]]}')

    assert answer.body == b'{"predictions":[[1.0,0.1],[16777216.0,-0.0]]}'


def test_nan_and_infinity_are_taken_and_given_back_as_words(api: Api) -> None:
    answer = api.ask("POST", "/v1/models/id:predict", b'{"instances": [[NaN, 1], [Infinity, -Infinity]]}')

    assert (answer.status, answer.body) == (200, b'{"predictions":[[NaN,1.0],[Infinity,-Infinity]]}')


def test_nan_made_by_the_model_is_written_as_a_word(api: Api) -> None:
    answer = api.ask("POST", "/v1/models/log:predict", b'{"inputs": [[-1, 0]]}')

    assert answer.body == b'{"outputs":[[NaN,-Infinity]]}'


def test_nan_in_one_of_several_outputs_is_written_as_a_word(api: Api) -> None:
    answer = api.ask("POST", "/v1/models/outputs:predict", b'{"instances": [[NaN, 0]]}')

    assert answer.body == b'{"predictions":[{"same":[NaN,0.0],"sum_bytes":NaN}]}'


def test_strings_and_base64_reach_the_model_as_bytes(api: Api) -> None:
    encoded = base64.b64encode("né\0".encode()).decode()

    assert predict(api, "text", {"instances": [['q"uote', {"b64": encoded}]]}) == (200, {"predictions": [['q"uote', "né\0"]]})
    assert api_request(api).inputs["x"].tolist() == [[b'q"uote', "né\0".encode()]]


def api_request(api: Api):  # type: ignore[no-untyped-def]
    plane = api.plane
    assert isinstance(plane, HonestPlane)
    return plane.requests[-1]


def test_outputs_named_bytes_come_back_as_base64() -> None:
    array = np.array([b"\xff", "a"], dtype=object)

    assert json.loads(tfserving_answer.encode(response(y_bytes=array), tfserving_answer.Form.ROWS)) == {
        "predictions": [{"b64": "/w=="}, {"b64": "YQ=="}]
    }
    # No text: base64 all the same, for a body that is no JSON helps nobody.
    assert json.loads(tfserving_answer.encode(response(y=array), tfserving_answer.Form.ROWS)) == {"predictions": [{"b64": "/w=="}, "a"]}


def response(**outputs: np.ndarray):  # type: ignore[no-untyped-def]
    from towline.core.inference import Response

    return Response(outputs, "m", 1)


def test_a_string_that_says_null_is_not_taken_for_nan() -> None:
    outputs = {"a": np.array(["null"], dtype=object), "b": np.array([np.nan], np.float32)}

    assert tfserving_answer.encode(response(**outputs), tfserving_answer.Form.ROWS) == b'{"predictions":[{"a":"null","b":NaN}]}'


def test_an_output_without_dims_cannot_be_a_row() -> None:
    with pytest.raises(TowlineError, match="Tensor name: y has no shape information"):
        tfserving_answer.encode(response(y=np.array(1.0, np.float32)), tfserving_answer.Form.ROWS)
    assert tfserving_answer.encode(response(y=np.array(1.5, np.float32)), tfserving_answer.Form.COLUMNS) == b'{"outputs":1.5}'


def test_what_follows_the_object_is_ignored(api: Api) -> None:
    assert api.ask("POST", "/v1/models/id:predict", b'{"instances": [[1, 2]]} and more').status == 200


def test_strangers_beside_the_instances_are_ignored(api: Api) -> None:
    assert predict(api, "id", {"instances": [[1, 2]], "user": "me", "n": {"a": 1}})[0] == 200


def test_any_content_type_will_do(api: Api) -> None:
    for content_type in ("text/plain", "application/x-www-form-urlencoded", "application/json;charset=utf-7"):
        assert predict(api, "id", {"instances": [[1, 2]]}, **{"Content-Type": content_type})[0] == 200


def test_a_signature_may_be_named(api: Api) -> None:
    assert predict(api, "id", {"signature_name": "serving_default", "instances": [[1, 2]]})[0] == 200
    assert predict(api, "id", {"signature_name": "", "instances": [[1, 2]]})[0] == 200


def test_another_signature_decodes_by_its_own_types() -> None:
    served = version("m", tiny_models.identity())
    other = Signature((TensorSpec("n", "int64", ("N",)),), ())
    served.manifest.signatures["other"] = other
    codec = tfserving_body.codec_for(served, Limits())

    quick, _ = codec.decode(b'{"signature_name": "other", "inputs": [9007199254740993]}')
    slow, _ = codec.decode(b'{"signature_name": "other", "inputs": {"n": [7]}, "x": 1}')

    assert (quick.inputs["n"].tolist(), slow.inputs["n"].tolist()) == ([9007199254740993], [7])
    assert quick.inputs["n"].dtype == np.int64


def test_gzip_bodies_are_taken(api: Api) -> None:
    assert predict(api, "id", gzip.compress(b'{"instances": [[1, 2]]}'), **{"Content-Encoding": "gzip"})[0] == 200


def test_paths_are_matched_without_case_and_names_percent_decoded(api: Api) -> None:
    assert api.ask("POST", "/V1/MODELS/id:PREDICT", b'{"instances": [[1, 2]]}').status == 200
    assert api.ask("POST", "/v1/models/%69d:predict", b'{"instances": [[1, 2]]}').status == 200


def test_versions_and_labels_choose(api: Api) -> None:
    body = json.dumps({"instances": [[1] * 10]}).encode()
    first, third, stable, latest = (
        api.ask("POST", f"/v1/models/m{which}:predict", body).body for which in ("/versions/1", "/versions/3", "/labels/stable", "")
    )

    assert (first == stable, third == latest, first == third) == (True, True, False)


def test_the_callers_deadline_reaches_the_request(api: Api) -> None:
    predict(api, "id", {"instances": [[1, 2]]}, **{"X-Request-Timeout-Ms": "250"})

    assert api_request(api).deadline == 100.25


def test_rows_count_the_batch_and_are_one_where_there_is_none(api: Api) -> None:
    predict(api, "id", {"instances": [[1, 2]] * 5})
    assert api_request(api).rows == 5
    predict(api, "fixed", {"inputs": [[1, 2, 3, 4]]})
    assert api_request(api).rows == 1
    predict(api, "ids", {"instances": [0, 1, 2]})
    assert api_request(api).rows == 3


def test_status_lists_versions_as_strings_newest_first(api: Api) -> None:
    answer = json.loads(api.ask("GET", "/v1/models/m").body)
    ok = {"error_code": "OK", "error_message": ""}

    assert answer == {"model_version_status": [{"version": v, "state": "AVAILABLE", "status": ok} for v in ("3", "1")]}
    for which in ("/versions/1", "/labels/stable"):
        assert json.loads(api.ask("GET", f"/v1/models/m{which}").body) == {"model_version_status": answer["model_version_status"][1:]}


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        ("/v1/models", 400, "Missing model name in request."),
        ("/v1/models/nobody", 404, "Could not find any versions of model nobody"),
        ("/v1/models/m/versions/2", 404, "Could not find version 2 of model m"),
        ("/v1/models/nobody/metadata", 404, "Servable not found for request: Latest(nobody)"),
        ("/v1/elsewhere", 404, "Malformed request: GET /v1/elsewhere"),
    ],
)
def test_questions_without_an_answer_say_so_in_tf_servings_words(api: Api, path: str, status: int, message: str) -> None:
    answer = api.ask("GET", path)

    assert (answer.status, json.loads(answer.body)["error"]) == (status, message)


def test_metadata_is_doubled_and_spelled_as_proto3_json(api: Api) -> None:
    answer = json.loads(api.ask("GET", "/v1/models/m/versions/1/metadata").body)

    def info(name: str) -> object:
        dims = [{"size": "-1", "name": ""}, {"size": "10", "name": ""}]
        return {"dtype": "DT_FLOAT", "tensor_shape": {"dim": dims, "unknown_rank": False}, "name": name}

    assert answer["model_spec"] == {"name": "m", "signature_name": "", "version": "1"}
    assert answer["metadata"]["signature_def"]["signature_def"] == {
        "serving_default": {"inputs": {"x": info("x")}, "outputs": {"y": info("y")}, "method_name": "tensorflow/serving/predict"}
    }


@pytest.mark.parametrize(
    ("refusal", "status", "retry_after"),
    [
        (Overloaded("Full.", retry_after_s=1.2), 429, b"2"),
        (TowlineError("Later.", kind=Kind.UNAVAILABLE), 503, b"1"),
        (DeadlineExceeded("Too late."), 504, None),
        (EngineError("It broke."), 500, None),
        (TowlineError("No room.", kind=Kind.OUT_OF_MEMORY), 507, None),
    ],
)
def test_what_the_data_plane_refuses_has_tf_servings_code(
    api: Api, plane: HonestPlane, refusal: TowlineError, status: int, retry_after: bytes | None
) -> None:
    plane.refusal = refusal
    answer = api.ask("POST", "/v1/models/id:predict", b'{"instances": [[1, 2]]}')

    assert (answer.status, dict(answer.headers).get(b"retry-after")) == (status, retry_after)
    assert json.loads(answer.body)["error"] == refusal.message


@pytest.mark.parametrize(
    ("ending", "most"),
    [(b"[1,2]]", 1), (b"[1,2,3]]", 1), (b'["x",2]]', 2), (b"[x]]", 1), (b"[1,2]", 1), (b'{"x":[1,2]}]', 2)],
    ids=["right", "ragged", "wrong type", "no JSON", "cut off", "a row by name"],
)
def test_a_large_body_is_read_whole_by_one_decoder_at_most(ending: bytes, most: int) -> None:
    """What is wrong is at its end: each decoder that gets there has held up every other client for as long as it took.

    The one for rows by name stops at the first row.
    """
    served = version("id", tiny_models.identity())
    codec = tfserving_body.PredictCodec(served, Limits(max_batch=1 << 20), "")
    codec._floats = None
    passes = []

    def counted(decode: Callable[[bytes], Any] | None) -> Callable[[bytes], Any]:
        assert decode is not None

        def count(body: bytes) -> Any:
            passes.append(decode)
            return decode(body)

        return count

    codec._plain, codec._named = counted(codec._plain), counted(codec._named)
    body = b'{"instances":[' + b"[1.0,2.0]," * 150_000 + ending + b"}"
    assert len(body) > json_codec.LARGE_BYTES
    with contextlib.suppress(TowlineError):
        codec.decode(body)

    assert sum(decode is passes[0] for decode in passes) == 1
    assert len(passes) <= most
