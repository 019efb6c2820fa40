"""A small real HTTP server that speaks v2 with binary tensors, for the client's tests; it shares no code with the client."""

from __future__ import annotations

import json
import struct
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np

TYPES = {"FP32": "<f4", "INT64": "<i8", "BOOL": "?", "UINT8": "u1"}
Scripted = tuple[int, dict[str, str], bytes]


class V2Server(ThreadingHTTPServer):
    """Serves `double` (x FP32[-1,3] -> y), `sum` (a, b INT64[-1] -> sum, difference) and `shout` (text BYTES -> loud).

    `script` holds answers to give, in order, before the server behaves again; `seen` what was asked.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script: list[Scripted | Callable[[Handler], None]] = []
        self.seen: list[tuple[str, str, dict[str, str]]] = []
        self.connections: set[tuple[str, int]] = set()
        self.double_input = "x"
        self.thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01})

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def __enter__(self) -> V2Server:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.thread.join()
        self.server_close()

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # A client that goes away is a part of some tests.


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: V2Server

    def do_GET(self) -> None:
        self._handle(b"")

    def do_POST(self) -> None:
        self._handle(self.rfile.read(int(self.headers.get("content-length", 0))))

    def log_message(self, *_: object) -> None:
        pass

    def _handle(self, body: bytes) -> None:
        self.server.seen.append((self.command, self.path, {name.lower(): value for name, value in self.headers.items()}))
        self.server.connections.add(self.client_address)
        if self.server.script:
            scripted = self.server.script.pop(0)
            if callable(scripted):
                scripted(self)
                return
            self.answer(*scripted)
            return
        self.answer(*self._behave(body))

    def answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _behave(self, body: bytes) -> Scripted:
        parts = self.path.split("/")
        if self.path == "/v2/health/ready":
            return 200, {}, b""
        if self.path == "/v2/models":
            return 200, {}, b'{"models": ["double", "sum", "shout"]}'
        name = parts[3]
        if name not in ("double", "sum", "shout"):
            return 404, {}, json.dumps({"error": f"Unknown model '{name}'", "code": "MODEL_NOT_FOUND"}).encode()
        if self.command == "GET":
            return 200, {}, json.dumps(self._metadata(name)).encode()
        return self._infer(name, body)

    def _metadata(self, name: str) -> dict[str, object]:
        tensors = {
            "double": ([(self.server.double_input, "FP32", [-1, 3])], [("y", "FP32", [-1, 3])]),
            "sum": ([("a", "INT64", [-1]), ("b", "INT64", [-1])], [("sum", "INT64", [-1]), ("difference", "INT64", [-1])]),
            "shout": ([("text", "BYTES", [-1])], [("loud", "BYTES", [-1])]),
        }[name]
        described = [[{"name": n, "datatype": t, "shape": s} for n, t, s in side] for side in tensors]
        return {"name": name, "versions": ["1"], "platform": "onnxruntime_onnx", "inputs": described[0], "outputs": described[1]}

    def _infer(self, name: str, body: bytes) -> Scripted:
        head_bytes = int(self.headers["inference-header-content-length"])
        head, at, inputs = json.loads(body[:head_bytes]), head_bytes, {}
        for described in head["inputs"]:
            size = described["parameters"]["binary_data_size"]
            inputs[described["name"]] = (described["datatype"], described["shape"], body[at : at + size])
            at += size
        assert head["parameters"]["binary_data_output"] is True
        if name == "shout":
            return _binary([("loud", "BYTES", inputs["text"][1], _pack([raw.upper() for raw in _unpack(inputs["text"][2])]))])
        arrays = {key: np.frombuffer(raw, TYPES[kind]).reshape(shape) for key, (kind, shape, raw) in inputs.items()}
        if name == "sum":
            a, b = arrays["a"], arrays["b"]
            return _binary([("sum", "INT64", a.shape, (a + b).tobytes()), ("difference", "INT64", a.shape, (a - b).tobytes())])
        if self.server.double_input not in arrays:
            return 400, {}, json.dumps({"error": "unexpected input", "code": "UNKNOWN_INPUT", "field": "x"}).encode()
        x = arrays[self.server.double_input]
        return _binary([("y", "FP32", x.shape, (x * 2).tobytes())])


def _binary(outputs: list[tuple[str, str, object, bytes]]) -> Scripted:
    described = [
        {"name": name, "datatype": kind, "shape": list(shape), "parameters": {"binary_data_size": len(raw)}}  # type: ignore[call-overload]
        for name, kind, shape, raw in outputs
    ]
    head = json.dumps({"model_name": "m", "outputs": described}).encode()
    return 200, {"Inference-Header-Content-Length": str(len(head))}, head + b"".join(raw for _, _, _, raw in outputs)


def _pack(strings: list[bytes]) -> bytes:
    return b"".join(struct.pack("<I", len(raw)) + raw for raw in strings)


def _unpack(raw: bytes) -> list[bytes]:
    strings = []
    while raw:
        (size,) = struct.unpack_from("<I", raw)
        strings.append(raw[4 : 4 + size])
        raw = raw[4 + size :]
    return strings
