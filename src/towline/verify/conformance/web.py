"""gRPC-Web and GraphQL over HTTP, on the HTTP port."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

from towline.verify.conformance.checks import Skipped, Suite, expect, expect_equal
from towline.verify.conformance.target import HALVES, Answer, Target

GRPC_WEB = Suite("grpc-web")
GRAPHQL = Suite("graphql")
_SERVICE = "/inference.GRPCInferenceService"
_BINARY, _TEXT = "application/grpc-web+proto", "application/grpc-web-text"


def _post(target: Target, method: str, message: bytes, media: str = _BINARY, *, service: str = _SERVICE, timeout: str = "20S") -> Answer:
    body = struct.pack(">BI", 0, len(message)) + message
    headers = {"content-type": media, "grpc-timeout": timeout}
    answer = target.ask("POST", f"{service}/{method}", base64.b64encode(body) if media == _TEXT else body, headers)
    if not answer.headers.get("content-type", "").startswith("application/grpc-web"):
        raise Skipped("the server does not answer application/grpc-web")
    expect_equal(answer.status, 200)
    return answer


def _parts(answer: Answer) -> tuple[bytes, str]:
    """The message and the trailers' text."""
    body = base64.b64decode(answer.body) if "text" in answer.headers["content-type"] else answer.body
    found = {}
    while body:
        flag, length = struct.unpack_from(">BI", body)
        found[flag], body = body[5 : 5 + length], body[5 + length :]
    return found.get(0, b""), found.get(0x80, b"").decode("ascii")


@GRPC_WEB.must("unary", "A call is answered by a message and a last frame with grpc-status 0, in binary and as text.")
def _unary(target: Target) -> None:
    request = target.messages["inference.ModelMetadataRequest"](name=HALVES).SerializeToString()
    for media in (_BINARY, _TEXT):
        message, trailers = _parts(_post(target, "ModelMetadata", request, media))
        expect_equal(target.messages["inference.ModelMetadataResponse"].FromString(message).name, HALVES)
        expect("grpc-status: 0" in trailers or "grpc-status:0" in trailers, "grpc-status: 0", trailers)


@GRPC_WEB.must("refusal", "A refusal is HTTP 200 with its grpc-status in the headers or in the last frame.")
def _refusal(target: Target) -> None:
    request = target.messages["inference.ModelMetadataRequest"](name="no_such_model").SerializeToString()
    answer = _post(target, "ModelMetadata", request)
    _, trailers = _parts(answer) if answer.body else (b"", "")
    status = answer.headers.get("grpc-status") or trailers.partition("grpc-status:")[2].split("\r\n")[0].strip()
    expect_equal(status, "5")


@GRPC_WEB.must("unknown-method", "A method that does not exist is grpc-status 12.")
def _unknown(target: Target) -> None:
    expect_equal(_post(target, "Nothing", b"").headers.get("grpc-status"), "12")


@GRPC_WEB.should(
    "stream", "A method that answers with a stream sends a frame for each message, and ends at its deadline with grpc-status 4."
)
def _stream(target: Target) -> None:
    answer = _post(target, "Watch", b"", service="/grpc.health.v1.Health", timeout="200m")
    if answer.headers.get("grpc-status") == "12":
        raise Skipped("the server does not watch health over gRPC-Web")
    message, trailers = _parts(answer)
    expect_equal(target.messages["grpc.health.v1.HealthCheckResponse"].FromString(message).status, 1)
    expect("grpc-status: 4" in trailers or "grpc-status:4" in trailers, "grpc-status: 4", trailers)


def _graphql(target: Target, document: str, accept: str = "application/graphql-response+json") -> tuple[int, Any]:
    headers = {"content-type": "application/json", "accept": accept}
    answer = target.ask("POST", "/graphql", json.dumps({"query": document}).encode(), headers)
    if answer.status in (404, 501):
        raise Skipped("the server does not answer /graphql")
    return answer.status, answer.json()


@GRAPHQL.must("query", "A query is 200 with data.")
def _query(target: Target) -> None:
    status, body = _graphql(target, "{ __typename }")
    expect_equal((status, body.get("data")), (200, {"__typename": "Query"}))


@GRAPHQL.must("refused-document", "A document that cannot run is 400 and has no data; under application/json it is 200.")
def _refused(target: Target) -> None:
    status, body = _graphql(target, "{ no_such_field_at_all }")
    expect_equal((status, "data" in body, bool(body.get("errors"))), (400, False, True))
    expect_equal(_graphql(target, "{ no_such_field_at_all }", "application/json")[0], 200)


@GRAPHQL.must("mutation-by-get", "A mutation by GET is 405.")
def _by_get(target: Target) -> None:
    _graphql(target, "{ __typename }")
    expect_equal(target.get("/graphql?query=mutation%7B__typename%7D").status, 405)


@GRAPHQL.must("no-form", "A form is refused: any page may send one.")
def _form(target: Target) -> None:
    _graphql(target, "{ __typename }")
    answer = target.ask("POST", "/graphql", b"query=%7B__typename%7D", {"content-type": "application/x-www-form-urlencoded"})
    expect_equal(answer.status, 415)
