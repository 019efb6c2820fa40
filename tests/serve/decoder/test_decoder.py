"""The decoder answers as the front would, one large body after the other, and whatever becomes of it, every request is answered."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import resource
import signal
import zlib
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from plane import Api, HonestPlane, version

from towline.core.errors import Overloaded
from towline.serve.codecs.check import Limits
from towline.serve.contract import HttpRequest, HttpResponse
from towline.serve.decoder.choice import MAX_OWN_BYTES
from towline.serve.decoder.desk import MAX_WAITING, Desk, DeskLimits
from towline.serve.protocols.exchange import Exchange
from towline.testing import tiny_models

WIDE = 1000
LIMITS = Limits(max_request_bytes=2 << 20, max_batch=256)
ROW = "[" + ",".join(["0.25"] * WIDE) + "]"
ROWS = f"[{','.join([ROW] * 5)}]"
PAD = " " * MAX_OWN_BYTES
V2 = f'{PAD}{{"inputs":[{{"name":"x","datatype":"FP32","shape":[5,{WIDE}],"data":{ROWS}}}],"id":"seven"}}'.encode()
TFS = f'{PAD}{{"instances":{ROWS}}}'.encode()
MANY = f'{{"instances":[{",".join([ROW] * 250)}]}}'.encode()
PICTURE = base64.b64encode(os.urandom(MAX_OWN_BYTES)).decode()


def plane() -> HonestPlane:
    models = {"m": tiny_models.identity("float32", ("N", WIDE)), "words": tiny_models.identity("string", ("N",))}
    return HonestPlane(*(version(name, model) for name, model in models.items()))


class Front:
    """A desk before a plane, its requests made by hand."""

    def __init__(self, plane: HonestPlane, **limits: Any) -> None:
        self.plane = plane
        self.routes = Api(plane, LIMITS)._table
        self.handled: list[bytes] = []
        self.desk = Desk(plane, DeskLimits(LIMITS, **{"max_waiting_bytes": 64 << 20, "timeout_s": 30.0, **limits}), self._handle)

    def _handle(self, found: Any, request: HttpRequest, reply: Any) -> Any:
        self.handled.append(request.body)
        return found.handler(request, found.params, reply)

    def send(self, path: str, body: bytes, age_s: float = 0.0, **headers: str) -> tuple[asyncio.Future[HttpResponse], Callable[[], None]]:
        given = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        found = self.routes.find(b"POST", path.encode())
        parts: list[bytes | bytearray] = [body[at : at + 300_000] for at in range(0, len(body), 300_000)]
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[HttpResponse] = loop.create_future()
        exchange = Exchange(
            "POST", found.path, found.query, given, b"", loop.time() - age_s, b"request-7", found=found, url=path.encode(), parts=parts
        )
        exchange.body_bytes, exchange.is_coded = len(body), "content_encoding" in headers
        assert self.desk.wants(exchange)
        return answer, self.desk.take(exchange, answer.set_result)

    async def ask(self, path: str, body: bytes, age_s: float = 0.0, **headers: str) -> HttpResponse:
        return await self.send(path, body, age_s, **headers)[0]


Scenario = Callable[[Front], Awaitable[None]]


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def front(loop: asyncio.Runner) -> Iterator[Front]:
    """One for all tests: its decoder takes half a second to start."""
    made = Front(plane())
    yield made
    loop.run(made.desk.ended())


def play(loop: asyncio.Runner, front: Front, scenario: Scenario) -> None:
    async def run() -> None:
        async with asyncio.timeout(120):
            await scenario(front)

    loop.run(run())


def same(left: HttpResponse, right: HttpResponse) -> bool:
    def all_of(one: HttpResponse) -> Any:
        return one.status, one.content_type, one.headers, one.refusal, one.body + b"".join(one.tail)

    return all_of(left) == all_of(right)


ASKED: list[tuple[str, str, bytes, dict[str, str]]] = [
    ("tfs", "/v1/models/m:predict", TFS, {}),
    ("tfs numbers", "/v1/models/m:predict", MANY, {}),
    ("tfs columns", "/v1/models/m:predict", TFS.replace(b"instances", b"inputs"), {}),
    ("tfs torn", "/v1/models/m:predict", TFS[:-1], {}),
    ("tfs word", "/v1/models/m:predict", TFS[:-3] + b',"x"]]}', {}),
    ("tfs ragged", "/v1/models/m:predict", TFS[:-3] + b",1]]}", {}),
    ("tfs out of range", "/v1/models/m:predict", TFS.replace(b"0.25", b"1e39", 1), {}),
    ("tfs twice", "/v1/models/m:predict", TFS[:-1] + b',"instances":[]}', {}),
    ("tfs spaces", "/v1/models/m:predict", b" " * (MAX_OWN_BYTES + 1), {}),
    ("tfs deep", "/v1/models/m:predict", b"[" * (MAX_OWN_BYTES + 1), {}),
    ("tfs unknown model", "/v1/models/nobody:predict", TFS, {}),
    ("tfs unknown version", "/v1/models/m/versions/9:predict", TFS, {}),
    ("tfs unknown label", "/v1/models/m/labels/none:predict", TFS, {}),
    ("tfs unknown signature", "/v1/models/m:predict", TFS[:-1] + b',"signature_name":"none"}', {}),
    ("tfs coded", "/v1/models/m:predict", zlib.compress(TFS), {"content_encoding": "deflate"}),
    ("tfs bomb", "/v1/models/m:predict", zlib.compress(b" " * (3 << 20)), {"content_encoding": "deflate"}),
    ("tfs bad timeout", "/v1/models/m:predict", TFS, {"x_request_timeout_ms": "soon"}),
    ("classify", "/v1/models/m:classify", TFS, {}),
    ("v2", "/v2/models/m/infer", V2, {}),
    ("v2 binary out", "/v2/models/m/infer", V2[:-1] + b',"parameters":{"binary_data_output":true}}', {}),
    ("v2 wrong shape", "/v2/models/m/infer", V2.replace(b"[5,", b"[4,", 1), {}),
    ("v2 long header", "/v2/models/m/infer", V2 + b"abcd", {"inference_header_content_length": str(len(V2))}),
    ("generate", "/v2/models/m/generate", f'{{"x":{ROW},"parameters":{{"pad":"{"x" * MAX_OWN_BYTES}"}}}}'.encode(), {}),
    ("predict", "/models/m/predict", f'{PAD}{{"input":{ROWS}}}'.encode(), {}),
    ("predict words", "/models/words/predict", json.dumps({"input": ["a", PICTURE]}).encode(), {}),
    ("predict item", "/models/words/predict", json.dumps({"input": PICTURE}).encode(), {}),
    ("predict unnamed", "/predict", f'{PAD}{{"input":{ROWS}}}'.encode(), {}),
    ("predict by key", "/models/m/predict?top=1", f'{PAD}{{"data":{ROWS}}}'.encode(), {}),
    ("predict form", "/models/m/predict", b"x" * (MAX_OWN_BYTES + 1), {"content_type": "multipart/form-data; boundary=b"}),
    ("predict text", "/models/m/predict", TFS, {"content_type": "application/xml"}),
]


def test_every_answer_is_the_one_that_the_front_would_give(loop: asyncio.Runner, front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    found: dict[str, bool] = {}

    async def scenario(front: Front) -> None:
        for name, path, body, headers in ASKED:
            own = Api(front.plane, LIMITS).ask("POST", path, body, {key.replace("_", "-"): value for key, value in headers.items()})
            if "unnamed" in name or "form" in name:
                # The front would refuse these before it looks at the body: the decoder is asked all the same.
                monkeypatch.setattr(front.desk, "wants", lambda exchange: True)
            got = await front.ask(path, body, **headers)
            found[name] = same(got, own)
            assert found[name], (name, got.status, got.body[:300], own.status, own.body[:300])
        assert front.handled == []
        soft, hard = resource.prlimit(front.desk.pid, resource.RLIMIT_DATA)
        assert 0 < soft == hard < 2 << 30
        monkeypatch.setattr(front.plane, "refusal", Overloaded("No.", retry_after_s=7.0))
        refused = await front.ask("/v1/models/m:predict", TFS)
        assert (refused.status, refused.headers, refused.refusal) == (429, ((b"retry-after", b"7"),), "QUEUE_FULL")
        # What its version has counted is not counted again.
        front.plane.refusal.is_counted = True  # type: ignore[union-attr]
        assert (await front.ask("/v1/models/m:predict", TFS)).refusal == ""

    play(loop, front, scenario)

    assert len(found) == len(ASKED)


def test_a_body_that_waits_is_read_when_the_one_before_was_whoever_left(loop: asyncio.Runner, front: Front) -> None:
    async def scenario(front: Front) -> None:
        before = len(front.plane.requests)
        asked = [front.send("/v1/models/m:predict", TFS) for _ in range(4)]
        asked[0][1]()
        asked[2][1]()
        answers = [await asked[index][0] for index in (1, 3)]
        assert [answer.status for answer in answers] == [200, 200]
        assert not asked[0][0].done()
        # One that leaves while it runs, or when it was answered, changes nothing.
        asked[3][1]()
        assert len(front.plane.requests) - before == 2
        assert not front.desk.is_reading

    play(loop, front, scenario)


def test_a_decoder_that_dies_costs_the_body_it_was_reading_and_no_other(loop: asyncio.Runner, front: Front) -> None:
    async def scenario(front: Front) -> None:
        assert (await front.ask("/v1/models/m:predict", TFS)).status == 200
        dead = front.desk.pid
        os.kill(dead, signal.SIGSTOP)
        asked = [front.send("/v1/models/m:predict", TFS)[0] for _ in range(2)]
        while not front.desk.is_reading:
            await asyncio.sleep(0)
        os.kill(dead, signal.SIGKILL)
        first, second = [await one for one in asked]
        assert (first.status, second.status) == (500, 200)
        assert json.loads(first.body)["error"]["code"] == "DECODER_DIED"
        assert front.desk.pid not in (0, dead)

    play(loop, front, scenario)


def test_a_body_that_is_not_read_by_its_deadline_is_answered_then_and_its_reader_replaced(loop: asyncio.Runner, front: Front) -> None:
    async def scenario(front: Front) -> None:
        assert (await front.ask("/v1/models/m:predict", TFS)).status == 200
        stuck = front.desk.pid
        os.kill(stuck, signal.SIGSTOP)
        late = await front.ask("/v1/models/m:predict", TFS, age_s=29.7)
        assert (late.status, json.loads(late.body)["error"]["code"]) == (504, "DEADLINE_EXCEEDED")
        assert (await front.ask("/v1/models/m:predict", TFS)).status == 200
        assert front.desk.pid != stuck

    play(loop, front, scenario)


def test_more_than_there_is_room_for_is_told_to_come_again(loop: asyncio.Runner) -> None:
    async def scenario(front: Front) -> None:
        asked = [front.send("/v1/models/m:predict", TFS) for _ in range(4)]
        refused = asked[3][0].result()
        assert (refused.status, json.loads(refused.body)["error"]["code"]) == (429, "QUEUE_FULL")
        assert dict(refused.headers)[b"retry-after"] == b"1"
        for _, leave in asked:
            leave()
        coded = zlib.compress(TFS)
        tiny = [front.send("/v1/models/m:predict", coded, content_encoding="deflate") for _ in range(MAX_WAITING + 2)]
        assert tiny[-1][0].result().status == 429
        for _, leave in tiny:
            leave()

        # All have left before anything was read.
        await front.desk.ended()
        assert front.desk.pid == 0

    play(loop, Front(plane(), max_waiting_bytes=3 * len(TFS)), scenario)


def test_a_body_whose_version_was_replaced_while_it_was_read_is_read_again(loop: asyncio.Runner) -> None:
    class Moving(HonestPlane):
        finds = 0

        def find(self, name: str, *, number: int | None = None, label: str = "") -> Any:
            # The one that the decoder was told of is gone when its request comes.
            self.finds += 1
            found = super().find(name, number=number, label=label)
            if self.finds == 2:
                found = version(found.name, tiny_models.identity("float32", ("N", WIDE)), number=2)
                found.digest = "sha256:" + "1" * 64
            return found

    async def scenario(front: Front) -> None:
        answer = await front.ask("/v1/models/m:predict", TFS)
        assert (answer.status, len(front.plane.requests)) == (200, 1)
        # The decoder asked twice, and each time what it had read was compared with what is served.
        assert front.plane.finds == 4  # type: ignore[attr-defined]

        await front.desk.ended()

    play(loop, Front(Moving(version("m", tiny_models.identity("float32", ("N", WIDE))))), scenario)


def test_an_answer_in_parts_is_given_by_the_front(loop: asyncio.Runner, front: Front) -> None:
    async def scenario(front: Front) -> None:
        body = f'{{"x":{ROW},"parameters":{{"pad":"{"x" * MAX_OWN_BYTES}"}}}}'.encode()
        await front.ask("/v2/models/m/generate_stream", body)
        assert front.handled == [body]

    play(loop, front, scenario)


def test_without_a_descriptor_for_a_body_its_request_is_told_to_come_again(loop: asyncio.Runner, front: Front) -> None:
    async def scenario(front: Front) -> None:
        assert (await front.ask("/v1/models/m:predict", TFS)).status == 200
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        try:
            refused = await front.ask("/v1/models/m:predict", TFS)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert (refused.status, json.loads(refused.body)["error"]["code"]) == (503, "NO_DECODER")
        assert (await front.ask("/v1/models/m:predict", TFS)).status == 200

    play(loop, front, scenario)
