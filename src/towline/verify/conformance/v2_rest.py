"""Open Inference Protocol over REST, as the specification, Triton and KServe have it."""

from __future__ import annotations

import json
from typing import Any

from towline.verify.conformance.checks import Skipped, Suite, expect, expect_equal
from towline.verify.conformance.target import ECHO, HALVES, Answer, Target

SUITE = Suite("v2-rest")
INFER = f"/v2/models/{HALVES}/infer"
ROWS = [[1.0, 2.0], [3.0, 5.0]]
HALVED = [2.5, 3.0, 3.5, 4.5]


def tensor(data: Any = ROWS, shape: list[int] | None = None, datatype: str = "FP32", name: str = "x") -> dict[str, Any]:
    return {"name": name, "shape": shape or [2, 2], "datatype": datatype, "data": data}


def outputs_of(answer: Answer) -> list[dict[str, Any]]:
    expect(answer.status == 200, "200", f"{answer.status} {answer.body[:200]!r}")
    found = answer.json()
    expect(isinstance(found, dict) and isinstance(found.get("outputs"), list), "an object with outputs", answer.body[:200])
    return list(found["outputs"])


def expect_error(answer: Answer, *statuses: int) -> None:
    expect(answer.status in statuses, f"status {' or '.join(map(str, statuses))}", f"{answer.status} {answer.body[:200]!r}")
    found = answer.json()
    expect(isinstance(found, dict) and isinstance(found.get("error"), str) and found["error"], '{"error": "words"}', answer.body[:200])


@SUITE.must("server-live", "GET /v2/health/live is 200 while the server runs.")
def _live(target: Target) -> None:
    expect_equal(target.get("/v2/health/live").status, 200)


@SUITE.must("server-ready", "GET /v2/health/ready is 200 when models can be asked.")
def _ready(target: Target) -> None:
    expect_equal(target.get("/v2/health/ready").status, 200)


@SUITE.must("server-metadata", "GET /v2 tells name, version and extensions.")
def _server(target: Target) -> None:
    found = target.get("/v2").json()
    expect(isinstance(found, dict) and {"name", "version", "extensions"} <= found.keys(), "name, version, extensions", found)
    expect(isinstance(found["extensions"], list), "a list of extensions", found["extensions"])


@SUITE.must("model-ready", "GET /v2/models/M/ready is 200 for a model that answers.")
def _model_ready(target: Target) -> None:
    expect_equal(target.get(f"/v2/models/{HALVES}/ready").status, 200)


@SUITE.must("model-metadata", "GET /v2/models/M tells inputs and outputs with datatype and shape; a dim that varies is -1.")
def _model(target: Target) -> None:
    found = target.get(f"/v2/models/{HALVES}").json()
    expect(isinstance(found, dict) and found.get("name") == HALVES, f"name {HALVES}", found)
    expect_equal(
        [{key: one.get(key) for key in ("name", "datatype", "shape")} for one in found["inputs"]],
        [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}],
    )
    expect_equal([one.get("name") for one in found["outputs"]], ["y"])


def _listed(target: Target) -> list[Any]:
    """The versions in the metadata, where the protocol lets them be left out."""
    versions = target.get(f"/v2/models/{HALVES}").json().get("versions")
    if not versions:
        raise Skipped("the metadata lists no versions")
    return list(versions)


@SUITE.should("versions-are-text", "Versions in the metadata are strings.")
def _versions(target: Target) -> None:
    versions = _listed(target)
    expect(all(isinstance(one, str) for one in versions), "a list of strings", versions)


@SUITE.must("infer-nested", "Nested data is read in row-major order and answered.")
def _nested(target: Target) -> None:
    (output,) = outputs_of(target.post(INFER, {"inputs": [tensor()]}))
    expect_equal(
        {key: output.get(key) for key in ("name", "datatype", "shape", "data")},
        {"name": "y", "datatype": "FP32", "shape": [2, 2], "data": HALVED},
    )


@SUITE.must("infer-flat", "Flat data is the same as nested data.")
def _flat(target: Target) -> None:
    (output,) = outputs_of(target.post(INFER, {"inputs": [tensor([1, 2, 3, 5])]}))
    expect_equal(output.get("data"), HALVED)


@SUITE.should("no-content-type", "A body without a Content-Type, as tritonclient sends it, is read.")
def _no_content_type(target: Target) -> None:
    (output,) = outputs_of(target.ask("POST", INFER, json.dumps({"inputs": [tensor()]}).encode()))
    expect_equal(output.get("data"), HALVED)


@SUITE.must("id-is-echoed", "The request's id comes back.")
def _id(target: Target) -> None:
    expect_equal(target.post(INFER, {"id": "seven-7", "inputs": [tensor()]}).json().get("id"), "seven-7")


@SUITE.must("model-name-is-told", "The answer names the model.")
def _name(target: Target) -> None:
    expect_equal(target.post(INFER, {"inputs": [tensor()]}).json().get("model_name"), HALVES)


@SUITE.must("a-version-may-be-named", "The version that the metadata lists answers under /versions/V.")
def _version(target: Target) -> None:
    path = f"/v2/models/{HALVES}/versions/{_listed(target)[-1]}/infer"
    (output,) = outputs_of(target.post(path, {"inputs": [tensor()]}))
    expect_equal(output.get("data"), HALVED)


@SUITE.must("outputs-may-be-chosen", "Only the outputs that were asked for are answered.")
def _outputs(target: Target) -> None:
    expect_equal([one["name"] for one in outputs_of(target.post(INFER, {"inputs": [tensor()], "outputs": [{"name": "y"}]}))], ["y"])


@SUITE.must("text", "BYTES are JSON strings, in and out, beyond ASCII too.")
def _text(target: Target) -> None:
    if target.get(f"/v2/models/{ECHO}").status != 200:
        raise Skipped(f"model '{ECHO}' is not served")
    words = ["towline", "", "测量", 'a "quote"\n']
    (output,) = outputs_of(target.post(f"/v2/models/{ECHO}/infer", {"inputs": [tensor(words, [4], "BYTES", "t")]}))
    expect_equal((output["datatype"], output["data"]), ("BYTES", words))


@SUITE.must("unknown-model", "A model that is not there is 404 with words.")
def _unknown_model(target: Target) -> None:
    expect_error(target.post("/v2/models/no_such_model/infer", {"inputs": [tensor()]}), 404)


@SUITE.must("unknown-version", "A version that is not there is 404 with words.")
def _unknown_version(target: Target) -> None:
    expect_error(target.post(f"/v2/models/{HALVES}/versions/987654/infer", {"inputs": [tensor()]}), 404)


@SUITE.must("wrong-verb", "GET on an infer path is refused.")
def _verb(target: Target) -> None:
    status = target.get(INFER).status
    expect(status in (400, 404, 405), "400, 404 or 405", status)


_BAD: dict[str, tuple[str, Any]] = {
    "no-inputs": ("A request without inputs is 400.", {}),
    "unknown-input": ("An input that the model does not have is 400.", {"inputs": [tensor(name="nope")]}),
    "wrong-datatype": ("Another datatype than the model's is 400.", {"inputs": [tensor([1, 2, 3, 5], datatype="INT64")]}),
    "no-datatype": ("A datatype that does not exist is 400.", {"inputs": [tensor(datatype="FP99")]}),
    "wrong-shape": ("A shape that the model does not take is 400.", {"inputs": [tensor([1, 2, 3], [1, 3])]}),
    "wrong-count": ("More or fewer elements than the shape says is 400.", {"inputs": [tensor([1, 2, 3])]}),
    "negative-dim": ("A negative dim is 400.", {"inputs": [tensor([1, 2], [-1, 2])]}),
    "unknown-output": ("An output that the model does not have is 400.", {"inputs": [tensor()], "outputs": [{"name": "nope"}]}),
    "words-for-numbers": ("Text where numbers belong is 400.", {"inputs": [tensor([["a", "b"], ["c", "d"]])]}),
}


def _refusing(document: Any) -> Any:
    return lambda target: expect_error(target.post(INFER, document), 400)


for _name_of, (_words, _document) in _BAD.items():
    SUITE.must(_name_of, _words)(_refusing(_document))


@SUITE.must("no-json", "A body that is no JSON is 400.")
def _no_json(target: Target) -> None:
    expect_error(target.ask("POST", INFER, b'{"inputs": [', {"content-type": "application/json"}), 400)
