"""Servers that keep no contract: whatever they are asked, they give one answer."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc

EXTENSIONS = b"""{"extensions": ["binary_tensor_data", "classification", "schedule_policy", "statistics", "model_configuration",
                  "model_repository"], "outputs": [], "versions": [1], "model_stats": [], "model_version_status": []}"""


@contextmanager
def http_liar(
    status: int, body: bytes, content_type: str = "application/json", heard: list[tuple[str, str | None]] | None = None
) -> Iterator[int]:
    """Answers everything alike; yields its port. `heard` gets the method, path and content type of every request."""

    class Liar(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            if heard is not None:
                heard.append((f"{self.command} {self.path}", self.headers.get("content-type")))
            self.rfile.read(int(self.headers.get("content-length", 0)))
            self.send_response(status)
            self.send_header("content-type", content_type)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = answer

        def log_message(self, *words: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Liar)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def grpc_liar(status: grpc.StatusCode) -> Iterator[str]:
    """Answers every method with an empty message, or ends it with `status`; yields its address."""

    def answer(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        if status is not grpc.StatusCode.OK:
            context.abort(status, "a lie")
        yield from (b"" for _ in requests)

    class Everything(grpc.GenericRpcHandler):
        def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
            return grpc.stream_stream_rpc_method_handler(answer)

    server = grpc.server(ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers((Everything(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()
