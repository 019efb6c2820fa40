"""Answers in parts over gRPC-Web: a frame for each message as it comes, the trailers at the end, and nothing left of a client that goes."""

from __future__ import annotations

import asyncio
import base64
import struct
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from http.client import HTTPConnection, HTTPResponse
from typing import Any

import pytest

from towline.core.errors import Overloaded
from towline.serve.codecs.check import Limits
from towline.serve.contract import HttpRequest, HttpResponse
from towline.serve.protocols import grpcweb
from towline.serve.protocols.grpc.calls import refused
from towline.serve.protocols.grpc.contract import Call, Code, Methods, Refusal, Refused, Stream
from towline.serve.protocols.grpc.health import MAX_WATCHERS
from towline.serve.protocols.grpc.messages import MESSAGES
from towline.serve.protocols.grpc.status import TF_SERVING
from towline.testing import tiny_models
from towline.testing.server import RunningServer

PATH = "/grpc.health.v1.Health/Watch"
BINARY, TEXT = "application/grpc-web+proto", "application/grpc-web-text"
SERVING, NOT_SERVING, UNKNOWN = 1, 2, 3


class Client:
    """One call as a connection sees it: what was written, and whether the client takes more."""

    def __init__(self, methods: Methods, *, media: str = BINARY, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
        self.answer: HttpResponse | None = None
        self.frames: list[bytes] = []
        self.more: list[Callable[[], None]] = []
        self.has_ended = False
        self.takes_all = True
        (route,) = grpcweb.routes(lambda: methods, Limits())
        body = framed(b"")
        body = base64.b64encode(body) if "text" in media else body
        request = HttpRequest("POST", "/a.B/C", "", [(b"content-type", media.encode()), *headers], body, asyncio.get_running_loop().time())
        self.cancel = route.handler(request, {"service": "a.B", "method": "C"}, self.reply)

    def reply(self, answer: HttpResponse) -> None:
        assert self.answer is None
        self.answer = answer
        if answer.begin is not None:
            answer.begin(self)

    def write(self, raw: bytes, more: Callable[[], None]) -> None:
        self.frames.append(raw)
        self.more.append(more)
        if self.takes_all:
            more()

    def end(self) -> None:
        self.has_ended = True


class Source:
    """A method that answers with what is put into it; an exception ends it."""

    def __init__(self, *answers: bytes | Exception) -> None:
        self.answers: asyncio.Queue[bytes | Exception | None] = asyncio.Queue()
        for answer in answers:
            self.answers.put_nowait(answer)
        self.asked = 0
        self.is_closed = False
        self.methods = Methods({}, {"/a.B/C": Stream(self._method, many_requests=False)})

    async def _method(self, requests: AsyncIterator[bytes], call: Call) -> AsyncGenerator[bytes, None]:
        assert [one async for one in requests] == [b""]
        try:
            while True:
                self.asked += 1
                answer = await self.answers.get()
                if answer is None:
                    return
                if isinstance(answer, Exception):
                    raise answer
                yield answer
        finally:
            self.is_closed = True


def framed(message: bytes, flag: int = 0) -> bytes:
    return struct.pack(">BI", flag, len(message)) + message


async def turns() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.mark.parametrize("media", [BINARY, TEXT])
def test_each_message_is_a_frame_as_it_comes_and_the_trailers_are_the_last(media: str) -> None:
    async def scenario() -> Client:
        source = Source(b"one")
        client = Client(source.methods, media=media)
        await turns()
        assert client.frames == encoded(framed(b"one"))
        source.answers.put_nowait(b"")
        await turns()
        assert (client.frames[1:], client.has_ended) == (encoded(framed(b"")), False)
        source.answers.put_nowait(None)
        await turns()
        assert source.is_closed
        return client

    def encoded(frame: bytes) -> list[bytes]:
        return [base64.b64encode(frame) if media == TEXT else frame]

    client = asyncio.run(scenario())

    assert client.frames[2:] == encoded(framed(b"grpc-status: 0\r\ngrpc-message: \r\n", 0x80))
    assert client.has_ended
    assert client.answer is not None
    assert client.answer.content_type == (b"application/grpc-web-text+proto" if media == TEXT else b"application/grpc-web+proto")


def test_the_next_message_is_made_when_the_client_has_taken_the_last() -> None:
    async def scenario() -> None:
        source = Source(b"one", b"two")
        client = Client(source.methods)
        client.takes_all = False
        await turns()
        assert (client.frames, source.asked) == ([framed(b"one")], 1)
        client.more[0]()
        await turns()
        assert (client.frames[1:], source.asked) == ([framed(b"two")], 2)
        client.cancel()
        await turns()
        assert source.is_closed

    asyncio.run(scenario())


@pytest.mark.parametrize("answers", [(), (b"one",)], ids=["before the first message", "between two"])
def test_a_client_that_goes_away_ends_the_method_and_hears_nothing_more(answers: tuple[bytes, ...]) -> None:
    async def scenario() -> None:
        source = Source(*answers)
        client = Client(source.methods)
        await turns()
        client.cancel()
        await turns()
        source.answers.put_nowait(b"late")
        await turns()
        assert source.is_closed
        assert (len(client.frames), client.has_ended) == (len(answers), False)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(scenario())


REFUSAL = Refusal(Code.RESOURCE_EXHAUSTED, "Too\nmany: 100 %", (("towline-code", "OVERLOADED"),))
LINES = b"grpc-status: 8\r\ngrpc-message: Too%0Amany: 100 %25\r\ntowline-code: OVERLOADED\r\n"


def test_a_refusal_before_the_first_message_is_in_the_headers() -> None:
    async def scenario() -> Client:
        client = Client(Source(Refused(REFUSAL)).methods)
        await turns()
        return client

    client = asyncio.run(scenario())

    assert client.answer is not None
    assert (client.answer.body, client.answer.begin, client.frames) == (b"", None, [])
    assert b"".join(b"%b: %b\r\n" % pair for pair in client.answer.headers) == LINES


def test_a_refusal_after_a_message_is_in_the_trailers() -> None:
    async def scenario() -> Client:
        client = Client(Source(b"one", Refused(REFUSAL)).methods)
        await turns()
        return client

    client = asyncio.run(scenario())

    assert client.frames == [framed(b"one"), framed(LINES, 0x80)]
    assert client.has_ended


def test_a_method_that_fails_in_a_way_nobody_foresaw_ends_and_tells_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> Client:
        client = Client(Source(b"one", ValueError("a secret")).methods)
        await turns()
        return client

    client = asyncio.run(scenario())

    assert client.frames[1][5:] == b"grpc-status: 13\r\ngrpc-message: The server failed while answering this; its log says why.\r\n"
    assert "a stream over gRPC-Web failed" in caplog.text


@pytest.mark.parametrize("answers", [(), (b"one",)], ids=["before the first message", "between two"])
def test_the_deadline_of_a_call_ends_its_stream(answers: tuple[bytes, ...]) -> None:
    async def scenario() -> Client:
        source = Source(*answers)
        client = Client(source.methods, headers=((b"grpc-timeout", b"20m"),))
        async with asyncio.timeout(60):
            while not source.is_closed:
                await asyncio.sleep(0.005)
        await turns()
        return client

    client = asyncio.run(scenario())

    told = client.frames[-1] if client.frames else b"".join(b"%b: %b\r\n" % pair for pair in client.answer.headers)  # type: ignore[union-attr]
    assert b"grpc-status: 4\r\ngrpc-message: The deadline of the call has passed.\r\n" in told


# Health.Watch over a socket


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Any:
    model = tiny_models.write(tmp_path_factory.mktemp("models"), tiny_models.identity(), "m.onnx")
    flags = ("--grpc-port", "-1", "--model-control", "explicit")
    # A drain that waited for those who watch would take minutes.
    with RunningServer(model, flags=flags, settings={"drain_timeout_s": 600}) as running:
        yield running


class Watching:
    """A page that watches. `next` is what comes next: a status, or the trailers as text."""

    def __init__(self, server: RunningServer, name: str, media: str = BINARY) -> None:
        self._is_text = "text" in media
        body = framed(MESSAGES["grpc.health.v1.HealthCheckRequest"](service=name).SerializeToString())
        self._connection = HTTPConnection(server.host, server.port, timeout=60)
        headers = {"content-type": media, "x-grpc-web": "1"}
        self._connection.request("POST", PATH, base64.b64encode(body) if self._is_text else body, headers)
        self.response: HTTPResponse = self._connection.getresponse()

    def next(self) -> int | str:
        # Whole groups of four characters, as a frame's head and as its rest.
        head = self._read(8 if self._is_text else 5)
        flag, length = struct.unpack_from(">BI", head)
        left = length - (len(head) - 5)
        payload = head[5:] + (self._read(-(-left // 3) * 4 if self._is_text else left) if left > 0 else b"")
        return payload.decode() if flag else int(MESSAGES["grpc.health.v1.HealthCheckResponse"].FromString(payload).status)

    def _read(self, size: int) -> bytes:
        raw = self.response.read(size)
        return base64.b64decode(raw, validate=True) if self._is_text else raw

    def leave(self) -> None:
        self.response.close()
        self._connection.close()


@pytest.mark.parametrize("media", [BINARY, TEXT])
def test_a_page_that_watches_a_model_hears_of_every_change(server: RunningServer, media: str) -> None:
    watching = Watching(server, "m", media)
    try:
        assert watching.next() == SERVING
        assert server.post("/v2/repository/models/m/unload", b"{}")[0] == 200
        assert watching.next() in (NOT_SERVING, UNKNOWN)
        assert server.post("/v2/repository/models/m/load", b"{}")[0] == 200
        # On its way back it may pass through other states.
        assert SERVING in (watching.next() for _ in range(4))
        assert watching.response.headers["x-accel-buffering"] == "no"
    finally:
        watching.leave()


def test_pages_that_left_watch_no_more(server: RunningServer) -> None:
    watching = [Watching(server, "") for _ in range(MAX_WATCHERS)]
    one_more = Watching(server, "")
    words = str(refused(Overloaded(f"{MAX_WATCHERS} calls watch already.", code="TOO_MANY_WATCHERS"), TF_SERVING).message)
    assert (one_more.response.headers["grpc-status"], one_more.response.headers["grpc-message"]) == ("8", words)
    for one in (*watching, one_more):
        one.leave()

    watching_again(server).leave()


def watching_again(server: RunningServer) -> Watching:
    """Whoever finds room once the server has noticed that others left."""
    tried: list[Watching] = []

    def there_is_room() -> bool:
        tried.append(Watching(server, ""))
        return tried[-1].response.headers["grpc-status"] is None

    server.wait_until(there_is_room)
    for one in tried[:-1]:
        one.leave()
    return tried[-1]


def test_a_server_that_ends_tells_those_who_watch_and_does_not_wait_for_them(server: RunningServer) -> None:
    watching = watching_again(server)
    assert watching.next() == SERVING
    assert server.stop() == 0
    assert [watching.next(), watching.next()] == [NOT_SERVING, "grpc-status: 0\r\ngrpc-message: \r\n"]
    assert watching.response.read() == b""
    watching.leave()
