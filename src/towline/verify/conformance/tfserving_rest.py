"""TensorFlow Serving's REST API, as its handler's source has it."""

from __future__ import annotations

import gzip
import json
from typing import Any

from towline.verify.conformance.checks import Suite, expect, expect_equal
from towline.verify.conformance.target import HALVES, Answer, Target

SUITE = Suite("tfserving-rest")
MODEL = f"/v1/models/{HALVES}"
_ROWS = [[2.5, 3.0], [3.5, 4.5]]
_COLUMN = {"inputs": {"x": [[1, 2], [3, 5]]}}
_ROW = {"instances": [[1, 2], [3, 5]]}


def absent(target: Target) -> str:
    """Why a server cannot be asked; empty when it can."""
    answers = (target.get(MODEL), target.get(f"{MODEL}/metadata"), target.post(f"{MODEL}:predict", _ROW))
    return "the server has nothing under /v1/models" if all(answer.status == 404 for answer in answers) else ""


def _good(answer: Answer) -> Any:
    expect(answer.status == 200, "200", f"{answer.status} {answer.body[:200]!r}")
    return answer.json()


def _error(answer: Answer, *statuses: int) -> None:
    expect(answer.status in statuses, f"status {' or '.join(map(str, statuses))}", f"{answer.status} {answer.body[:200]!r}")
    found = answer.json()
    expect(isinstance(found, dict) and isinstance(found.get("error"), str) and found["error"], '{"error": "words"}', answer.body[:200])


@SUITE.must("row", "instances in row form are answered as predictions.")
def _row(target: Target) -> None:
    expect_equal(_good(target.post(f"{MODEL}:predict", _ROW)), {"predictions": _ROWS})


@SUITE.must("named-rows", "A row may name its input.")
def _named(target: Target) -> None:
    expect_equal(_good(target.post(f"{MODEL}:predict", {"instances": [{"x": [1, 2]}, {"x": [3, 5]}]})), {"predictions": _ROWS})


@SUITE.must("column", "inputs in column form are answered as outputs; a single output is bare.")
def _column(target: Target) -> None:
    expect_equal(_good(target.post(f"{MODEL}:predict", _COLUMN)), {"outputs": _ROWS})
    expect_equal(_good(target.post(f"{MODEL}:predict", {"inputs": [[1, 2], [3, 5]]})), {"outputs": _ROWS})


@SUITE.must("signature-name", "The default signature may be named.")
def _signature(target: Target) -> None:
    expect_equal(_good(target.post(f"{MODEL}:predict", {"signature_name": "serving_default", **_ROW})), {"predictions": _ROWS})


@SUITE.must("no-content-type", "A form's content type, which curl -d sends, is no obstacle.")
def _form(target: Target) -> None:
    body = json.dumps(_ROW).encode()
    _good(target.ask("POST", f"{MODEL}:predict", body, {"content-type": "application/x-www-form-urlencoded"}))


@SUITE.must("gzip", "A body in gzip is read.")
def _gzip(target: Target) -> None:
    body = gzip.compress(json.dumps(_ROW).encode())
    expect_equal(_good(target.ask("POST", f"{MODEL}:predict", body, {"content-encoding": "gzip"})), {"predictions": _ROWS})


@SUITE.must("whole-numbers-are-floats", "A float output that is whole is written with its point.")
def _floats(target: Target) -> None:
    answer = target.post(f"{MODEL}:predict", {"instances": [[2, 4]]})
    expect(b"3.0" in answer.body and b"4.0" in answer.body, "3.0 and 4.0", answer.body[:200])


@SUITE.must("non-finite", "NaN, Infinity and -Infinity are taken and given as bare words.")
def _non_finite(target: Target) -> None:
    answer = target.ask("POST", f"{MODEL}:predict", b'{"instances": [[NaN, Infinity], [-Infinity, 1]]}')
    expect(answer.status == 200, "200", f"{answer.status} {answer.body[:200]!r}")
    text = answer.body.replace(b" ", b"")
    expect(b"NaN" in text and b"Infinity" in text and b"-Infinity" in text, "NaN, Infinity, -Infinity", answer.body[:200])


@SUITE.must("after-the-object", "What follows the JSON object is ignored.")
def _trailing(target: Target) -> None:
    expect_equal(_good(target.ask("POST", f"{MODEL}:predict", json.dumps(_ROW).encode() + b" tail")), {"predictions": _ROWS})


@SUITE.must("status", "GET /v1/models/M tells versions, as text, and their states.")
def _status(target: Target) -> None:
    (version,) = _good(target.get(MODEL))["model_version_status"]
    expect(isinstance(version["version"], str), "a version as text", version["version"])
    expect_equal((version["state"], version["status"]), ("AVAILABLE", {"error_code": "OK", "error_message": ""}))


@SUITE.must("status-of-a-version", "A version's status is under /versions/N.")
def _status_of_version(target: Target) -> None:
    number = _good(target.get(MODEL))["model_version_status"][0]["version"]
    (version,) = _good(target.get(f"{MODEL}/versions/{number}"))["model_version_status"]
    expect_equal(version["version"], number)
    expect_equal(_good(target.post(f"{MODEL}/versions/{number}:predict", _ROW)), {"predictions": _ROWS})


@SUITE.must("metadata", "The signature is under metadata.signature_def.signature_def, dims as text.")
def _metadata(target: Target) -> None:
    found = _good(target.get(f"{MODEL}/metadata"))
    expect_equal(found["model_spec"]["name"], HALVES)
    signature = found["metadata"]["signature_def"]["signature_def"]["serving_default"]
    x = signature["inputs"]["x"]
    expect_equal((x["dtype"], [dim["size"] for dim in x["tensor_shape"]["dim"]]), ("DT_FLOAT", ["-1", "2"]))
    expect_equal(list(signature["outputs"]), ["y"])


@SUITE.must("path-without-case", "Paths are found whatever the case of their fixed words.")
def _case(target: Target) -> None:
    expect_equal(_good(target.post(f"/V1/Models/{HALVES}:Predict", _ROW)), {"predictions": _ROWS})


@SUITE.must("unknown-model", "A model that is not there is 404 with words, for predict and status alike.")
def _unknown(target: Target) -> None:
    _error(target.post("/v1/models/no_such_model:predict", _ROW), 404)
    _error(target.get("/v1/models/no_such_model"), 404)


@SUITE.must("unknown-version", "A version that is not there is 404 with words.")
def _unknown_version(target: Target) -> None:
    _error(target.post(f"{MODEL}/versions/987654:predict", _ROW), 404)


@SUITE.must("unknown-signature", "A signature that is not there is 400 with words.")
def _unknown_signature(target: Target) -> None:
    _error(target.post(f"{MODEL}:predict", {"signature_name": "nope", **_ROW}), 400)


@SUITE.must("no-model-name", "GET /v1/models is 400: models cannot be listed.")
def _no_name(target: Target) -> None:
    _error(target.get("/v1/models"), 400)


@SUITE.must("wrong-verb", "The right path with a wrong verb is 400, `Malformed request`.")
def _verb(target: Target) -> None:
    answer = target.get(f"{MODEL}:predict")
    _error(answer, 400)
    expect("Malformed request" in answer.json()["error"], "Malformed request", answer.json()["error"])


_BAD: dict[str, tuple[str, bytes]] = {
    "both-forms": ("instances and inputs together are 400.", b'{"instances": [[1, 2]], "inputs": [[1, 2]]}'),
    "neither-form": ("Neither instances nor inputs is 400.", b"{}"),
    "no-rows": ("An empty list of instances is 400.", b'{"instances": []}'),
    "ragged": ("Rows of unequal shape are 400.", b'{"instances": [[1, 2], [3]]}'),
    "wrong-shape": ("Rows of another shape than the signature's are 400.", b'{"instances": [[1, 2, 3]]}'),
    "words-for-numbers": ("Text where numbers belong is 400.", b'{"instances": [["a", "b"]]}'),
    "unknown-input": ("An input that the signature does not have is 400.", b'{"instances": [{"nope": [1, 2]}]}'),
    "no-object": ("A body that is no object is 400.", b"[1, 2]"),
    "no-json": ("A body that is no JSON is 400.", b'{"instances": [[1, 2'),
}


def _refusing(body: bytes) -> Any:
    return lambda target: _error(target.ask("POST", f"{MODEL}:predict", body), 400)


for _name, (_words, _body) in _BAD.items():
    SUITE.must(_name, _words)(_refusing(_body))
