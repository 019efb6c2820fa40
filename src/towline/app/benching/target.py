"""Find out what `towline bench` is to measure: which server, protocol and model a URL means, and what the model takes."""

from __future__ import annotations

import json
import re
import urllib.parse
from dataclasses import dataclass
from typing import Any

from towline.app.running import ps
from towline.client.connection import Answer, Connections
from towline.client.wire import decode_metadata, decode_names, error_of
from towline.core import dtypes
from towline.core.config import is_loopback
from towline.core.errors import InvalidRequest, TowlineError, UsageError
from towline.core.manifest import Signature
from towline.verify.load.job import GRPC, HTTP, Endpoint
from towline.verify.load.requests import signature_of

V2, V2_GRPC, TF_SERVING, PREDICT = "v2", "v2-grpc", "tfserving", "predict"
PROTOCOLS = (V2, V2_GRPC, TF_SERVING, PREDICT)
INFER, METADATA = "/inference.GRPCInferenceService/ModelInfer", "/inference.GRPCInferenceService/ModelMetadata"
_SCHEMES = ("http", "https", "grpc", "grpcs")
_NAME = r"(?P<model>[^/:]+)"
_PATHS = (
    (V2, re.compile(rf"(?P<base>.*?)/v2/models/{_NAME}(?:/versions/(?P<version>[0-9]+))?(?:/infer)?/?")),
    (TF_SERVING, re.compile(rf"(?P<base>.*?)/v1/models/{_NAME}(?:/versions/(?P<version>[0-9]+))?(?::predict)?/?")),
    (PREDICT, re.compile(rf"(?P<base>.*?)/models/{_NAME}/predict/?")),
    (PREDICT, re.compile(r"(?P<base>.*?)(?:/predict)/?")),
)


@dataclass(frozen=True)
class Aim:
    """What is measured. `base` is where the server's HTTP paths begin, empty when it is not known; `path` takes the requests.

    `model` is empty where the protocol needs none and the URL names none.
    """

    protocol: str
    endpoint: Endpoint
    base: str
    path: str
    model: str
    version: int | None


@dataclass(frozen=True)
class Asked:
    """What the caller said of the target beside its URL."""

    protocol: str = ""
    model: str = ""
    key: str | None = None
    timeout_s: float = 30.0
    allow_remote: bool = False
    # Where a gRPC server answers HTTP, when the caller knows.
    base: str = ""


def is_url(target: str) -> bool:
    return target.partition("://")[0] in _SCHEMES and "://" in target


def aim_at(url: str, asked: Asked) -> Aim:
    """Raises UsageError for what may not be measured, Unreachable, and what a server says when it refuses."""
    parts = urllib.parse.urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = -1
    if parts.scheme not in _SCHEMES or not parts.hostname or port == -1 or parts.query or parts.fragment or "@" in parts.netloc:
        raise UsageError(f"{url[:128]!r} is no address to measure: expected http://HOST:PORT[/v2/models/NAME] or grpc://HOST:PORT/NAME.")
    _check_remote(parts.hostname, asked)
    secure = parts.scheme in ("https", "grpcs")
    if asked.key is not None and not secure and not is_loopback(parts.hostname):
        raise UsageError(f"A key is not sent to {parts.hostname} in the clear.", hint="Use https or grpcs.")
    if parts.scheme.startswith("grpc") or asked.protocol == V2_GRPC:
        return _aim_grpc(parts, port or (443 if secure else 8001), secure, asked)
    endpoint = Endpoint(HTTP, parts.hostname, port or (443 if secure else 80), secure)
    return _aim_http(f"{parts.scheme}://{parts.netloc}", parts.path, endpoint, asked)


def _check_remote(host: str, asked: Asked) -> None:
    if not asked.allow_remote and not is_loopback(host):
        raise UsageError(
            f"{host} is not this machine: load on a server of others is an attack, or taken for one.",
            code="REMOTE",
            hint="Say --allow-remote when it is yours to press.",
        )


def _aim_grpc(parts: urllib.parse.SplitResult, port: int, secure: bool, asked: Asked) -> Aim:
    if asked.protocol not in ("", V2_GRPC):
        raise UsageError(
            f"--protocol {asked.protocol} does not go with {parts.scheme}://.", hint=f"Say --protocol {V2_GRPC}, or leave it out."
        )
    model, _, number = parts.path.strip("/").partition("/")
    if number and not number.isdigit():
        raise UsageError(f"{parts.path[:64]!r} is no model: expected {parts.scheme}://HOST:PORT/NAME[/VERSION].")
    host = parts.hostname or ""
    metadata = (("authorization", f"Bearer {asked.key}"),) if asked.key else ()
    endpoint = Endpoint(GRPC, host, port, secure, INFER, metadata)
    base = asked.base or _http_of(endpoint)
    model = model or asked.model or (_only_model(_connections(base, asked), base) if base else "")
    if not model:
        raise UsageError("Which model?", hint=f"Name it: --model NAME, or {parts.scheme}://{endpoint.authority}/NAME.")
    return Aim(V2_GRPC, endpoint, base, "", model, int(number) if number else None)


def _http_of(endpoint: Endpoint) -> str:
    """Where a Towline server of this machine that has this gRPC address answers HTTP; empty when none does."""
    wanted = f"grpc://{endpoint.authority}"
    return next((server.url for server in ps() if server.grpc_url == wanted), "") if is_loopback(endpoint.host) else ""


def _aim_http(origin: str, path: str, endpoint: Endpoint, asked: Asked) -> Aim:
    for protocol, pattern in _PATHS:
        found = pattern.fullmatch(path)
        if found:
            if asked.protocol not in ("", protocol):
                raise UsageError(f"--protocol {asked.protocol} does not go with the path {path[:64]}.", hint="Leave one of them out.")
            names = found.groupdict()
            base = origin + found["base"]
            version = names.get("version")
            model = urllib.parse.unquote(names.get("model") or "") or asked.model
            return Aim(protocol, endpoint, base, _path(protocol, found["base"], model, version), model, int(version) if version else None)
    base = origin + path.rstrip("/")
    connections = _connections(base, asked)
    protocol = asked.protocol or _detect(connections, base, asked.model)
    model = asked.model or ("" if protocol == PREDICT else _only_model(connections, base))
    return Aim(protocol, endpoint, base, _path(protocol, path.rstrip("/"), model, None), model, None)


def _path(protocol: str, prefix: str, model: str, version: str | None) -> str:
    name = urllib.parse.quote(model, safe="")
    numbered = f"/versions/{version}" if version else ""
    if protocol == V2:
        return f"{prefix}/v2/models/{name}{numbered}/infer"
    if protocol == TF_SERVING:
        return f"{prefix}/v1/models/{name}{numbered}:predict"
    return f"{prefix}/models/{name}/predict" if model else f"{prefix}/predict"


def _detect(connections: Connections, base: str, model: str) -> str:
    """v2 by its server metadata, TF Serving by a model's status. Raises Unreachable."""
    if _is_object(connections.exchange("GET", "/v2", b"", {}, tries=1)):
        return V2
    if model and _is_object(connections.exchange("GET", f"/v1/models/{urllib.parse.quote(model, safe='')}", b"", {}, tries=1)):
        return TF_SERVING
    raise UsageError(
        f"{base} does not tell which protocol it speaks.",
        hint=f"Say --protocol ({', '.join(PROTOCOLS)}), and --model NAME for all but predict.",
    )


def _is_object(answer: Answer) -> bool:
    try:
        return answer.status == 200 and isinstance(json.loads(answer.body), dict)
    except (ValueError, RecursionError):
        return False


def _only_model(connections: Connections, base: str) -> str:
    names = _model_names(connections)
    if len(names) == 1:
        return names[0]
    raise UsageError(
        f"{base} serves {', '.join(names[:10]) if names else 'models it does not name'}: say which to measure.",
        hint="Name it: --model NAME.",
    )


def _model_names(connections: Connections) -> tuple[str, ...]:
    answer = connections.exchange("GET", "/v2/models", b"", {}, tries=1)
    if answer.status == 200:
        return decode_names(answer.body)
    # Triton has only this one.
    answer = connections.exchange("POST", "/v2/repository/index", b"{}", {}, tries=1)
    try:
        found = json.loads(answer.body) if answer.status == 200 else []
        return tuple(str(row["name"]) for row in found)
    except (ValueError, KeyError, TypeError, RecursionError):
        return ()


def signature_at(aim: Aim, asked: Asked) -> Signature:
    """What the model takes, as the server tells it. Raises UsageError where it does not tell."""
    if aim.protocol == V2_GRPC:
        return _from_grpc(aim, asked)
    connections = _connections(aim.base, asked)
    if aim.protocol == TF_SERVING:
        return _from_tf_serving(connections, aim)
    if aim.protocol == PREDICT and not aim.model and not _model_names(connections):
        raise _untold(aim)
    model = aim.model or _only_model(connections, aim.base)
    numbered = f"/versions/{aim.version}" if aim.version else ""
    answer = connections.exchange("GET", f"/v2/models/{urllib.parse.quote(model, safe='')}{numbered}", b"", {})
    if aim.protocol == PREDICT and answer.status != 200:
        raise _untold(aim)
    _expect_ok(answer)
    return signature_of([(tensor.name, tensor.dtype, tensor.shape) for tensor in decode_metadata(answer.body).inputs])


def _from_tf_serving(connections: Connections, aim: Aim) -> Signature:
    answer = connections.exchange("GET", aim.path.removeprefix(_prefix(aim)).removesuffix(":predict") + "/metadata", b"", {})
    _expect_ok(answer)
    try:
        definitions = json.loads(answer.body)["metadata"]["signature_def"]["signature_def"]
        inputs = (definitions.get("serving_default") or next(iter(definitions.values())))["inputs"]
        return signature_of([_tf_tensor(name, told) for name, told in inputs.items()])
    except (ValueError, KeyError, TypeError, AttributeError, StopIteration, RecursionError) as error:
        raise _untold(aim) from error


def _prefix(aim: Aim) -> str:
    return urllib.parse.urlsplit(aim.base).path


def _tf_tensor(name: str, told: dict[str, Any]) -> tuple[str, str, tuple[int, ...]]:
    dtype = next(dtype.name for dtype in dtypes.ALL if dtype.tf == told["dtype"])
    return name, dtype, tuple(int(dim["size"]) for dim in told["tensor_shape"].get("dim", ()))


def _from_grpc(aim: Aim, asked: Asked) -> Signature:
    from towline.serve.protocols.grpc.messages import MESSAGES
    from towline.verify.load.grpc import ask

    question = MESSAGES["inference.ModelMetadataRequest"](name=aim.model, version=str(aim.version or ""))
    raw = ask(aim.endpoint, METADATA, question.SerializeToString(), timeout_s=asked.timeout_s)
    inputs = MESSAGES["inference.ModelMetadataResponse"].FromString(raw).inputs
    unknown = [tensor.datatype for tensor in inputs if tensor.datatype not in dtypes.BY_V2]
    if unknown or not inputs:
        raise _untold(aim)
    return signature_of([(tensor.name, dtypes.BY_V2[tensor.datatype].name, tuple(tensor.shape)) for tensor in inputs])


def _connections(base: str, asked: Asked) -> Connections:
    return Connections(base, timeout_s=asked.timeout_s, key=asked.key)


def _expect_ok(answer: Answer) -> None:
    if answer.status != 200:
        raise error_of(answer.status, answer.body, answer.retry_after)


def _untold(aim: Aim) -> TowlineError:
    return InvalidRequest(
        f"{aim.endpoint.authority} does not tell what its model takes.", hint="Give a request: --data body.json, or --data inputs.npz."
    )
