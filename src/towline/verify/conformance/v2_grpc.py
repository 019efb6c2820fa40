"""Open Inference Protocol over gRPC: package `inference`, service `GRPCInferenceService`."""

from __future__ import annotations

import struct
from typing import Any

from towline.verify.conformance.checks import Skipped, Suite, expect, expect_equal
from towline.verify.conformance.target import HALVES, Called, Target

SUITE = Suite("v2-grpc")
_SERVICE = "/inference.GRPCInferenceService"
_RAW = struct.pack("<4f", 1, 2, 3, 5)
_HALVED = [2.5, 3.0, 3.5, 4.5]


def _call(target: Target, method: str, **fields: Any) -> Called:
    answer = "ModelStreamInferResponse" if method == "ModelStreamInfer" else f"{method}Response"
    return target.call(f"{_SERVICE}/{method}", f"inference.{method}Request", f"inference.{answer}", fields)


def _request(raw: bool = False, **more: Any) -> dict[str, Any]:
    tensor: dict[str, Any] = {"name": "x", "datatype": "FP32", "shape": [2, 2]}
    if not raw:
        tensor["contents"] = {"fp32_contents": [1, 2, 3, 5]}
    return {"model_name": HALVES, "inputs": [tensor], **({"raw_input_contents": [_RAW]} if raw else {}), **more}


def _good(called: Called) -> Any:
    expect(called.status == "OK", "OK", f"{called.status}: {called.words}")
    return called.message


def _values(message: Any) -> list[float]:
    if message.raw_output_contents:
        return list(struct.unpack("<4f", message.raw_output_contents[0]))
    return list(message.outputs[0].contents.fp32_contents)


@SUITE.must("live-and-ready", "ServerLive, ServerReady and ModelReady say yes.")
def _live(target: Target) -> None:
    expect_equal(_good(_call(target, "ServerLive")).live, True)
    expect_equal(_good(_call(target, "ServerReady")).ready, True)
    expect_equal(_good(_call(target, "ModelReady", name=HALVES)).ready, True)


@SUITE.must("metadata", "ServerMetadata and ModelMetadata tell what REST tells.")
def _metadata(target: Target) -> None:
    expect(bool(_good(_call(target, "ServerMetadata")).name), "a name", "none")
    model = _good(_call(target, "ModelMetadata", name=HALVES))
    (x,) = model.inputs
    expect_equal((model.name, x.name, x.datatype, list(x.shape)), (HALVES, "x", "FP32", [-1, 2]))


@SUITE.must("infer-typed", "Typed contents are read.")
def _typed(target: Target) -> None:
    expect_equal(_values(_good(_call(target, "ModelInfer", **_request()))), _HALVED)


@SUITE.must("infer-raw", "Raw contents are read, and answered raw.")
def _raw(target: Target) -> None:
    message = _good(_call(target, "ModelInfer", **_request(raw=True)))
    expect(len(message.raw_output_contents) == 1, "one raw output", f"{len(message.raw_output_contents)}")
    expect_equal(_values(message), _HALVED)


@SUITE.must("id-is-echoed", "The request's id comes back, with the model's name.")
def _id(target: Target) -> None:
    message = _good(_call(target, "ModelInfer", **_request(id="seven-7")))
    expect_equal((message.id, message.model_name), ("seven-7", HALVES))


@SUITE.must("unknown-model", "A model that is not there is NOT_FOUND.")
def _unknown(target: Target) -> None:
    expect_equal(_call(target, "ModelInfer", **{**_request(), "model_name": "no_such_model"}).status, "NOT_FOUND")


@SUITE.must("mixed-contents", "Raw and typed contents in one message are INVALID_ARGUMENT.")
def _mixed(target: Target) -> None:
    expect_equal(_call(target, "ModelInfer", **_request(raw_input_contents=[_RAW])).status, "INVALID_ARGUMENT")


@SUITE.must("wrong-length", "Raw contents of a wrong length are INVALID_ARGUMENT.")
def _length(target: Target) -> None:
    expect_equal(_call(target, "ModelInfer", **{**_request(raw=True), "raw_input_contents": [_RAW[:-1]]}).status, "INVALID_ARGUMENT")


@SUITE.must("unknown-method", "A method that does not exist is UNIMPLEMENTED.")
def _method(target: Target) -> None:
    kind = "inference.ServerLiveRequest"
    expect_equal(target.call(f"{_SERVICE}/Nothing", kind, "inference.ServerLiveResponse", {}).status, "UNIMPLEMENTED")


@SUITE.should("stream", "ModelStreamInfer answers each request of a stream; an error is a message and not the end.")
def _stream(target: Target) -> None:
    fields = [_request(id="a"), {**_request(id="b"), "model_name": "no_such_model"}, _request(id="c")]
    called = target.call(f"{_SERVICE}/ModelStreamInfer", "inference.ModelInferRequest", "inference.ModelStreamInferResponse", *fields)
    if called.status == "UNIMPLEMENTED":
        raise Skipped("the server has no ModelStreamInfer")
    expect(called.status == "OK", "OK", f"{called.status}: {called.words}")
    good = {one.infer_response.id for one in called.messages if not one.error_message}
    expect_equal((good, len(called.messages)), ({"a", "c"}, 3))
