"""gRPC-Web on the HTTP port, byte by byte: what gRPC serves, in frames, with the trailers as the last one."""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterator
from http.client import HTTPConnection
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from towline.serve.protocols.grpc.messages import MESSAGES
from towline.serve.protocols.grpcweb import ProtocolError, read_message
from towline.serve.protocols.grpcweb_answer import percent_encoded
from towline.testing import tiny_models
from towline.testing.server import RunningServer

SERVICE = "/inference.GRPCInferenceService"
BINARY, TEXT = "application/grpc-web+proto", "application/grpc-web-text"
MAX_BYTES = 1 << 20


class Answer(NamedTuple):
    """`message` is None when there was none; `trailers` are those of the last frame, or of the headers."""

    status: int
    content_type: str
    message: bytes | None
    trailers: dict[str, str]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("models")
    files = [
        tiny_models.write(folder, tiny_models.identity(), "m.onnx"),
        tiny_models.write(folder, tiny_models.counted_loop(), "slow.onnx"),
    ]
    # gRPC itself is off: the methods are there nevertheless.
    with RunningServer(*files, settings={"max_request_bytes": MAX_BYTES}, flags=("--grpc-port", "-1")) as running:
        yield running


def framed(message: bytes, flag: int = 0) -> bytes:
    return struct.pack(">BI", flag, len(message)) + message


def post(server: RunningServer, path: str, body: bytes, content_type: str = BINARY, **headers: str) -> Answer:
    connection = HTTPConnection(server.host, server.port, timeout=30)
    try:
        connection.request("POST", path, body, {"content-type": content_type, "x-grpc-web": "1", **headers})
        got = connection.getresponse()
        raw = got.read()
        kind = got.headers["content-type"]
        if got.headers.get("grpc-status") is not None:
            assert raw == b""
            return Answer(got.status, kind, None, {name.lower(): value for name, value in got.headers.items()})
        return Answer(got.status, kind, *unframed(base64.b64decode(raw, validate=True) if "text" in kind else raw))
    finally:
        connection.close()


def unframed(body: bytes) -> tuple[bytes, dict[str, str]]:
    flag, length = struct.unpack_from(">BI", body)
    assert flag == 0
    message, rest = body[5 : 5 + length], body[5 + length :]
    flag, length = struct.unpack_from(">BI", rest)
    assert (flag, length) == (0x80, len(rest) - 5)
    lines = rest[5:].decode("ascii").split("\r\n")
    assert lines.pop() == ""
    return message, dict(line.split(": ", 1) for line in lines)


def infer_request(model: str = "m", *rows: tuple[float, float]) -> bytes:
    message = MESSAGES["inference.ModelInferRequest"](model_name=model, id="seven")
    tensor = message.inputs.add(name="x", datatype="FP32", shape=[len(rows), 2])
    tensor.contents.fp32_contents.extend(value for row in rows for value in row)
    raw: bytes = message.SerializeToString()
    return raw


@pytest.mark.parametrize(
    "content_type", [BINARY, "application/grpc-web", TEXT, "application/grpc-web-text+proto", "Application/GRPC-Web+Proto"]
)
def test_a_model_answers_in_the_form_it_was_asked(server: RunningServer, content_type: str) -> None:
    body = framed(infer_request("m", (1, 2), (3, 4)))
    answer = post(server, f"{SERVICE}/ModelInfer", base64.b64encode(body) if "text" in content_type else body, content_type)

    assert answer.status == 200
    assert answer.content_type == ("application/grpc-web-text+proto" if "text" in content_type else BINARY)
    assert answer.trailers["grpc-status"] == "0"
    response = MESSAGES["inference.ModelInferResponse"].FromString(answer.message)
    assert response.id == "seven"
    assert list(response.outputs[0].contents.fp32_contents) == [1, 2, 3, 4]


def test_tf_servings_services_are_there_too(server: RunningServer) -> None:
    request = MESSAGES["tensorflow.serving.GetModelStatusRequest"](model_spec={"name": "m"}).SerializeToString()
    answer = post(server, "/tensorflow.serving.ModelService/GetModelStatus", framed(request))

    status = MESSAGES["tensorflow.serving.GetModelStatusResponse"].FromString(answer.message)
    assert status.model_version_status[0].version == 1


@pytest.mark.parametrize(
    ("body", "content_type", "status", "words"),
    [
        (b"", BINARY, 3, "The body has 0 bytes"),
        (b"\0\0\0", BINARY, 3, "The body has 3 bytes"),
        (struct.pack(">BI", 0, 9) + b"short", BINARY, 3, "says its message has 9 bytes; 5 follow"),
        (framed(b"") + framed(b""), BINARY, 3, "One message makes a call"),
        (framed(b"", 0x01), BINARY, 12, "Compressed messages are not taken"),
        (framed(b"", 0x80), BINARY, 3, "flag 0x80"),
        (struct.pack(">BI", 0, 0xFFFFFFFF), BINARY, 8, "larger than the 1048576 bytes"),
        (b"AAAAA*AA", TEXT, 3, "not base64"),
        (b"AAA=AAAA", TEXT, 3, "padded at its end only"),
        (b"AAAAA", TEXT, 3, "not base64"),
        (framed(b"\xff\xff\xff"), BINARY, 3, "is no inference.ModelInferRequest"),
        (framed(infer_request("nope", (1, 2))), BINARY, 5, "unknown model"),
        (framed(infer_request("m")), BINARY, 3, "The batch is empty"),
    ],
)
def test_what_cannot_be_read_is_refused_in_the_headers(
    server: RunningServer, body: bytes, content_type: str, status: int, words: str
) -> None:
    answer = post(server, f"{SERVICE}/ModelInfer", body, content_type)

    assert (answer.status, answer.message, answer.trailers["grpc-status"]) == (200, None, str(status))
    assert words in answer.trailers["grpc-message"]


@pytest.mark.parametrize(
    ("path", "words"),
    [
        (f"{SERVICE}/Nothing", "There is no method /inference.GRPCInferenceService/Nothing"),
        ("/no.such.Service/Method", "There is no method /no.such.Service/Method"),
        (f"{SERVICE}/ModelStreamInfer", "takes a stream of messages; gRPC-Web can send one. Call it over gRPC."),
    ],
)
def test_a_method_that_is_not_there_is_unimplemented(server: RunningServer, path: str, words: str) -> None:
    answer = post(server, path, framed(b""))

    assert answer.trailers["grpc-status"] == "12"
    assert words in answer.trailers["grpc-message"]


def test_another_content_type_is_told_what_is_taken_here(server: RunningServer) -> None:
    status, body = server.post(f"{SERVICE}/ServerLive", framed(b""), {"content-type": "application/grpc"})
    assert status == 404
    assert b"application/grpc-web+proto" in body
    assert server.get(f"{SERVICE}/ServerLive")[0] == 405


def test_a_deadline_is_kept(server: RunningServer) -> None:
    slow = MESSAGES["inference.ModelInferRequest"](model_name="slow")
    slow.inputs.add(name="rounds", datatype="INT64", shape=[1]).contents.int64_contents.append(tiny_models.INT64_MAX)
    slow = framed(slow.SerializeToString())
    late = post(server, f"{SERVICE}/ModelInfer", slow, **{"grpc-timeout": "1m"})
    assert late.trailers["grpc-status"] == "4"
    for wrong in ("1", "m", "123456789m", "1x", "-1S"):
        refused = post(server, f"{SERVICE}/ModelInfer", slow, **{"grpc-timeout": wrong})
        assert refused.trailers["grpc-status"] == "3"
        assert "grpc-timeout" in refused.trailers["grpc-message"]


def test_a_message_keeps_to_one_line_of_ascii() -> None:
    assert percent_encoded("100 % 中\r\nx: y") == b"100 %25 %E4%B8%AD%0D%0Ax: y"


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=64), st.booleans())
def test_any_body_is_read_or_refused(body: bytes, is_text: bool) -> None:
    try:
        message = read_message(body, is_text=is_text, max_bytes=32)
    except ProtocolError:
        return
    assert framed(message) == (base64.b64decode(body) if is_text else body)


@given(st.binary(max_size=32))
def test_what_a_client_frames_is_read(message: bytes) -> None:
    assert read_message(framed(message), is_text=False, max_bytes=32) == message
    assert read_message(base64.b64encode(framed(message)), is_text=True, max_bytes=32) == message
