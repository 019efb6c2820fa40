"""The requests that `towline bench` sends: from a file, or made for the model's signature and tried until the server takes them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from towline.app.benching.target import INFER, PREDICT, TF_SERVING, V2, V2_GRPC, Aim, Asked, signature_at
from towline.app.predicting.inputs import read_inputs
from towline.app.sources import check_file
from towline.client.connection import Connections
from towline.client.tensors import as_tensor, named_inputs
from towline.client.wire import error_of
from towline.core import dtypes
from towline.core.errors import InvalidRequest, Kind, TowlineError, UsageError
from towline.core.manifest import Signature
from towline.verify.inputs import make, recipes, row_bytes
from towline.verify.load.requests import (
    BINARY_TYPE,
    HEADER_LENGTH,
    JSON_TYPE,
    http_request,
    leads_with_batch,
    raw_bytes,
    simple,
    tf_serving,
    v2_binary,
    v2_json,
    v2_name,
)

# So many unlike requests are sent in turn, fewer when they are large: a server that remembers one answer gains nothing.
VARIANTS = 16
MAX_BYTES = 32 << 20
MAX_BODY_BYTES = 1 << 30
# What may be wrong with values we made up; anything else would be wrong with other values too.
_TRY_OTHERS = (Kind.INVALID, Kind.INTERNAL)


def ready_requests(aim: Aim, asked: Asked, *, data: Path | None, batch: int, binary: bool, seed: int) -> tuple[bytes, ...]:
    """Whole requests (HTTP messages, gRPC message bytes) that the server was seen to answer. Raises what it answers else."""
    error: TowlineError | None = None
    for requests in _candidates(aim, asked, data, batch, binary, seed):
        try:
            _try(aim, asked, requests[0])
            return tuple(_whole(aim, asked, *request) for request in requests)
        except TowlineError as refused:
            if refused.kind not in _TRY_OTHERS:
                raise
            # What was wrong with the boldest values tells most.
            error = error or refused
    assert error is not None
    raise error


# A body and the headers that go with it.
_Request = tuple[bytes, dict[str, str]]


def _candidates(aim: Aim, asked: Asked, data: Path | None, batch: int, binary: bool, seed: int) -> Iterator[list[_Request]]:
    if data is not None and data.suffix == ".json":
        yield [_from_body(aim, data)]
        return
    signature = signature_at(aim, asked)
    if data is not None:
        yield [_encoded(aim, _fitted(read_inputs(str(data)), signature), signature, binary)]
        return
    if batch > 1 and not leads_with_batch(signature):
        raise UsageError(f"--batch {batch}: the model's inputs lead with no batch of any size.", hint="Leave --batch out.")
    for recipe in recipes(signature):
        count = max(1, min(VARIANTS, MAX_BYTES // max(1, row_bytes(recipe) * batch)))
        rng = np.random.default_rng(seed)
        yield [_encoded(aim, make(recipe, rng, rows=batch), signature, binary) for _ in range(count)]


def _from_body(aim: Aim, data: Path) -> _Request:
    check_file(data, "a request's body")
    if aim.protocol == V2_GRPC:
        raise UsageError(f"--data {data}: a JSON body is no gRPC message.", hint="Give arrays: --data inputs.npz.")
    with data.open("rb") as file:
        body = file.read(MAX_BODY_BYTES + 1)
    if len(body) > MAX_BODY_BYTES:
        raise UsageError(f"--data {data} is larger than {MAX_BODY_BYTES >> 20} MiB.")
    return body, {"Content-Type": JSON_TYPE}


def _fitted(given: object, signature: Signature) -> dict[str, np.ndarray]:
    named = named_inputs(given, [spec.name for spec in signature.inputs])
    return {spec.name: as_tensor(spec.name, named[spec.name], dtypes.BY_NAME[spec.dtype]) for spec in signature.inputs}


def _encoded(aim: Aim, tensors: Mapping[str, np.ndarray], signature: Signature, binary: bool) -> _Request:
    if aim.protocol == V2_GRPC:
        return _grpc_message(aim, tensors), {}
    if aim.protocol == V2 and binary:
        body, head_bytes = v2_binary(tensors)
        return body, {"Content-Type": BINARY_TYPE, HEADER_LENGTH: str(head_bytes)}
    if aim.protocol == V2:
        return v2_json(tensors), {"Content-Type": JSON_TYPE}
    body = tf_serving(tensors, is_batch=leads_with_batch(signature)) if aim.protocol == TF_SERVING else simple(tensors)
    return body, {"Content-Type": JSON_TYPE}


def _grpc_message(aim: Aim, tensors: Mapping[str, np.ndarray]) -> bytes:
    from towline.serve.protocols.grpc.messages import MESSAGES

    message = MESSAGES["inference.ModelInferRequest"](model_name=aim.model, model_version=str(aim.version or ""))
    for name, array in tensors.items():
        message.inputs.add(name=name, datatype=v2_name(array), shape=array.shape)
        message.raw_input_contents.append(raw_bytes(array))
    raw: bytes = message.SerializeToString()
    return raw


def _try(aim: Aim, asked: Asked, request: _Request) -> None:
    """One request before the load: what the server refuses is told in its own words."""
    body, headers = request
    if aim.protocol == V2_GRPC:
        from towline.verify.load.grpc import ask

        ask(aim.endpoint, INFER, body, timeout_s=asked.timeout_s)
        return
    connections = Connections(
        f"{'https' if aim.endpoint.is_tls else 'http'}://{aim.endpoint.authority}", timeout_s=asked.timeout_s, key=asked.key
    )
    answer = connections.exchange("POST", aim.path, body, headers)
    connections.close()
    if 300 <= answer.status < 400:
        raise InvalidRequest(
            f"{aim.path} answers {answer.status}, a redirection.", kind=Kind.NOT_FOUND, hint="Give the address it leads to."
        )
    if answer.status >= 300:
        raise error_of(answer.status, answer.body, answer.retry_after)


def _whole(aim: Aim, asked: Asked, body: bytes, headers: dict[str, str]) -> bytes:
    if aim.protocol == V2_GRPC:
        return body
    if asked.key:
        headers = {**headers, "Authorization": f"Bearer {asked.key}"}
    return http_request(aim.path, aim.endpoint.authority, body, headers)


def words_for(aim: Aim, *, binary: bool, data: Path | None) -> str:
    """What is sent, in a few words, for the report."""
    forms = {V2_GRPC: "raw tensors", TF_SERVING: "JSON", PREDICT: "JSON", V2: "binary tensors" if binary else "JSON"}
    return f"{forms[aim.protocol]} from {data.name}" if data is not None else f"{forms[aim.protocol]}, generated"
