"""A decoder that a hostile body took over says what it likes: the front believes none of it, and answers every request."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from plane import Api, HonestPlane, version

from towline.core import channel
from towline.serve.codecs.check import Limits
from towline.serve.contract import HttpResponse
from towline.serve.decoder import desk as desk_module
from towline.serve.decoder import messages
from towline.serve.decoder.desk import Desk, DeskLimits
from towline.serve.decoder.process import Decoder
from towline.serve.protocols.exchange import Exchange
from towline.testing import tiny_models

LIMITS = Limits(max_request_bytes=2 << 20)
PATH = "/v1/models/m:predict"
BODY = b" " * (1 << 20) + b'{"instances":[[1,2]]}'
GOOD = {"x": np.zeros((1, 2), np.float32)}
Lie = Callable[[dict[str, Any]], tuple[dict[str, Any], list[int]]]


def infer(inputs: dict[str, np.ndarray], **said: Any) -> Lie:
    def lie(asked: dict[str, Any]) -> tuple[dict[str, Any], list[int]]:
        file, size = messages.tensors_file(inputs)
        message = {
            "do": "infer", "id": asked["id"], "size": size, "name": "m", "number": 1, "digest": "sha256:" + "0" * 64, "protocol": "p",
            "deadline": None, "request_id": "", "priority": 0, "outputs": [], "signature": "",
        }  # fmt: skip
        return message | said, [file]

    return lie


def says(*, with_file: bool = True, pipe: bool = False, **said: Any) -> Lie:
    def lie(asked: dict[str, Any]) -> tuple[dict[str, Any], list[int]]:
        files = list(os.pipe()) if pipe else [messages.memory_file(10)] if with_file else []
        return {"id": asked["id"], **said}, files

    return lie


REPLY = {"do": "reply", "size": 2, "status": 200, "content_type": "text/plain", "headers": [], "refusal": ""}
LIES: dict[str, Lie] = {
    "another input": infer({"z": GOOD["x"]}),
    "an input too many": infer({**GOOD, "z": GOOD["x"]}),
    "another dtype": infer({"x": GOOD["x"].astype(np.float64)}),
    "another shape": infer({"x": np.zeros((1, 3), np.float32)}),
    "too many rows": infer({"x": np.zeros((257, 2), np.float32)}),
    "no frame": infer(GOOD, size=8),
    "a negative size": infer(GOOD, size=-1),
    "a size that is none": infer(GOOD, size="many"),
    "no such signature": infer(GOOD, signature="none"),
    "a deadline that is none": infer(GOOD, deadline="soon"),
    "no file": says(do="infer", with_file=False, size=10),
    "a file that is none": says(do="infer", pipe=True, size=10),
    "an answer without a file": says(with_file=False, **REPLY),
    "an answer without end": says(**REPLY | {"size": 1 << 60}),
    "a status that is none": says(**REPLY | {"status": "fine"}),
    "headers that are none": says(**REPLY | {"headers": [1]}),
    "an unknown word": says(do="sing"),
    "no word": says(),
    "a question that is none": says(do="ask", what="find", with_file=False),
    "a question with a file": says(do="ask", what="names"),
    "it declines nothing": lambda asked: ({"do": "decline"}, []),
}


class Liars:
    """Makes decoders that answer what they are asked to read with a lie."""

    def __init__(self, lie: Lie) -> None:
        self._lie = lie
        self._ends: list[Any] = []
        self._processes: list[asyncio.subprocess.Process] = []

    async def start(self, limits: Any, compat: str, on_message: Any, on_death: Any) -> Decoder:
        end, theirs = channel.channel()
        self._ends.append(theirs)
        theirs.setblocking(False)
        asyncio.get_running_loop().add_reader(theirs.fileno(), self._on_readable, theirs)
        # Killed with its decoder, as the process of a true one is.
        process = await asyncio.create_subprocess_exec("sleep", "600")
        self._processes.append(process)
        return Decoder(end, process, on_message, on_death)

    def _on_readable(self, theirs: Any) -> None:
        received = channel.receive(theirs)
        if received is None:
            asyncio.get_running_loop().remove_reader(theirs.fileno())
            return
        asked, descriptors = received
        if asked["do"] == "read":
            said, files = self._lie(asked)
            channel.send(theirs, said, files)
            descriptors += files
        for descriptor in descriptors:
            os.close(descriptor)

    async def close(self) -> None:
        for end in self._ends:
            asyncio.get_running_loop().remove_reader(end.fileno())
            end.close()
        for process in self._processes:
            await process.wait()


def open_files() -> dict[str, str]:
    """What each descriptor of this process stands for; the one that reads the list is gone by then."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            found[name] = os.readlink(f"/proc/self/fd/{name}")
    return found


@pytest.mark.parametrize("name", LIES)
def test_whatever_a_decoder_says_the_request_is_answered_with_an_error_and_nothing_runs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plane = HonestPlane(version("m", tiny_models.identity()))
    liars = Liars(LIES[name])
    monkeypatch.setattr(desk_module, "start", liars.start)

    async def run() -> HttpResponse:
        loop = asyncio.get_running_loop()
        desk = Desk(plane, DeskLimits(LIMITS, 8 << 20, 60.0), lambda found, exchange, reply: None)
        found = Api(plane, LIMITS)._table.find(b"POST", PATH.encode())
        answer: asyncio.Future[HttpResponse] = loop.create_future()
        exchange = Exchange("POST", received_s=loop.time(), found=found, url=PATH.encode(), parts=[BODY], body_bytes=len(BODY))
        desk.take(exchange, answer.set_result)
        try:
            return await asyncio.wait_for(answer, 60)
        finally:
            await desk.ended()
            await liars.close()

    before = open_files()
    answer = asyncio.run(run())

    assert answer.status in (400, 413, 500, 503), answer
    assert json.loads(answer.body)["error"]["message"]
    assert plane.requests == []
    assert open_files() == before
