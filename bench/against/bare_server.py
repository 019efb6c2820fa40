"""The reference for CPU per request: httptools on uvloop, natural batching, ONNX Runtime inline, and no safety of any kind.

    python bare_server.py PORT MODEL.onnx       (input "x" float32 [N, K], output "y"; answers any path as a TF Serving predict)

No limits, no checks, no errors, no deadlines, and the model in the process that holds the socket: what no one should run, and
what nobody can be much cheaper than.
"""

from __future__ import annotations

import asyncio
import sys

import httptools
import msgspec
import numpy as np
import onnxruntime
import orjson
import uvloop

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: "


class Body(msgspec.Struct):
    instances: list[list[float]]


decode = msgspec.json.Decoder(Body).decode


class Batcher:
    """One run for all that arrived in one turn of the event loop."""

    def __init__(self, model: str) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._run = onnxruntime.InferenceSession(model, options).run
        self._waiting: list[tuple[Connection, list[list[float]]]] = []

    def add(self, connection: Connection, instances: list[list[float]]) -> None:
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._flush)
        self._waiting.append((connection, instances))

    def _flush(self) -> None:
        batch, self._waiting = self._waiting, []
        rows = [np.array(instances, np.float32) for _, instances in batch]
        answers = self._run(["y"], {"x": np.concatenate(rows)})[0]
        start = 0
        for (connection, _), mine in zip(batch, rows, strict=True):
            body = orjson.dumps({"predictions": answers[start : start + len(mine)]}, option=orjson.OPT_SERIALIZE_NUMPY)
            start += len(mine)
            connection.transport.write(b"%b%d\r\n\r\n%b" % (HEAD, len(body), body))


class Connection(asyncio.Protocol):
    transport: asyncio.Transport

    def __init__(self, batcher: Batcher) -> None:
        self._batcher = batcher
        self._parser = httptools.HttpRequestParser(self)
        self._body = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self._body = b""

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        self._batcher.add(self, decode(self._body).instances)


async def main(port: int, model: str) -> None:
    batcher = Batcher(model)
    server = await asyncio.get_running_loop().create_server(lambda: Connection(batcher), "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), sys.argv[2]))
