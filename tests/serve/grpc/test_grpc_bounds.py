"""Both gRPC servers on one loop with their clients: how many calls they take, how a call is given up, and how they end."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import numpy as np
import pytest
from bad_inputs import MODELS
from plane import HonestPlane, version

from towline.core.errors import TowlineError
from towline.core.inference import Request, Response
from towline.serve.codecs.check import Limits
from towline.serve.contract import Done
from towline.serve.protocols.grpc.messages import MESSAGES
from towline.serve.protocols.grpc.server import Bounds, Server, server_for
from towline.serve.protocols.grpc.service import Service

INFER = "/inference.GRPCInferenceService/ModelInfer"
MAX_CALLS = 2
KINDS = pytest.mark.parametrize("which", ["aio", "native"])


class Waiting(HonestPlane):
    """Answers nobody until told to."""

    def __init__(self) -> None:
        super().__init__(version("m", MODELS["m"]))
        self.open: dict[str, Callable[[], None]] = {}
        self.news = asyncio.Event()

    def infer(self, served: Any, request: Request, done: Done, *, protocol: str, on_part: Any = None) -> Callable[[], None]:
        self.open[request.id] = lambda: done(Response({"y": request.inputs["x"]}, served.name, served.number))
        self.news.set()

        def give_up() -> None:
            self.open.pop(request.id, None)
            self.news.set()

        return give_up

    async def has(self, *ids: str) -> None:
        while set(self.open) != set(ids):
            self.news.clear()
            await asyncio.wait_for(self.news.wait(), 60)


@asynccontextmanager
async def serving(which: str, plane: HonestPlane) -> AsyncIterator[tuple[Server, Callable[..., Any]]]:
    server = server_for(which, Service(plane, Limits()), Bounds(1 << 20, max_calls=MAX_CALLS))
    port = await server.start("127.0.0.1", 0)
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield server, channel.unary_unary(INFER)
    finally:
        await server.stop(0)


def request(id: str) -> bytes:
    data = np.ones((1, 2), "<f4").tobytes()
    inputs = [{"name": "x", "datatype": "FP32", "shape": [1, 2]}]
    raw: bytes = MESSAGES["inference.ModelInferRequest"](
        model_name="m", id=id, inputs=inputs, raw_input_contents=[data]
    ).SerializeToString()
    return raw


async def code_of(call: Any) -> grpc.StatusCode:
    code: grpc.StatusCode = await call.code()
    return code


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 120))


@KINDS
def test_calls_are_bounded_and_one_that_is_given_up_makes_room(which: str) -> None:
    async def play() -> None:
        plane = Waiting()
        async with serving(which, plane) as (_, infer):
            first, second = infer(request("first")), infer(request("second"))
            await plane.has("first", "second")
            assert await code_of(infer(request("third"))) is grpc.StatusCode.RESOURCE_EXHAUSTED

            first.cancel()
            await plane.has("second")
            fourth = infer(request("fourth"))
            await plane.has("second", "fourth")
            for answer in list(plane.open.values()):
                answer()
            assert [await code_of(call) for call in (second, fourth)] == [grpc.StatusCode.OK] * 2

    run(play())


@KINDS
def test_a_server_that_ends_answers_what_it_has_and_takes_no_more(which: str) -> None:
    async def play() -> None:
        plane = Waiting()
        async with serving(which, plane) as (server, infer):
            asked = infer(request("asked"))
            await plane.has("asked")
            end = asyncio.ensure_future(server.stop(10))
            for _ in range(10):
                await asyncio.sleep(0)
            # Sent on a connection that is just told to go, it is cancelled by the client's own library.
            assert await code_of(infer(request("late"), timeout=60)) in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
            assert set(plane.open) == {"asked"}
            assert not end.done()
            plane.open["asked"]()
            assert await code_of(asked) is grpc.StatusCode.OK
            await end

    run(play())


@KINDS
def test_a_server_that_may_not_wait_gives_up_what_it_has(which: str) -> None:
    async def play() -> None:
        plane = Waiting()
        async with serving(which, plane) as (server, infer):
            asked = infer(request("asked"))
            await plane.has("asked")

            await server.stop(0)

            assert await code_of(asked) in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
            await plane.has()

    run(play())


@KINDS
def test_an_address_that_cannot_be_used_is_named(which: str) -> None:
    async def play() -> None:
        server = server_for(which, Service(Waiting(), Limits()), Bounds(1 << 20))
        with pytest.raises(TowlineError, match=r"gRPC cannot listen on port 80 of 192\.0\.2\.77") as caught:
            await server.start("192.0.2.77", 80)
        assert caught.value.code == "PORT_IN_USE"
        await server.stop(0)

    run(play())


def test_a_folder_that_can_hold_no_socket_is_named_with_what_helps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path / ("x" * 100)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))

    async def play() -> None:
        server = server_for("native", Service(Waiting(), Limits()), Bounds(1 << 20))
        with pytest.raises(TowlineError, match="gRPC cannot make its socket in the temporary folder") as caught:
            await server.start("127.0.0.1", 0)
        assert "TMPDIR" in caught.value.hint
        await server.stop(0)

    run(play())
    assert list(deep.iterdir()) == []
