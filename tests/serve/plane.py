"""A small honest data plane for protocol tests: real ONNX Runtime, in this process, one run per request."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnxruntime

from towline.core import dtypes
from towline.core.errors import InvalidRequest, NotFound, TowlineError, Unavailable
from towline.core.inference import Request, Response
from towline.core.manifest import Facts, Manifest, Measured, Origin, Signature, TensorSpec
from towline.serve.codecs.check import Limits
from towline.serve.contract import DataPlane, Done, HttpRequest, HttpResponse, OnPart, VersionStatus
from towline.serve.protocols.table import RouteTable
from towline.serve.routes import model_routes


@dataclass
class OneVersion:
    """A Served around a session of its own."""

    name: str
    number: int
    manifest: Manifest
    session: onnxruntime.InferenceSession
    labels: tuple[str, ...] = ()
    digest: str = "sha256:" + "0" * 64
    codecs: dict[Any, Any] = field(default_factory=dict)

    def signature(self, name: str = "") -> Signature:
        if not name:
            return self.manifest.signature
        if name not in self.manifest.signatures:
            raise InvalidRequest(f"There is no signature '{name}'.")
        return self.manifest.signatures[name]


def version(name: str, model: bytes, *, number: int = 1, labels: tuple[str, ...] = ()) -> OneVersion:
    graph = onnx.load_from_string(model).graph
    signature = Signature(tuple(map(_spec, graph.input)), tuple(map(_spec, graph.output)))
    manifest = Manifest(
        format=1,
        engine="onnxruntime",
        model_file="model.onnx",
        signatures={"serving_default": signature},
        batchable=True,
        origin=Origin("onnx", "sha256:0"),
        facts=Facts(0, {}, {}),
        measured=Measured("test", True, 0, 0, 256),
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return OneVersion(name, number, manifest, session, labels)


def _spec(value: onnx.ValueInfoProto) -> TensorSpec:
    tensor = value.type.tensor_type
    element = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
    found = dtypes.BY_NAME["string"] if element.kind == "O" else dtypes.BY_NAME[element.name]
    shape = tuple(dim.dim_param or dim.dim_value for dim in tensor.shape.dim) if tensor.HasField("shape") else None
    return TensorSpec(value.name, found.name, shape)


class HonestPlane:
    """Serves the versions it is given; the highest number of a name is its default. `refusal`, when set, is every infer's answer."""

    def __init__(self, *versions: OneVersion, label_of: dict[tuple[str, str], int] | None = None) -> None:
        self._versions = {(version.name, version.number): version for version in versions}
        self._label_of = label_of or {}
        self.requests: list[Request] = []
        self.refusal: TowlineError | None = None
        self.ready = True

    def find(self, name: str, *, number: int | None = None, label: str = "") -> OneVersion:
        if label:
            number = self._label_of.get((name, label), -1)
        numbers = [known for at, known in self._versions if at == name]
        found = self._versions.get((name, max(numbers, default=0) if number is None else number))
        if found is None:
            raise NotFound(f"No '{name}'.")
        if not self.ready:
            raise Unavailable(f"'{name}' is loading.", retry_after_s=2.5)
        return found

    def only(self) -> OneVersion:
        if len(self.names()) != 1:
            raise InvalidRequest(
                f"Several models are served: {', '.join(self.names())}.", code="MODEL_UNNAMED", hint="POST /models/…/predict"
            )
        return self.find(self.names()[0])

    def infer(
        self, served: OneVersion, request: Request, done: Done, *, protocol: str, on_part: OnPart | None = None
    ) -> Callable[[], None]:
        self.requests.append(request)
        done(self.refusal or self._run(served, request))
        return lambda: None

    def _run(self, served: OneVersion, request: Request) -> Response:
        feeds = {name: _text(array) if array.dtype == object else array for name, array in request.inputs.items()}
        known = [spec.name for spec in served.signature(request.signature).outputs]
        names = list(request.outputs) or known
        assert set(names) <= set(known), f"the signature '{request.signature}' has no outputs {names}"
        arrays = served.session.run(names, feeds)
        return Response(dict(zip(names, arrays, strict=True)), served.name, served.number)

    def status(self, name: str) -> list[VersionStatus]:
        found = [VersionStatus(number, "AVAILABLE") for known, number in sorted(self._versions, reverse=True) if known == name]
        if not found:
            raise NotFound(f"No '{name}'.")
        return found

    def names(self) -> tuple[str, ...]:
        return tuple(sorted({name for name, _ in self._versions}))

    def is_ready(self) -> bool:
        return self.ready


def _text(array: np.ndarray) -> np.ndarray:
    # The engine refuses what is no UTF-8; here it may pass.
    return np.array([element.decode(errors="replace") for element in array.reshape(-1)], dtype=object).reshape(array.shape)


class Api:
    """All protocols over one plane, asked without a socket."""

    def __init__(self, plane: DataPlane, limits: Limits | None = None) -> None:
        self.plane = plane
        limits = limits or Limits()
        self._table = RouteTable(model_routes(plane, limits))

    def ask(self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> HttpResponse:
        found = self._table.find(method.encode(), path.encode())
        if found.handler is None:
            raise AssertionError(f"no route takes {method} {path}")
        given = [(name.lower().encode(), value.encode("latin-1")) for name, value in (headers or {}).items()]
        answers: list[HttpResponse] = []
        found.handler(HttpRequest(method, found.path, found.query, given, body, 100.0, b"request-7"), found.params, answers.append)
        (answer,) = answers
        return answer
