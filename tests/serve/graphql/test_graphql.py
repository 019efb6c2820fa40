"""/graphql on a real server: what is served, predictions, refusals that run nothing, and the rules of GraphQL over HTTP."""

from __future__ import annotations

import base64
import json
import re
import struct
from http.client import HTTPConnection
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from gql import Client, gql
from gql.transport.exceptions import TransportQueryError
from gql.transport.requests import RequestsHTTPTransport
from graphql_asking import GRAPHQL, JSON, Ask

from towline.testing import tiny_models
from towline.testing.server import RunningServer

PREDICT = (
    "mutation($in: [TensorInput!]!, $m: String!)"
    " { predict(model: $m, inputs: $in) { model version outputs { name shape datatype data b64 } } }"
)


def predicted(answer: tuple[int, Any]) -> dict[str, Any]:
    status, body = answer
    assert (status, body.get("errors")) == (200, None), body
    (output,) = body["data"]["predict"]["outputs"]
    return dict(output)


def refusal(answer: tuple[int, Any]) -> tuple[int, str]:
    status, body = answer
    assert "data" not in body or status == 200
    return status, body["errors"][0]["extensions"]["code"]


def requests_of(ask: Ask, model: str) -> int:
    status, body = ask("query($m: String!) { model(name: $m) { versions { metrics { requests } } } }", m=model)
    assert status == 200
    return int(body["data"]["model"]["versions"][0]["metrics"]["requests"])


def test_what_is_served_is_told(ask: Ask) -> None:
    status, body = ask(
        "{ health { live ready } models { name ready versions { number state error digest engine batchable parameters"
        " labels inputs { name datatype shape } outputs { name datatype shape } } }"
        " deployments { name versions default labels { name version } } }"
    )

    assert status == 200
    assert body["data"]["health"] == {"live": True, "ready": True}
    assert [model["name"] for model in body["data"]["models"]] == ["m", "slow", "text", "whole"]
    (version,) = body["data"]["models"][0]["versions"]
    assert version.pop("digest").startswith("sha256:")
    tensor = {"datatype": "FP32", "shape": [-1, 2]}
    assert version == {
        "number": 1, "state": "AVAILABLE", "error": "", "engine": "onnxruntime", "batchable": True, "parameters": 0, "labels": [],
        "inputs": [{"name": "x", **tensor}], "outputs": [{"name": "y", **tensor}],
    }  # fmt: skip
    assert body["data"]["deployments"][0] == {"name": "m", "versions": [1], "default": 1, "labels": []}
    assert ask('{ model(name: "nope") { name } }') == (200, {"data": {"model": None}})


def test_a_tensor_comes_as_lists_flat_lists_or_bytes_and_goes_back_as_both(ask: Ask) -> None:
    raw = np.array([[1, 2], [3, 4.5]], "<f4").tobytes()
    forms: list[dict[str, Any]] = [
        {"name": "x", "data": [[1, 2], [3, 4.5]]},
        {"name": "x", "data": [1, 2, 3, 4.5], "shape": [2, 2], "datatype": "FP32"},
        {"name": "x", "b64": base64.b64encode(raw).decode(), "shape": [2, 2]},
    ]
    for form in forms:
        output = predicted(ask(PREDICT, m="m", **{"in": [form]}))
        assert output == {
            "name": "y", "shape": [2, 2], "datatype": "FP32", "data": [1.0, 2.0, 3.0, 4.5], "b64": base64.b64encode(raw).decode(),
        }  # fmt: skip


def test_text_whole_numbers_and_what_json_cannot_say_survive(ask: Ask) -> None:
    assert predicted(ask(PREDICT, m="text", **{"in": [{"name": "x", "data": ["a", "中"]}]}))["data"] == ["a", "中"]
    large = (1 << 63) - 1
    assert predicted(ask(PREDICT, m="whole", **{"in": [{"name": "x", "data": [large, -1]}]}))["data"] == [large, -1]
    nan = struct.pack("<2f", float("nan"), float("inf"))
    output = predicted(ask(PREDICT, m="m", **{"in": [{"name": "x", "b64": base64.b64encode(nan).decode(), "shape": [1, 2]}]}))
    assert output["data"] == [None, None]
    assert base64.b64decode(output["b64"]) == nan


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ('inputs: [{name: "x", data: [[1, NaN]]}]', "`data`"),
        ('inputs: [{name: "x", data: [[1, 1e400]]}]', "`data`"),
        ('inputs: [{name: "x", data: [[1, 99999999999999999999]]}]', "`data`"),
        ('inputs: [{name: "x", data: [[1, null]]}]', "`data`"),
        ('inputs: [{name: "x", data: {a: 1}}]', "`data`"),
        ('inputs: [{name: "x", shape: [3000000000], data: 1}]', "3000000000"),
        ("inputs: [{data: 1}]", "'TensorInput.name' of required type"),
        ("inputs: null", "[TensorInput!]!"),
        ('inputs: [{name: "x", data: 1}], version: 99999999999', "99999999999"),
        ('inputs: [{name: "x", data: 1}], version: "1"', '"1"'),
        ('inputs: [{name: "x", data: 1}], nope: 1', "'nope'"),
    ],
)
def test_an_argument_that_does_not_fit_is_400_and_named_and_nothing_runs(ask: Ask, argument: str, words: str) -> None:
    before = requests_of(ask, "m")
    status, body = ask(f'mutation {{ predict(model: "m", {argument}) {{ model }} }}')

    assert status == 400
    assert words in body["errors"][0]["message"]
    assert "data" not in body
    assert requests_of(ask, "m") == before


def test_variables_that_do_not_fit_are_400_too(ask: Ask) -> None:
    for value in (None, [{"name": "x", "data": {"a": 1}}], [{"name": "x", "data": [[1, None]]}], [{"name": 5, "data": 1}]):
        status, body = ask(PREDICT, m="m", **{"in": value})
        assert (status, "data" in body) == (400, False)


@pytest.mark.parametrize(
    ("model", "tensor", "code"),
    [
        ("nope", {"name": "x", "data": [[1, 2]]}, "MODEL_NOT_FOUND"),
        ("m", {"name": "y", "data": [[1, 2]]}, "UNKNOWN_INPUT"),
        ("m", {"name": "x", "data": [[1, 2, 3]]}, "SHAPE_MISMATCH"),
        ("m", {"name": "x", "data": [[1, 2], [3]]}, "RAGGED"),
        ("m", {"name": "x", "datatype": "INT64", "data": [[1, 2]]}, "DATATYPE_MISMATCH"),
        ("m", {"name": "x", "shape": [1, 2]}, "BAD_INPUT"),
        ("m", {"name": "x", "b64": "AAAA", "data": 1}, "BAD_INPUT"),
        ("m", {"name": "x", "b64": "AAAA"}, "BAD_INPUT"),
        ("m", {"name": "x", "b64": "*", "shape": [1, 2]}, "BAD_BASE64"),
        ("m", {"name": "x", "b64": "AAAA", "shape": [1, 2]}, "WRONG_SIZE"),
    ],
)
def test_what_the_model_does_not_take_is_an_error_of_the_field(ask: Ask, model: str, tensor: dict[str, Any], code: str) -> None:
    status, body = ask(PREDICT, m=model, **{"in": [tensor]})

    assert (status, body["data"], body["errors"][0]["path"]) == (200, None, ["predict"])
    assert body["errors"][0]["extensions"]["code"] == code


def test_several_predictions_of_one_request_each_succeed_or_fail(ask: Ask) -> None:
    good, bad = 'inputs: [{name: "x", data: [[1, 2]]}]', 'inputs: [{name: "z", data: [[1, 2]]}]'
    status, body = ask(
        f'mutation {{ a: predict(model: "m", {good}) {{ model }} b: predict(model: "m", {good}, version: 1) {{ version }} }}'
    )
    assert (status, body) == (200, {"data": {"a": {"model": "m"}, "b": {"version": 1}}})
    status, body = ask(f'mutation {{ a: predict(model: "m", {bad}) {{ model }} }}')
    assert body["errors"][0]["path"] == ["a"]


@pytest.mark.parametrize(
    ("document", "code"),
    [
        ("{ " + " ".join(f"a{index}: health {{ live }}" for index in range(17)) + " }", "TOO_MANY_ALIASES"),
        ("{ models " + "{ versions " * 8 + "{ number }" + " }" * 9, "TOO_DEEP"),
        ("{ health { " + "live " * 1001 + "} }", "BAD_DOCUMENT"),
        ("{ health { live " + "@skip(if: true) " * 500 + "} }", "BAD_DOCUMENT"),
        ("fragment A on Query { ...B } fragment B on Query { ...A } { ...A }", "FRAGMENT_CYCLE"),
        ("[" * 3000, "BAD_DOCUMENT"),
        ("{ health { live", "BAD_DOCUMENT"),
        ("", "BAD_DOCUMENT"),
        ("subscription { x }", "UNSUPPORTED"),
        ("query a { health { live } } query b { health { live } }", "WHICH_OPERATION"),
    ],
)
def test_a_document_beyond_the_limits_is_400_and_runs_nothing_and_fills_no_log(
    server: RunningServer, ask: Ask, document: str, code: str
) -> None:
    before = len(server.log())

    assert refusal(ask(document)) == (400, code)
    assert len(server.log()) - before <= 1024


def test_a_body_over_32_kib_is_refused_unread(server: RunningServer) -> None:
    body = json.dumps({"query": "{ health { live } } #" + "x" * (32 << 10)}).encode()
    status, raw = server.post("/graphql", body, {"content-type": JSON})

    assert status == 413
    assert json.loads(raw)["errors"][0]["extensions"]["code"] == "BODY_TOO_LARGE"


def test_get_asks_and_changes_nothing(server: RunningServer) -> None:
    status, body = server.get(
        f"/graphql?query={quote('query($n: String!) { model(name: $n) { name } }')}&variables={quote(json.dumps({'n': 'm'}))}"
    )
    assert (status, json.loads(body)) == (200, {"data": {"model": {"name": "m"}}})
    mutation = quote('mutation { predict(model: "m", inputs: []) { model } }')
    assert server.get(f"/graphql?query={mutation}")[0] == 405
    assert server.get("/graphql?variables={}")[0] == 400
    assert server.get("/graphql?query=a&query=b")[0] == 400
    assert server.ask("PUT", "/graphql", b"{}")[0] == 405


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"query={health{live}}", {"content-type": "application/x-www-form-urlencoded"}, 415),
        (b"{health{live}}", {"content-type": "application/graphql"}, 415),
        (b'{"query": "{health{live}}"}', {"content-type": "multipart/form-data; boundary=x"}, 415),
        (b'{"query": "{health{live}}"}', {"content-type": "application/json; charset=latin-1"}, 415),
        (b'{"query": "{health{live}}"}', {}, 415),
        (b'{"query": "{health{live}}"}', {"content-type": JSON, "accept": "text/html"}, 406),
        (b"{", {"content-type": JSON}, 400),
        (b"[]", {"content-type": JSON}, 400),
        (b"{}", {"content-type": JSON}, 400),
        (b'{"query": 5}', {"content-type": JSON}, 400),
        (b'{"query": "{health{live}}", "variables": []}', {"content-type": JSON}, 400),
        (b'{"query": "{health{live}}", "operationName": 1}', {"content-type": JSON}, 400),
        (b'{"query": "{health{live}}", "extensions": 0}', {"content-type": JSON}, 400),
        (b'{"query": "{health{live}}", "variables": null, "operationName": null, "extensions": null}', {"content-type": JSON}, 200),
        (b'{"query": "{nope}"}', {"content-type": JSON, "accept": JSON}, 200),
        (b'{"query": "{nope}"}', {"content-type": JSON, "accept": GRAPHQL}, 400),
        (b'{"query": "{health{live}}"}', {"content-type": "application/json;charset=UTF-8", "accept": "*/*"}, 200),
    ],
)
def test_the_rules_of_graphql_over_http_are_kept(server: RunningServer, body: bytes, headers: dict[str, str], status: int) -> None:
    assert server.post("/graphql", body, headers)[0] == status


# It ends when nobody waits for it any more.
ENDLESS = f'[{{name: "rounds", data: [{tiny_models.INT64_MAX}]}}]'


def test_the_wait_is_the_callers_to_bound(ask: Ask) -> None:
    status, body = ask(f'mutation {{ predict(model: "slow", inputs: {ENDLESS}, timeoutMs: 1) {{ model }} }}')

    assert (status, body["errors"][0]["extensions"]["code"]) == (200, "DEADLINE_EXCEEDED")


def test_others_are_answered_while_a_slow_prediction_runs(server: RunningServer, ask: Ask) -> None:
    asked = json.dumps({"query": f'mutation {{ predict(model: "slow", inputs: {ENDLESS}) {{ model }} }}'})
    in_flight = re.compile(rb'^towline_inflight_requests{(?=[^}]*model="slow")(?=[^}]*protocol="graphql")[^}]*} 1(\.0)?$', re.MULTILINE)
    slow = HTTPConnection(server.host, server.port)
    slow.request("POST", "/graphql", asked, {"content-type": JSON, "accept": GRAPHQL})
    server.wait_until(lambda: in_flight.search(server.get("/metrics")[1]) is not None)

    for _ in range(3):
        assert ask("{ health { live } }")[0] == 200

    slow.close()
    server.wait_until(lambda: in_flight.search(server.get("/metrics")[1]) is None)


def test_a_client_of_a_stranger_works(server: RunningServer) -> None:
    # It fetches the schema first and checks every document against it.
    client = Client(transport=RequestsHTTPTransport(f"{server.url}/graphql"), fetch_schema_from_transport=True)
    document = gql(PREDICT)
    document.variable_values = {"m": "m", "in": [{"name": "x", "data": [[1, 2]]}]}
    assert client.execute(document)["predict"]["outputs"][0]["data"] == [1.0, 2.0]
    document.variable_values["m"] = "nope"
    with pytest.raises(TransportQueryError, match="no model 'nope'"):
        client.execute(document)
