"""Open Inference Protocol REST: JSON and binary tensors in and out, as KServe's, Triton's and MLServer's clients send them."""

from __future__ import annotations

import gzip
import json
import zlib

import msgspec
import numpy as np
import pytest
import tritonclient.http as triton
from bad_inputs import sized, tensor
from plane import Api, HonestPlane, version

from towline.core.errors import Kind, Overloaded, TowlineError
from towline.core.manifest import Signature, TensorSpec
from towline.serve.codecs.check import Limits
from towline.serve.contract import HttpRequest, HttpResponse
from towline.serve.protocols import openinference
from towline.serve.protocols.table import RouteTable
from towline.testing import tiny_models

LABELS = tuple(f"digit {n}" for n in range(10))


@pytest.fixture
def plane() -> HonestPlane:
    kinds = ("float32", "float64", "float16", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool", "string")
    return HonestPlane(
        version("m", tiny_models.identity()),
        version("m", tiny_models.identity(), number=3),
        version("two", tiny_models.add_two()),
        version("mlp", tiny_models.mlp(), labels=LABELS),
        version("log", tiny_models.logarithm()),
        version("line", tiny_models.identity("float32", ("N", "L"))),
        version("letter", tiny_models.identity("string", ("N",))),
        version("fixed", tiny_models.fixed_shape()),
        *(version(f"id_{kind}", tiny_models.identity(kind)) for kind in kinds),
    )


@pytest.fixture
def api(plane: HonestPlane) -> Api:
    return Api(plane)


def infer(api: Api, body: dict[str, object], *, model: str = "m", tail: bytes = b"", **headers: str):  # type: ignore[no-untyped-def]
    raw = json.dumps(body).encode()
    if tail:
        headers["Inference-Header-Content-Length"] = str(len(raw))
    return api.ask("POST", f"/v2/models/{model}/infer", raw + tail, headers)


def ask_with_tritonclient(api: Api, model: str, inputs: list[triton.InferInput], **options: object) -> triton.InferResult:
    """Through tritonclient's own encoder and decoder, at its defaults unless told."""
    body, header_length = triton.InferenceServerClient.generate_request_body(inputs, **options)
    headers = {} if header_length is None else {"Inference-Header-Content-Length": str(header_length)}
    answer = api.ask("POST", f"/v2/models/{model}/infer", body, headers)
    assert answer.status == 200, answer.body
    given = dict(answer.headers).get(b"inference-header-content-length")
    return triton.InferenceServerClient.parse_response_body(answer.body, header_length=None if given is None else int(given))


def given(name: str, array: np.ndarray, datatype: str, *, binary: bool = True) -> triton.InferInput:
    item = triton.InferInput(name, list(array.shape), datatype)
    item.set_data_from_numpy(array, binary_data=binary)
    return item


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize(
    ("kind", "datatype"),
    [
        ("float32", "FP32"),
        ("float64", "FP64"),
        ("int8", "INT8"),
        ("int16", "INT16"),
        ("int32", "INT32"),
        ("int64", "INT64"),
        ("uint8", "UINT8"),
        ("uint16", "UINT16"),
        ("uint32", "UINT32"),
        ("uint64", "UINT64"),
        ("bool", "BOOL"),
    ],
)
def test_tritonclient_gets_back_what_it_sent(api: Api, kind: str, datatype: str, binary: bool) -> None:
    array = np.array([[0, 1], [1, 0], [1, 1]]).astype(kind)
    outputs = None if binary else [triton.InferRequestedOutput("y", binary_data=False)]

    result = ask_with_tritonclient(api, f"id_{kind}", [given("x", array, datatype, binary=binary)], outputs=outputs)

    np.testing.assert_array_equal(result.as_numpy("y"), array)
    assert result.as_numpy("y").dtype == array.dtype


def test_tritonclient_sends_halves_and_strings(api: Api) -> None:
    halves = np.array([[0.1, 65504]], np.float16)
    np.testing.assert_array_equal(ask_with_tritonclient(api, "id_float16", [given("x", halves, "FP16")]).as_numpy("y"), halves)
    texts = np.array([[b"a\0b", "né".encode()]], dtype=object)
    for binary in (True, False):
        result = ask_with_tritonclient(api, "id_string", [given("x", texts, "BYTES", binary=binary)])
        np.testing.assert_array_equal(result.as_numpy("y"), texts)


def test_the_id_is_echoed_and_the_version_named(api: Api) -> None:
    result = ask_with_tritonclient(api, "m", [given("x", np.ones((1, 2), np.float32), "FP32")], request_id="r-1")

    assert {key: result.get_response()[key] for key in ("id", "model_name", "model_version")} == {
        "id": "r-1",
        "model_name": "m",
        "model_version": "3",
    }
    assert "id" not in json.loads(infer(api, {"inputs": [tensor()]}).body)


def test_nested_and_flat_data_are_the_same(api: Api) -> None:
    bodies = [infer(api, {"inputs": [tensor(shape=[2, 2], data=data)]}).body for data in ([[1, 2], [3, 4]], [1, 2, 3, 4])]

    assert bodies[0] == bodies[1]
    assert json.loads(bodies[0])["outputs"] == [{"name": "y", "datatype": "FP32", "shape": [2, 2], "data": [1, 2, 3, 4]}]


def test_json_and_binary_tensors_may_be_mixed(api: Api) -> None:
    b = np.array([[10, 20]], "<f4")
    body = {"inputs": [tensor("b", data=None, parameters={"binary_data_size": 8}), tensor("a")]}

    assert json.loads(infer(api, body, model="two", tail=b.tobytes()).body)["outputs"][0]["data"] == [11, 22]


def test_an_outputs_own_wish_wins_over_the_requests(api: Api) -> None:
    wish = [{"name": "y", "parameters": {"binary_data": False}}]
    answer = infer(api, {"inputs": [tensor()], "outputs": wish, "parameters": {"binary_data_output": True}})

    assert answer.content_type == b"application/json"
    assert json.loads(answer.body)["outputs"][0]["data"] == [1, 2]


def test_binary_answers_say_how_long_their_json_is(api: Api) -> None:
    answer = infer(api, {"inputs": [tensor()], "parameters": {"binary_data_output": True}})
    size = int(dict(answer.headers)[b"inference-header-content-length"])

    assert answer.content_type == b"application/octet-stream"
    assert json.loads(answer.body[:size])["outputs"] == [
        {"name": "y", "datatype": "FP32", "shape": [1, 2], "parameters": {"binary_data_size": 8}}
    ]
    assert answer.body[size:] == np.array([1, 2], "<f4").tobytes()


def test_only_the_outputs_asked_for_are_computed(api: Api, plane: HonestPlane) -> None:
    infer(api, {"inputs": [tensor()], "outputs": [{"name": "y"}]})
    assert plane.requests[-1].outputs == ("y",)
    infer(api, {"inputs": [tensor()]})
    assert plane.requests[-1].outputs == ()


def test_priority_and_timeout_reach_the_request(api: Api, plane: HonestPlane) -> None:
    infer(api, {"inputs": [tensor()], "parameters": {"priority": 2, "timeout": 1_500_000, "anything": ["else"]}})
    assert (plane.requests[-1].priority, plane.requests[-1].deadline) == (2, 101.5)
    infer(api, {"inputs": [tensor()], "parameters": {"timeout": 1_500_000}}, **{"X-Request-Timeout-Ms": "1000"})
    assert plane.requests[-1].deadline == 101.0


def test_null_members_count_as_left_out(api: Api) -> None:
    body = {"id": None, "parameters": None, "outputs": None, "inputs": [tensor() | {"parameters": None}]}

    assert infer(api, body).status == 200


def test_an_input_may_be_called_as_a_key_of_the_protocol_is() -> None:
    served = version("odd", tiny_models.identity())
    odd = Signature((TensorSpec("inputs", "float32", ("N", 2)),), served.manifest.signature.outputs)
    served.manifest = msgspec.structs.replace(served.manifest, signatures={"serving_default": odd})
    plane = HonestPlane(served)
    plane.refusal = TowlineError("reached", kind=Kind.UNSUPPORTED)

    assert infer(Api(plane), {"inputs": [tensor("inputs")], "parameters": {"data": "shape"}}, model="odd").status == 501


@pytest.mark.parametrize(
    ("model", "body", "shape"),
    [("m", np.array([1, 2], "<f4").tobytes(), [1, 2]), ("line", np.arange(5, dtype="<f4").tobytes(), [1, 5]), ("fixed", bytes(16), [1, 4])],
)
def test_a_header_length_of_zero_makes_the_whole_body_the_one_input(api: Api, model: str, body: bytes, shape: list[int]) -> None:
    answer = api.ask("POST", f"/v2/models/{model}/infer", body, {"Inference-Header-Content-Length": "0"})
    size = int(dict(answer.headers)[b"inference-header-content-length"])

    assert json.loads(answer.body[:size])["outputs"][0]["shape"] == shape
    assert answer.body[size:] == body


def test_a_raw_body_is_one_string_without_a_length(api: Api) -> None:
    answer = api.ask("POST", "/v2/models/letter/infer", b"hello", {"Inference-Header-Content-Length": "0"})

    assert answer.body.endswith(b"\5\0\0\0hello")


def test_tensors_that_lie_askew_in_the_body_are_aligned_for_the_engine(api: Api, plane: HonestPlane) -> None:
    for pad in range(4):
        infer(api, sized(8) | {"id": "i" * pad}, tail=np.array([1, 2], "<f4").tobytes())
        array = plane.requests[-1].inputs["x"]
        assert array.flags.aligned
        assert array.flags.c_contiguous
        assert array.tolist() == [[1, 2]]


def test_nan_is_written_as_null_with_a_warning_in_json_and_as_it_is_in_binary(api: Api) -> None:
    negative = {"inputs": [tensor(data=[-1, 1])]}
    document = json.loads(infer(api, negative, model="log").body)
    assert document["outputs"][0]["data"] == [None, 0]
    assert "NaN" in document["parameters"]["warning"]

    binary = infer(api, negative | {"parameters": {"binary_data_output": True}}, model="log")
    assert np.isnan(np.frombuffer(binary.body[-8:], "<f4")[0])
    assert b"warning" not in binary.body


def test_the_best_classes_come_as_value_index_and_label(api: Api) -> None:
    x = np.random.default_rng(0).normal(size=(2, 10)).astype(np.float32)
    scores = ask_with_tritonclient(api, "mlp", [given("x", x, "FP32")]).as_numpy("y")

    wish = [triton.InferRequestedOutput("y", class_count=2)]
    best = ask_with_tritonclient(api, "mlp", [given("x", x, "FP32")], outputs=wish).as_numpy("y")

    assert best.shape == (2, 2)
    for row in range(2):
        first, second = np.argsort(-scores[row])[:2]
        assert best[row].tolist() == [f"{scores[row, index]:f}:{index}:digit {index}".encode() for index in (first, second)]


def test_more_classes_than_there_are_give_all_of_them(api: Api) -> None:
    body = {"inputs": [tensor(data=[1, 5])], "outputs": [{"name": "y", "parameters": {"classification": 9}}]}
    output = json.loads(infer(api, body).body)["outputs"][0]

    assert output == {"name": "y", "datatype": "BYTES", "shape": [1, 2], "data": ["5.000000:1", "1.000000:0"]}


@pytest.mark.parametrize(("coding", "undo"), [("gzip", gzip.decompress), ("deflate", zlib.decompress)])
def test_long_answers_are_compressed_when_asked_for(api: Api, coding: str, undo) -> None:  # type: ignore[no-untyped-def]
    body = {"inputs": [tensor(shape=[200, 2], data=[1] * 400)]}
    plain = infer(api, body)
    packed = infer(api, body, **{"Accept-Encoding": coding})

    assert dict(packed.headers)[b"content-encoding"] == coding.encode()
    assert undo(packed.body) == plain.body
    assert not plain.headers
    assert not infer(api, {"inputs": [tensor()]}, **{"Accept-Encoding": coding}).headers
    assert not infer(api, body, **{"Accept-Encoding": f"{coding};q=0, br"}).headers


def test_compressed_requests_count_their_json_before_compression(api: Api) -> None:
    head = json.dumps(sized(8)).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    for coding, pack in (("gzip", gzip.compress), ("deflate", zlib.compress)):
        packed = pack(head + np.array([1, 2], "<f4").tobytes())
        assert api.ask("POST", "/v2/models/m/infer", packed, headers | {"Content-Encoding": coding}).status == 200


def test_a_tensor_of_too_many_strings_is_refused_before_it_is_built() -> None:
    api = Api(HonestPlane(version("text", tiny_models.identity("string", ("N", "L")))), Limits(max_strings=1000))
    body = {"inputs": [tensor(shape=[1, 1001], datatype="BYTES", data=None, parameters={"binary_data_size": 4004})]}

    answer = infer(api, body, model="text", tail=bytes(4004))

    assert (answer.status, json.loads(answer.body)["code"]) == (413, "TOO_MANY_STRINGS")


def test_text_that_json_cannot_carry_is_refused_with_the_way_out(api: Api) -> None:
    # ONNX Runtime's own answer would already be text; the check is the encoder's.
    from towline.core.inference import Request, Response
    from towline.serve.protocols.openinference_request import Asked, Wanted
    from towline.serve.protocols.openinference_response import encode

    outputs = {"y": np.array([b"\xff"], dtype=object)}
    with pytest.raises(TowlineError, match="no UTF-8") as caught:
        encode(Response(outputs, "m", 1), Asked(Request({}), (Wanted("y"),), True), (), has_batch=True, accept_encoding=None)
    assert (caught.value.code, "binary_data_output" in caught.value.hint) == ("NOT_TEXT", True)


def test_metadata_tells_names_types_and_shapes(api: Api) -> None:
    assert json.loads(api.ask("GET", "/v2/models/m").body) == {
        "name": "m",
        "versions": ["3", "1"],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}],
    }
    assert api.ask("GET", "/v2/models/m/versions/1").status == 200
    assert json.loads(api.ask("GET", "/v2").body)["extensions"][0] == "binary_tensor_data"


def test_models_are_listed(api: Api) -> None:
    assert "log" in json.loads(api.ask("GET", "/v2/models").body)["models"]


def test_health_tells_by_its_status(api: Api, plane: HonestPlane) -> None:
    paths = ("/v2/health/live", "/v2/health/ready", "/v2/models/m/ready")
    assert [api.ask("GET", path).status for path in paths] == [200, 200, 200]
    plane.ready = False
    assert [api.ask("GET", path).status for path in paths] == [200, 400, 400]
    assert api.ask("GET", "/v2/models/nobody/ready").status == 404


def test_a_model_that_is_loading_says_when_to_come_back(api: Api, plane: HonestPlane) -> None:
    plane.ready = False
    answer = infer(api, {"inputs": [tensor()]})

    assert (answer.status, dict(answer.headers)[b"retry-after"]) == (503, b"3")


def test_a_full_queue_is_unavailable_as_triton_has_it(api: Api, plane: HonestPlane) -> None:
    plane.refusal = Overloaded("Full.")

    assert infer(api, {"inputs": [tensor()]}).status == 503


def test_health_may_be_told_by_the_status_alone_as_triton_does(plane: HonestPlane) -> None:
    table = RouteTable(openinference.routes(plane, Limits(), empty_health=True))

    def ask(path: str) -> HttpResponse:
        answers: list[HttpResponse] = []
        found = table.find(b"GET", path.encode())
        assert found.handler is not None
        found.handler(HttpRequest("GET", path), found.params, answers.append)
        return answers[0]

    paths = ("/v2/health/live", "/v2/health/ready", "/v2/models/m/ready")
    assert [(ask(path).status, ask(path).body) for path in paths] == [(200, b"")] * 3
    plane.ready = False
    assert [(ask(path).status, ask(path).body) for path in paths] == [(200, b""), (400, b""), (400, b"")]
