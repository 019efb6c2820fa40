"""TensorFlow Serving over gRPC, method by method, without a socket."""

from __future__ import annotations

from typing import Any

import grpc
import numpy as np
import pytest
from bad_inputs import MAX_BATCH, MAX_REQUEST_BYTES, MODELS
from calling import Asker, Refused
from plane import HonestPlane, version

from towline.serve.codecs.check import Limits
from towline.serve.protocols.grpc import lifting, tfserving_codec
from towline.serve.protocols.grpc.descriptors_tf import TENSORFLOW
from towline.serve.protocols.grpc.messages import MESSAGES
from towline.serve.protocols.grpc.tfserving import methods
from towline.testing import tiny_models

PREDICTION = "tensorflow.serving.PredictionService"
MODEL = "tensorflow.serving.ModelService"
LIMITS = Limits(max_request_bytes=MAX_REQUEST_BYTES, max_batch=MAX_BATCH)
TYPES = TENSORFLOW.enums["DataType"]


@pytest.fixture(scope="module")
def versions() -> Any:
    more = ("int8", "int16", "int32", "uint16", "uint32")
    models = {**MODELS, **{name: tiny_models.identity(name) for name in more}, "wide": tiny_models.identity("float32", ("N", "L"))}
    return [version(name, model, number=number) for name, model in models.items() for number in (1, 2)]


@pytest.fixture(params=["short", "long"], autouse=True)
def length(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What holds for short lists holds for long ones, which are read and written in one piece."""
    if request.param == "long":
        monkeypatch.setattr(lifting, "MIN_BYTES", 1)
        monkeypatch.setattr(tfserving_codec, "FEW", -1)


@pytest.fixture
def plane(versions: Any) -> HonestPlane:
    return HonestPlane(*versions, label_of={("m", "stable"): 1})


@pytest.fixture
def asker(plane: HonestPlane) -> Asker:
    return Asker(methods(plane, LIMITS))


def tensor(shape: tuple[int, ...], dtype: str = "DT_FLOAT", **values: Any) -> dict[str, Any]:
    return {"dtype": TYPES[dtype], "tensor_shape": {"dim": [{"size": size} for size in shape]}, **values}


def spec(name: str = "m", **more: Any) -> dict[str, Any]:
    return {"name": name, **more}


def predict(asker: Asker, given: dict[str, Any], model: dict[str, Any] | None = None, **more: Any) -> Any:
    request = MESSAGES["tensorflow.serving.PredictRequest"](model_spec=spec() if model is None else model, inputs=given, **more)
    return asker.ask(f"{PREDICTION}/Predict", request, "tensorflow.serving.PredictResponse")


def refused(asker: Asker, *args: Any, **more: Any) -> Refused:
    with pytest.raises(Refused) as caught:
        predict(asker, *args, **more)
    return caught.value


FLOATS = np.array([[1, 2]], "<f4")
X = {"x": tensor((1, 2), float_val=[1, 2])}


def test_tensor_content_and_float_val_are_the_same_and_the_answer_is_where_clients_look(asker: Asker) -> None:
    for given in (X, {"x": tensor((1, 2), tensor_content=FLOATS.tobytes())}):
        answer = predict(asker, given)

        assert list(answer.outputs["y"].float_val) == [1, 2]
        assert [dim.size for dim in answer.outputs["y"].tensor_shape.dim] == [1, 2]
        assert answer.outputs["y"].dtype == TYPES["DT_FLOAT"]


def test_the_answer_names_the_version_that_answered(asker: Asker) -> None:
    for model, number in (
        (spec(), 2),
        (spec(version={"value": 1}), 1),
        (spec(version={"value": 0}), 2),
        (spec(version_label="stable"), 1),
    ):
        told = predict(asker, X, model).model_spec

        assert (told.name, told.version.value, told.signature_name) == ("m", number, "serving_default")


@pytest.mark.parametrize(
    ("model", "dtype", "place", "values"),
    [
        ("int8", "DT_INT8", "int_val", [-128, 127]),
        ("int16", "DT_INT16", "int_val", [-32768, 32767]),
        ("int32", "DT_INT32", "int_val", [-(2**31), 2**31 - 1]),
        ("i64", "DT_INT64", "int64_val", [-(2**63), 2**63 - 1]),
        ("u8", "DT_UINT8", "int_val", [0, 255]),
        ("uint16", "DT_UINT16", "int_val", [0, 65535]),
        ("uint32", "DT_UINT32", "uint32_val", [0, 2**32 - 1]),
        ("u64", "DT_UINT64", "uint64_val", [0, 2**64 - 1]),
        ("f16", "DT_HALF", "half_val", [0x3E00, 0xC000]),
        ("f64", "DT_DOUBLE", "double_val", [0.1, -1e300]),
        ("flag", "DT_BOOL", "bool_val", [True, False]),
        ("text", "DT_STRING", "string_val", [b"a", "你好".encode()]),
    ],
)
def test_every_type_passes_through_its_own_list_unchanged(asker: Asker, model: str, dtype: str, place: str, values: list[Any]) -> None:
    answer = predict(asker, {"x": tensor((1, 2), dtype, **{place: values})}, spec(model))

    assert list(getattr(answer.outputs["y"], place)) == values
    assert answer.outputs["y"].dtype == TYPES[dtype]


def test_the_last_value_repeats_and_none_at_all_means_zeros(asker: Asker) -> None:
    repeated = predict(asker, {"x": tensor((2, 2), float_val=[1, 7])})
    zeros = predict(asker, {"x": tensor((2, 2))})
    halves = predict(asker, {"x": tensor((2, 2), "DT_HALF", half_val=[0x3E00])}, spec("f16"))
    strings = predict(asker, {"x": tensor((2, 2), "DT_STRING", string_val=[b"a"])}, spec("text"))

    assert list(repeated.outputs["y"].float_val) == [1, 7, 7, 7]
    assert list(zeros.outputs["y"].float_val) == [0, 0, 0, 0]
    assert list(halves.outputs["y"].half_val) == [0x3E00] * 4
    assert list(strings.outputs["y"].string_val) == [b"a"] * 4


def test_a_few_bytes_that_stand_for_a_tensor_above_the_limit_are_refused_before_it_is_made(asker: Asker, plane: HonestPlane) -> None:
    error = refused(asker, {"x": tensor((8, 2**30), float_val=[1])}, spec("wide"))

    assert (error.status, error.code) == (grpc.StatusCode.INVALID_ARGUMENT, "BODY_TOO_LARGE")
    assert str(8 * 2**30 * 4) in error.details
    assert plane.requests == []


INVALID, MISSING = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize(
    ("given", "model", "more", "status", "words"),
    [
        (
            {},
            spec(),
            {},
            INVALID,
            "input size does not match signature: 0!=1 len({}) != len({x}). Sent extra: {}. Missing but required: {x}.",
        ),
        ({"z": X["x"]}, spec(), {}, INVALID, "Sent extra: {z}. Missing but required: {x}."),
        (X, spec(signature_name="other"), {}, grpc.StatusCode.FAILED_PRECONDITION, 'Serving signature key "other" not found.'),
        (
            X,
            spec(),
            {"output_filter": ["q"]},
            INVALID,
            "output tensor alias not found in signature: q Outputs expected to be in the set {y}.",
        ),
        (X, spec(), {"output_filter": ["y", "y"]}, INVALID, "duplicate output tensor alias: y"),
        (X, spec("nobody"), {}, MISSING, "Servable not found for request: Latest(nobody)"),
        (X, spec(version={"value": 9}), {}, MISSING, "Servable not found for request: Specific(m, 9)"),
        (X, spec(version={"value": -1}), {}, INVALID, "must not be negative"),
        (X, spec(version_label="canary"), {}, INVALID, "Unrecognized servable version label: canary"),
        (X, {}, {}, INVALID, "Missing model name"),
        ({"x": tensor((1, 2), "DT_DOUBLE", double_val=[1, 2])}, spec(), {}, INVALID, "takes dtype DT_FLOAT, got DT_DOUBLE"),
        ({"x": tensor((1, 3), float_val=[1])}, spec(), {}, INVALID, "takes shape [N, 2], got [1, 3]"),
        ({"x": tensor((1, 2), float_val=[1, 2, 3])}, spec(), {}, INVALID, "needs 2 elements"),
        ({"x": tensor((1, 2), tensor_content=b"123")}, spec(), {}, INVALID, "needs 8 bytes"),
        ({"x": tensor((-1, 2), float_val=[1, 2])}, spec(), {}, INVALID, "Dim 0"),
        ({"x": tensor((9, 2), float_val=[1])}, spec(), {}, INVALID, "9 rows; the limit is 8"),
        ({"x": tensor((1, 2), "DT_UINT8", int_val=[1, 256])}, spec("u8"), {}, INVALID, "256 is not from 0 to 255"),
        ({"x": {"dtype": 1, "tensor_shape": {"unknown_rank": True}}}, spec(), {}, INVALID, "unknown rank"),
    ],
)
def test_what_is_wrong_is_said_in_tf_servings_words(
    asker: Asker, plane: HonestPlane, given: Any, model: Any, more: Any, status: grpc.StatusCode, words: str
) -> None:
    error = refused(asker, given, model, **more)

    assert error.status is status
    assert words in error.details
    assert plane.requests == []


def test_a_request_without_a_model_spec_is_refused(asker: Asker) -> None:
    with pytest.raises(Refused, match="Missing ModelSpec"):
        asker.raw(f"{PREDICTION}/Predict", b"")


def test_metadata_holds_the_signatures_and_says_which_version(asker: Asker) -> None:
    request = MESSAGES["tensorflow.serving.GetModelMetadataRequest"](model_spec=spec(), metadata_field=["signature_def"])

    told = asker.ask(f"{PREDICTION}/GetModelMetadata", request, "tensorflow.serving.GetModelMetadataResponse")
    signatures = MESSAGES["tensorflow.serving.SignatureDefMap"]()
    assert told.metadata["signature_def"].Unpack(signatures)
    x = signatures.signature_def["serving_default"].inputs["x"]

    assert told.metadata["signature_def"].type_url == "type.googleapis.com/tensorflow.serving.SignatureDefMap"
    assert told.model_spec.version.value == 2
    assert (x.name, x.dtype, [dim.size for dim in x.tensor_shape.dim]) == ("x", TYPES["DT_FLOAT"], [-1, 2])
    for fields, words in (([], "at least one metadata_field"), (["graph"], "Metadata field graph is not supported")):
        request = MESSAGES["tensorflow.serving.GetModelMetadataRequest"](model_spec=spec(), metadata_field=fields)
        with pytest.raises(Refused, match=words):
            asker.raw(f"{PREDICTION}/GetModelMetadata", request.SerializeToString())


def test_status_lists_the_versions_and_their_states(asker: Asker) -> None:
    def ask(model: dict[str, Any]) -> list[tuple[int, int]]:
        request = MESSAGES["tensorflow.serving.GetModelStatusRequest"](model_spec=model)
        told = asker.ask(f"{MODEL}/GetModelStatus", request, "tensorflow.serving.GetModelStatusResponse")
        return [(one.version, one.state) for one in told.model_version_status]

    assert ask(spec()) == [(2, 30), (1, 30)]
    assert ask(spec(version={"value": 1})) == [(1, 30)]
    with pytest.raises(Refused, match="NOT_FOUND: Could not find any versions of model nobody"):
        ask(spec("nobody"))


def test_nan_and_infinity_come_back_as_they_are(asker: Asker) -> None:
    answer = predict(asker, {"x": tensor((1, 2), float_val=[-1, 0])}, spec("log"))

    first, second = answer.outputs["y"].float_val
    assert np.isnan(first)
    assert second == -np.inf
