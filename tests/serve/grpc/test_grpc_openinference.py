"""The Open Inference Protocol over gRPC, method by method, without a socket."""

from __future__ import annotations

import json
from typing import Any

import grpc
import numpy as np
import pytest
from bad_inputs import MAX_BATCH, MAX_REQUEST_BYTES, MODELS
from calling import Asker, Refused
from plane import Api, HonestPlane, version

from towline.core.errors import Overloaded, TowlineError
from towline.serve.codecs.check import Limits
from towline.serve.protocols.grpc import lifting, openinference_codec
from towline.serve.protocols.grpc.messages import MESSAGES
from towline.serve.protocols.grpc.openinference import methods
from towline.testing import tiny_models

SERVICE = "inference.GRPCInferenceService"
LIMITS = Limits(max_request_bytes=MAX_REQUEST_BYTES, max_batch=MAX_BATCH)
Infer = MESSAGES["inference.ModelInferRequest"]


@pytest.fixture(scope="module")
def versions() -> Any:
    made = [version(name, model) for name, model in MODELS.items()]
    made += [version(name, tiny_models.identity(name)) for name in ("int8", "int16", "int32", "uint16", "uint32")]
    made.append(version("ids", tiny_models.embedding()))
    return [*made, version("labelled", tiny_models.identity(), labels=("cat", "dog"))]


@pytest.fixture(params=["short", "long"], autouse=True)
def length(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What holds for short lists holds for long ones, which are read and written in one piece."""
    if request.param == "long":
        monkeypatch.setattr(lifting, "MIN_BYTES", 1)
        monkeypatch.setattr(openinference_codec, "FEW", -1)


@pytest.fixture
def plane(versions: Any) -> HonestPlane:
    return HonestPlane(*versions)


@pytest.fixture
def asker(plane: HonestPlane) -> Asker:
    return Asker(methods(plane, LIMITS))


def typed(place: str, values: list[Any], datatype: str = "FP32", shape: tuple[int, ...] = (1, 2), name: str = "x", **more: Any) -> Any:
    """A request of one input with typed contents."""
    return Infer(inputs=[{"name": name, "datatype": datatype, "shape": shape, "contents": {place: values}}], **more)


def raw(data: bytes, datatype: str = "FP32", shape: tuple[int, ...] = (1, 2), **more: Any) -> Any:
    return Infer(inputs=[{"name": "x", "datatype": datatype, "shape": shape}], raw_input_contents=[data], **more)


def infer(asker: Asker, request: Any, model: str = "m", left_s: float | None = None) -> Any:
    request.model_name = request.model_name or model
    return asker.ask(f"{SERVICE}/ModelInfer", request, "inference.ModelInferResponse", left_s)


def refused(asker: Asker, request: Any, model: str = "m") -> Refused:
    with pytest.raises(Refused) as caught:
        infer(asker, request, model)
    return caught.value


FLOATS = np.array([1, 2], "<f4").tobytes()


def test_raw_is_answered_raw_and_typed_is_answered_typed(asker: Asker) -> None:
    was_raw = infer(asker, raw(FLOATS, id="seven"))
    was_typed = infer(asker, typed("fp32_contents", [1, 2]))

    assert list(was_raw.raw_output_contents) == [FLOATS]
    assert not was_raw.outputs[0].HasField("contents")
    assert (was_raw.id, was_raw.model_name, was_raw.model_version) == ("seven", "m", "1")
    assert list(was_typed.outputs[0].contents.fp32_contents) == [1, 2]
    assert not was_typed.raw_output_contents
    assert (was_typed.outputs[0].datatype, list(was_typed.outputs[0].shape)) == ("FP32", [1, 2])


@pytest.mark.parametrize(
    ("model", "datatype", "place", "values"),
    [
        ("int8", "INT8", "int_contents", [-128, 127]),
        ("int16", "INT16", "int_contents", [-32768, 32767]),
        ("int32", "INT32", "int_contents", [-(2**31), 2**31 - 1]),
        ("i64", "INT64", "int64_contents", [-(2**63), 2**63 - 1]),
        ("u8", "UINT8", "uint_contents", [0, 255]),
        ("uint16", "UINT16", "uint_contents", [0, 65535]),
        ("uint32", "UINT32", "uint_contents", [0, 2**32 - 1]),
        ("u64", "UINT64", "uint64_contents", [0, 2**64 - 1]),
        ("f64", "FP64", "fp64_contents", [0.1, -1e300]),
        ("flag", "BOOL", "bool_contents", [True, False]),
        ("text", "BYTES", "bytes_contents", [b"a", "你好".encode()]),
    ],
)
def test_every_type_passes_through_its_typed_contents_unchanged(
    asker: Asker, model: str, datatype: str, place: str, values: list[Any]
) -> None:
    answer = infer(asker, typed(place, values, datatype), model)

    assert list(getattr(answer.outputs[0].contents, place)) == values
    assert answer.outputs[0].datatype == datatype


def test_a_half_float_travels_raw_only(asker: Asker) -> None:
    halves = np.array([1.5, -2], "<f2").tobytes()

    assert list(infer(asker, raw(halves, "FP16"), "f16").raw_output_contents) == [halves]
    error = refused(asker, typed("fp32_contents", [1.5, -2], "FP16"), "f16")
    assert (error.code, error.status) == ("MISSING_DATA", grpc.StatusCode.INVALID_ARGUMENT)
    assert "raw_input_contents" in error.details


@pytest.mark.parametrize(
    ("request_", "code", "field", "word"),
    [
        # 67: how many, and either of the two.
        (
            Infer(inputs=[{"name": "x", "datatype": "FP32", "shape": [1, 2]}]),
            "WRONG_SIZE",
            "inputs[0].contents.fp32_contents",
            "2 elements",
        ),
        (
            Infer(inputs=[{"name": "x", "datatype": "FP32", "shape": [1, 2]}], raw_input_contents=[FLOATS, FLOATS]),
            "TRAILING_BYTES",
            "raw_input_contents[1]",
            "raw_input_contents[1]",
        ),
        (
            Infer(
                inputs=[{"name": "x", "datatype": "FP32", "shape": [1, 2], "contents": {"fp32_contents": [1, 2]}}],
                raw_input_contents=[FLOATS],
            ),
            "AMBIGUOUS_DATA",
            "inputs[0].contents",
            "either",
        ),
        # 68: the length.
        (raw(FLOATS[:-1]), "WRONG_SIZE", "raw_input_contents[0]", "8 bytes"),
        (raw(FLOATS + b"\0"), "WRONG_SIZE", "raw_input_contents[0]", "got 9"),
        (typed("fp32_contents", [1]), "WRONG_SIZE", "inputs[0].contents.fp32_contents", "got 1"),
        (typed("fp64_contents", [1, 2]), "WRONG_TYPE", "inputs[0].contents.fp64_contents", "fp32_contents"),
        (typed("fp32_contents", [1, 2], "FP64"), "DATATYPE_MISMATCH", "inputs[0].datatype", "FP32"),
        (typed("fp32_contents", [1, 2], shape=(2,)), "SHAPE_MISMATCH", "inputs[0].shape", "[N, 2]"),
        (typed("fp32_contents", [1, 2], shape=()), "SHAPE_MISMATCH", "inputs[0].shape", "[]"),
        (typed("fp32_contents", [1, 2], shape=(-1, 2)), "SHAPE_MISMATCH", "inputs[0].shape[0]", "Dim 0"),
        (typed("fp32_contents", [1, 2], shape=(2**62, 2)), "SHAPE_MISMATCH", "inputs[0].shape[0]", "Dim 0"),
        (typed("fp32_contents", [0] * 18, shape=(9, 2)), "BATCH_TOO_LARGE", "inputs[0].shape", "8"),
        (typed("fp32_contents", [1, 2], name="z"), "UNKNOWN_INPUT", "inputs[0].name", "'z'"),
        (Infer(), "MISSING_INPUT", "inputs", "'x'"),
        (raw(FLOATS, id="i" * 257), "BAD_ID", "id", "256"),
        (raw(FLOATS, outputs=[{"name": "q"}]), "UNKNOWN_OUTPUT", "outputs[0].name", "'q'"),
        (raw(FLOATS, outputs=[{"name": "y"}, {"name": "y"}]), "DUPLICATE_OUTPUT", "outputs[1].name", "twice"),
        (raw(FLOATS, model_version="latest"), "BAD_VERSION", "version", "latest"),
        (raw(FLOATS, parameters={"priority": {"int64_param": -1}}), "WRONG_TYPE", "parameters.priority", "priority"),
        (raw(FLOATS, parameters={"timeout": {"string_param": "1"}}), "WRONG_TYPE", "parameters.timeout", "timeout"),
        (
            raw(FLOATS, parameters={"shared_memory_region": {"string_param": "r"}}),
            "UNSUPPORTED",
            "parameters.shared_memory_region",
            "memory",
        ),
        (
            raw(FLOATS, outputs=[{"name": "y", "parameters": {"classification": {"int64_param": 0}}}]),
            "OUT_OF_RANGE",
            "outputs[0].parameters.classification",
            "classification",
        ),
    ],
)
def test_what_is_wrong_is_named_with_its_place(asker: Asker, plane: HonestPlane, request_: Any, code: str, field: str, word: str) -> None:
    error = refused(asker, request_)

    assert (error.status, error.code, error.field) == (grpc.StatusCode.INVALID_ARGUMENT, code, field)
    assert word in error.details
    assert plane.requests == []


def test_a_number_too_large_for_a_narrow_type_is_refused_by_its_index(asker: Asker) -> None:
    error = refused(asker, typed("int_contents", [1, 128], "INT8"), "int8")

    assert (error.code, error.field) == ("OUT_OF_RANGE", "inputs[0].contents.int_contents[1]")
    assert "128 is not from -128 to 127" in error.details


def test_a_scalar_for_a_model_of_rank_one_is_refused(asker: Asker) -> None:
    error = refused(asker, typed("int64_contents", [1], "INT64", (), "ids"), "ids")

    assert (error.status, error.code) == (grpc.StatusCode.INVALID_ARGUMENT, "SHAPE_MISMATCH")


def test_text_that_is_not_utf8_and_half_a_message_are_refused_as_no_message(asker: Asker) -> None:
    for broken in (b"\x0a\x02\xff\xfe", raw(FLOATS).SerializeToString()[:-3], b"\xff" * 40):  # 74
        with pytest.raises(Refused, match=r"INVALID_ARGUMENT: The message is no inference\.ModelInferRequest") as caught:
            asker.raw(f"{SERVICE}/ModelInfer", broken)
        assert caught.value.code == "BAD_MESSAGE"


def test_an_unknown_model_or_version_is_not_found_and_one_that_loads_is_unavailable(asker: Asker, plane: HonestPlane) -> None:
    assert refused(asker, raw(FLOATS), "nobody").status is grpc.StatusCode.NOT_FOUND
    assert "unknown model: version 7 of 'm'" in refused(asker, raw(FLOATS, model_version="7")).details
    plane.ready = False
    error = refused(asker, raw(FLOATS))

    assert error.status is grpc.StatusCode.UNAVAILABLE
    assert error.trailers["grpc-retry-pushback-ms"] == "2500"


def test_the_outputs_asked_for_come_in_their_order_and_classes_as_text(asker: Asker) -> None:
    wish = [{"name": "y", "parameters": {"classification": {"int64_param": 1}}}]

    answer = infer(asker, raw(FLOATS, outputs=wish), "labelled")

    assert answer.outputs[0].datatype == "BYTES"
    assert list(answer.raw_output_contents) == [b"\x0e\0\0\0" + b"2.000000:1:dog"]


def test_timeout_and_the_calls_own_deadline_both_count_and_the_earlier_wins(asker: Asker, plane: HonestPlane) -> None:
    infer(asker, raw(FLOATS), left_s=None)
    infer(asker, raw(FLOATS), left_s=5)
    infer(asker, raw(FLOATS, parameters={"timeout": {"int64_param": 1_000_000}, "priority": {"uint64_param": 3}}), left_s=5)
    never, five, one = plane.requests

    assert never.deadline is None
    assert five.deadline - one.deadline == pytest.approx(4, abs=0.5)
    assert one.priority == 3


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Overloaded("The queue is full.", retry_after_s=0.25), grpc.StatusCode.UNAVAILABLE),
        (TowlineError("It broke."), grpc.StatusCode.INTERNAL),
    ],
)
def test_what_the_data_plane_refuses_keeps_its_words(
    asker: Asker, plane: HonestPlane, error: TowlineError, status: grpc.StatusCode
) -> None:
    plane.refusal = error

    told = refused(asker, raw(FLOATS))

    assert (told.status, told.details, told.code) == (status, error.message, error.code)


def test_what_nobody_foresaw_is_told_without_its_words(asker: Asker, plane: HonestPlane, caplog: pytest.LogCaptureFixture) -> None:
    def broken(*args: Any, **more: Any) -> Any:
        raise ZeroDivisionError("/secret/path")

    plane.infer = broken  # type: ignore[method-assign]

    error = refused(asker, raw(FLOATS))

    assert error.status is grpc.StatusCode.INTERNAL
    assert "secret" not in error.details
    assert "/secret/path" in caplog.text


def test_metadata_and_readiness_say_what_rest_says(asker: Asker, plane: HonestPlane) -> None:
    rest = json.loads(Api(plane, LIMITS).ask("GET", "/v2/models/m").body)
    told = asker.ask(f"{SERVICE}/ModelMetadata", MESSAGES["inference.ModelMetadataRequest"](name="m"), "inference.ModelMetadataResponse")
    ready = MESSAGES["inference.ModelReadyRequest"](name="m")

    assert {"name": told.name, "versions": list(told.versions), "platform": told.platform} == {
        key: rest[key] for key in ("name", "versions", "platform")
    }
    assert [{"name": one.name, "datatype": one.datatype, "shape": list(one.shape)} for one in told.inputs] == rest["inputs"]
    assert asker.ask(f"{SERVICE}/ModelReady", ready, "inference.ModelReadyResponse").ready
    plane.ready = False
    assert not asker.ask(f"{SERVICE}/ModelReady", ready, "inference.ModelReadyResponse").ready
    assert not asker.ask(f"{SERVICE}/ServerReady", MESSAGES["inference.ServerReadyRequest"](), "inference.ServerReadyResponse").ready
    assert asker.ask(f"{SERVICE}/ServerLive", MESSAGES["inference.ServerLiveRequest"](), "inference.ServerLiveResponse").live
