"""TensorFlow Serving over gRPC: `tensorflow.serving.PredictionService` and `ModelService`."""

from __future__ import annotations

import struct
from typing import Any

from towline.verify.conformance.checks import Suite, expect, expect_equal
from towline.verify.conformance.target import HALVES, Called, Target

SUITE = Suite("tfserving-grpc")
_FLOAT = 1
_SHAPE = {"dim": [{"size": 2}, {"size": 2}]}
_HALVED = [2.5, 3.0, 3.5, 4.5]


def _call(target: Target, path: str, request: str, answer: str, **fields: Any) -> Called:
    return target.call(f"/tensorflow.serving.{path}", f"tensorflow.serving.{request}", f"tensorflow.serving.{answer}", fields)


def _predict(target: Target, tensor: dict[str, Any], name: str = HALVES, **more: Any) -> Called:
    made = target.messages["tensorflow.TensorProto"](**{"dtype": _FLOAT, "tensor_shape": _SHAPE, **tensor})
    spec = {"name": name, **more.pop("spec", {})}
    return _call(target, "PredictionService/Predict", "PredictRequest", "PredictResponse", model_spec=spec, inputs={"x": made}, **more)


def absent(target: Target) -> str:
    """Why a server cannot be asked; empty when it can."""
    status = _predict(target, {"float_val": [1]}).status
    return "the server has no tensorflow.serving.PredictionService" if status == "UNIMPLEMENTED" else ""


def _good(called: Called) -> Any:
    expect(called.status == "OK", "OK", f"{called.status}: {called.words}")
    return called.message


def _values(message: Any) -> list[float]:
    tensor = message.outputs["y"]
    return list(struct.unpack("<4f", tensor.tensor_content)) if tensor.tensor_content else list(tensor.float_val)


@SUITE.must("predict-content", "A tensor in tensor_content is read.")
def _content(target: Target) -> None:
    expect_equal(_values(_good(_predict(target, {"tensor_content": struct.pack("<4f", 1, 2, 3, 5)}))), _HALVED)


@SUITE.must("predict-values", "A tensor in typed values is read.")
def _typed(target: Target) -> None:
    expect_equal(_values(_good(_predict(target, {"float_val": [1, 2, 3, 5]}))), _HALVED)


@SUITE.must("last-value-repeats", "Fewer values than elements: the last one repeats.")
def _repeats(target: Target) -> None:
    expect_equal(_values(_good(_predict(target, {"float_val": [1]}))), [2.5] * 4)


@SUITE.must("version-is-told", "The answer tells which version it is of.")
def _version(target: Target) -> None:
    spec = _good(_predict(target, {"float_val": [1]})).model_spec
    expect(spec.name == HALVES and spec.version.value >= 1, f"{HALVES} and a version", spec)


@SUITE.must("output-filter", "An output that is not there, or named twice, is INVALID_ARGUMENT.")
def _filter(target: Target) -> None:
    for names in (["nope"], ["y", "y"]):
        expect_equal(_predict(target, {"float_val": [1]}, output_filter=names).status, "INVALID_ARGUMENT")


@SUITE.must("unknown-model", "A model that is not there is NOT_FOUND.")
def _unknown(target: Target) -> None:
    expect_equal(_predict(target, {"float_val": [1]}, "no_such_model").status, "NOT_FOUND")


@SUITE.must("unknown-signature", "A signature that is not there is FAILED_PRECONDITION.")
def _signature(target: Target) -> None:
    expect_equal(_predict(target, {"float_val": [1]}, spec={"signature_name": "nope"}).status, "FAILED_PRECONDITION")


@SUITE.must("status", "GetModelStatus tells AVAILABLE.")
def _status(target: Target) -> None:
    called = _call(target, "ModelService/GetModelStatus", "GetModelStatusRequest", "GetModelStatusResponse", model_spec={"name": HALVES})
    expect_equal([one.state for one in _good(called).model_version_status], [30])


@SUITE.must("metadata", "GetModelMetadata tells signature_def, and nothing else may be asked.")
def _metadata(target: Target) -> None:
    path, kinds = "PredictionService/GetModelMetadata", ("GetModelMetadataRequest", "GetModelMetadataResponse")
    found = _good(_call(target, path, *kinds, model_spec={"name": HALVES}, metadata_field=["signature_def"]))
    expect("signature_def" in found.metadata, "signature_def", list(found.metadata))
    expect_equal(_call(target, path, *kinds, model_spec={"name": HALVES}, metadata_field=["nope"]).status, "INVALID_ARGUMENT")
