"""The floor for large tensors: a body received into one buffer, a thread per core that runs the model on it, and no safety of any kind.

    python bare_image_server.py PORT MODEL.onnx THREADS       (input "x" float32 [N, …], output "y"; answers its bytes)

What it loses against a `session.run` loop is what the kernel's copies and the load generator on the same cores take from whoever serves.
"""

from __future__ import annotations

import asyncio
import queue
import sys
import threading

import numpy as np
import onnxruntime
import uvloop

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n"
MAX_HEAD_BYTES = 4096


class Model:
    def __init__(self, path: str, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(path, options)
        self.shape = (1, *self._session.get_inputs()[0].shape[1:])
        self.size_bytes = int(np.prod(self.shape)) * 4
        self.waiting: queue.SimpleQueue[Connection] = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        for _ in range(threads):
            threading.Thread(target=self._work, daemon=True).start()

    def _work(self) -> None:
        while True:
            connection = self.waiting.get()
            answer = self._session.run(["y"], {"x": connection.tensor})[0]
            self._loop.call_soon_threadsafe(connection.answer, answer.tobytes())


class Connection(asyncio.BufferedProtocol):
    """Takes one request at a time, whose body is the model's row and nothing else."""

    transport: asyncio.Transport

    def __init__(self, model: Model) -> None:
        self._model = model
        self._head, self._body = bytearray(MAX_HEAD_BYTES), bytearray(model.size_bytes)
        self._in_head = self._in_body = 0
        self._is_body = False
        self.tensor = np.frombuffer(self._body, np.float32).reshape(model.shape)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def get_buffer(self, sizehint: int) -> memoryview:
        return memoryview(self._body)[self._in_body :] if self._is_body else memoryview(self._head)[self._in_head :]

    def buffer_updated(self, nbytes: int) -> None:
        if self._is_body:
            self._in_body += nbytes
        else:
            self._in_head += nbytes
            end = self._head.find(b"\r\n\r\n", 0, self._in_head) + 4
            if end < 4:
                return
            self._is_body, self._in_body = True, self._in_head - end
            self._body[: self._in_body] = self._head[end : self._in_head]
        if self._in_body == len(self._body):
            self._is_body, self._in_head = False, 0
            self._model.waiting.put(self)

    def answer(self, body: bytes) -> None:
        self.transport.write(HEAD % len(body) + body)


async def main(port: int, path: str, threads: int) -> None:
    model = Model(path, threads)
    server = await asyncio.get_running_loop().create_server(lambda: Connection(model), "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
