"""The binary tensor extension of the Open Inference Protocol, which tritonclient uses by default."""

from __future__ import annotations

import json
import struct
from typing import Any

from towline.verify.conformance.checks import Skipped, Suite, expect, expect_equal
from towline.verify.conformance.target import ECHO, Answer, Target
from towline.verify.conformance.v2_rest import INFER, expect_error, tensor

SUITE = Suite("v2-binary")
_HEADER = "Inference-Header-Content-Length"
_RAW = struct.pack("<4f", 1, 2, 3, 5)
_HALVED = struct.pack("<4f", 2.5, 3.0, 3.5, 4.5)


def _input(size: int = len(_RAW), **more: Any) -> dict[str, Any]:
    return {"name": "x", "shape": [2, 2], "datatype": "FP32", "parameters": {"binary_data_size": size}, **more}


def _post(target: Target, document: Any, raw: bytes, path: str = INFER, length: int | None = None) -> Answer:
    if "binary_tensor_data" not in (target.get("/v2").json() or {}).get("extensions", ()):
        raise Skipped("binary_tensor_data is not among the server's extensions")
    head = json.dumps(document).encode()
    return target.ask("POST", path, head + raw, {_HEADER: str(len(head) if length is None else length)})


def _split(answer: Answer) -> tuple[dict[str, Any], bytes]:
    expect(answer.status == 200, "200", f"{answer.status} {answer.body[:200]!r}")
    length = answer.headers.get(_HEADER.lower(), "")
    expect(length.isdigit() and int(length) <= len(answer.body), f"{_HEADER} within the body", length)
    return json.loads(answer.body[: int(length)]), answer.body[int(length) :]


@SUITE.must("in", "A tensor after the JSON is read, little-endian.")
def _in(target: Target) -> None:
    answer = _post(target, {"inputs": [_input()]}, _RAW)
    expect(answer.status == 200, "200", f"{answer.status} {answer.body[:200]!r}")
    expect_equal(answer.json()["outputs"][0].get("data"), [2.5, 3.0, 3.5, 4.5])


@SUITE.must("out-for-all", "binary_data_output asks for all outputs as bytes; the header tells the size of the JSON.")
def _out(target: Target) -> None:
    head, raw = _split(_post(target, {"inputs": [_input()], "parameters": {"binary_data_output": True}}, _RAW))
    (output,) = head["outputs"]
    expect_equal((output.get("parameters", {}).get("binary_data_size"), "data" in output, raw), (len(_HALVED), False, _HALVED))


@SUITE.must("out-for-one", "binary_data of one output counts more than binary_data_output of the request.")
def _out_for_one(target: Target) -> None:
    wanted = {"outputs": [{"name": "y", "parameters": {"binary_data": False}}], "parameters": {"binary_data_output": True}}
    answer = _post(target, {"inputs": [_input()], **wanted}, _RAW)
    expect_equal(answer.json()["outputs"][0].get("data"), [2.5, 3.0, 3.5, 4.5])
    wanted = {"outputs": [{"name": "y", "parameters": {"binary_data": True}}]}
    expect_equal(_split(_post(target, {"inputs": [tensor()], **wanted}, b""))[1], _HALVED)


@SUITE.must("text", "BYTES are a length of four bytes and the bytes, each; they need not be text.")
def _text(target: Target) -> None:
    if target.get(f"/v2/models/{ECHO}").status != 200:
        raise Skipped(f"model '{ECHO}' is not served")
    packed = b"".join(struct.pack("<I", len(word)) + word for word in (b"towline", b"", b"\xe6\xb5\x8b"))
    given = {"name": "t", "shape": [3], "datatype": "BYTES", "parameters": {"binary_data_size": len(packed)}}
    document = {"inputs": [given], "parameters": {"binary_data_output": True}}
    expect_equal(_split(_post(target, document, packed, f"/v2/models/{ECHO}/infer"))[1], packed)


@SUITE.should("raw-body", "A header of 0 and nothing but the tensor is a request for the model's one input.")
def _raw(target: Target) -> None:
    if "binary_tensor_data" not in (target.get("/v2").json() or {}).get("extensions", ()):
        raise Skipped("binary_tensor_data is not among the server's extensions")
    _, raw = _split(target.ask("POST", INFER, _RAW[:8], {_HEADER: "0"}))
    expect_equal(raw, _HALVED[:8])


@SUITE.must("short", "Fewer bytes than binary_data_size says is 400.")
def _short(target: Target) -> None:
    expect_error(_post(target, {"inputs": [_input()]}, _RAW[:-1]), 400)


@SUITE.must("long", "More bytes than all tensors say is 400.")
def _long(target: Target) -> None:
    expect_error(_post(target, {"inputs": [_input()]}, _RAW + b"\0"), 400)


@SUITE.must("wrong-size", "A size that does not fit the shape is 400.")
def _wrong_size(target: Target) -> None:
    expect_error(_post(target, {"inputs": [_input(12)]}, _RAW[:12]), 400)


@SUITE.must("header-beyond-the-body", "A header larger than the body is 400.")
def _beyond(target: Target) -> None:
    expect_error(_post(target, {"inputs": [_input()]}, _RAW, length=10_000), 400)


@SUITE.must("both-forms", "A tensor with data and with binary_data_size is 400.")
def _both(target: Target) -> None:
    expect_error(_post(target, {"inputs": [_input(data=[[1, 2], [3, 5]])]}, _RAW), 400)
