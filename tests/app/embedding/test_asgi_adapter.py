"""Our routes as an ASGI application: paths, limits and clients that leave, without a server or a model."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import pytest
from asgi_caller import Answer, Call, ask

from towline.core.config import Settings
from towline.core.errors import TowlineError, Unauthenticated
from towline.serve.contract import HttpRequest, HttpResponse, HttpStream, Reply, Route
from towline.serve.protocols import asgi
from towline.serve.protocols.gate import Gate
from towline.serve.protocols.table import RouteTable


class Host:
    """`/echo` answers at once, `/later` when told to, `/parts` in three parts, `/n/NAME` with the name."""

    def __init__(self, *, prefix: str = "", **settings: Any) -> None:
        self.now_s = 100.0
        self.cancelled = asyncio.Event()
        self.waiting: asyncio.Queue[Reply] = asyncio.Queue()
        self.seen: list[HttpRequest] = []
        self.written: list[bytes] = []
        self._prefix = prefix
        routes = [
            Route("POST", "/echo", self._echo),
            Route("GET", "/echo", self._echo),
            Route("POST", "/later", self._later),
            Route("GET", "/parts", self._parts),
            Route("GET", "/n/(?P<name>[^/]+)", self._named),
            Route("GET", "/broken", self._broken),
        ]
        self.gate = Gate(RouteTable(routes), Settings(**settings), clock=lambda: self.now_s, boot_id="test")

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await asgi.answer(self.gate, scope, receive, send, prefix=self._prefix)

    def _echo(self, request: HttpRequest, params: Mapping[str, str], reply: Reply) -> None:
        self.seen.append(request)
        reply(HttpResponse(200, request.body, b"text/plain", ((b"x-more", b"1"),)))

    def _named(self, request: HttpRequest, params: Mapping[str, str], reply: Reply) -> None:
        reply(HttpResponse(200, params["name"].encode()))

    def _later(self, request: HttpRequest, params: Mapping[str, str], reply: Reply) -> Callable[[], None]:
        self.waiting.put_nowait(reply)
        return self.cancelled.set

    def _parts(self, request: HttpRequest, params: Mapping[str, str], reply: Reply) -> Callable[[], None]:
        left = [b"one,", b"two,", b"three"]

        def begin(stream: HttpStream) -> None:
            def go_on() -> None:
                if left:
                    part = left.pop(0)
                    self.written.append(part)
                    stream.write(part, go_on)
                else:
                    stream.end()

            go_on()

        reply(HttpResponse(200, content_type=b"text/event-stream", begin=begin))
        return self.cancelled.set

    def _broken(self, request: HttpRequest, params: Mapping[str, str], reply: Reply) -> None:
        raise ZeroDivisionError


def run(work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    return asyncio.run(asyncio.wait_for(work(), 120))


def answer_of(method: str, path: str, body: bytes = b"", **more: Any) -> Answer:
    settings = more.pop("settings", {})
    found: Answer = run(lambda: ask(Host(**settings), method, path, body, **more))
    return found


def test_a_body_in_pieces_arrives_whole_and_the_answer_has_its_headers() -> None:
    async def work() -> Answer:
        call = Call(Host(), "POST", "/echo", headers={"X-Request-Id": "abc"})
        return await call.arrives(b"one ", more=True).arrives(b"", more=True).arrives(b"two").run()

    answer = run(work)

    assert (answer.status, answer.body) == (200, b"one two")
    assert answer.headers == {b"content-type": b"text/plain", b"content-length": b"7", b"x-request-id": b"abc", b"x-more": b"1"}


@pytest.mark.parametrize(
    ("path", "scope", "prefix"),
    [
        ("/echo", {}, ""),
        ("/ml/echo", {"root_path": "/ml"}, ""),
        ("/echo", {"root_path": "/ml"}, ""),
        ("/ml/echo", {}, "/ml"),
        ("/ml/echo", {}, "/ml/"),
        ("/a b/echo", {"root_path": "/a b", "raw_path": b"/a%20b/echo"}, ""),
        ("/echo", {"raw_path": None}, ""),
    ],
)
def test_the_path_below_where_it_is_mounted_counts(path: str, scope: dict[str, Any], prefix: str) -> None:
    assert answer_of("POST", path, b"x", settings={"prefix": prefix}, **scope).body == b"x"


def test_a_longer_name_than_the_mount_is_no_mount() -> None:
    assert answer_of("POST", "/mlecho", settings={"prefix": "/ml"}).status == 404


def test_names_are_decoded_once_and_an_encoded_slash_is_none() -> None:
    assert answer_of("GET", "/n/a/b", raw_path=b"/n/a%2Fb").body == b"a/b"
    assert answer_of("GET", "/n/a%2F", raw_path=b"/n/a%252F").body == b"a%2F"


def test_what_is_not_there_or_not_allowed_is_told_as_ever() -> None:
    assert answer_of("GET", "/nowhere").status == 404
    wrong = answer_of("DELETE", "/echo")
    assert (wrong.status, wrong.headers[b"allow"]) == (405, b"GET, POST")
    assert answer_of("GET", "/broken").status == 500


def test_head_is_answered_without_a_body() -> None:
    answer = answer_of("HEAD", "/n/abc")

    assert (answer.status, answer.headers[b"content-length"], answer.body) == (200, b"3", b"")


def test_a_body_beyond_the_limit_is_refused_before_it_is_read_when_announced_and_while_it_is_when_not() -> None:
    settings = {"max_request_bytes": 1024}

    async def work() -> tuple[Answer, Answer]:
        announced = await Call(Host(**settings), "POST", "/echo", headers={"Content-Length": "2000"}).run()
        call = Call(Host(**settings), "POST", "/echo")
        for _ in range(3):
            call.arrives(bytes(500), more=True)
        return announced, await call.run()

    assert [one.status for one in run(work)] == [413, 413]


def test_bodies_that_arrive_together_share_one_bound_and_give_it_back() -> None:
    async def work() -> tuple[int, int, int]:
        host = Host(max_waiting_bytes=1 << 20)
        half = Call(host, "POST", "/echo").arrives(bytes(900_000), more=True)
        first = asyncio.ensure_future(half.run())
        await asyncio.sleep(0)
        refused = await ask(host, "POST", "/echo", bytes(900_000))
        half.arrives(b"")
        return refused.status, (await first).status, host.gate.held_bytes

    assert run(work) == (503, 200, 0)


def test_a_body_that_comes_too_slowly_is_refused() -> None:
    async def work() -> Answer:
        host = Host()
        call = Call(host, "POST", "/echo").arrives(b"x", more=True)
        running = asyncio.ensure_future(call.run())
        await asyncio.sleep(0)
        host.now_s += 60
        call.arrives(b"y", more=True).arrives(b"z")
        return await running

    assert run(work).status == 408


def test_too_many_headers_are_refused() -> None:
    assert answer_of("POST", "/echo", headers={f"x-{n}": "1" for n in range(200)}).status == 431


def test_a_client_that_leaves_cancels_its_work() -> None:
    async def work() -> Answer:
        host = Host()
        call = Call(host, "POST", "/later").arrives()
        running = asyncio.ensure_future(call.run())
        await host.waiting.get()
        call.leave()
        await host.cancelled.wait()
        return await running

    assert run(work).status == 0


def test_a_client_that_leaves_while_it_sends_is_not_answered() -> None:
    async def work() -> tuple[Answer, int, int]:
        host = Host()
        answer = await Call(host, "POST", "/echo").arrives(b"x", more=True).leave().run()
        return answer, host.gate.held_bytes, len(host.seen)

    answer, held_bytes, seen = run(work)
    assert (answer.status, held_bytes, seen) == (0, 0, 0)


def test_an_answer_that_comes_later_is_given_and_cancels_nothing() -> None:
    async def work() -> tuple[Answer, bool]:
        host = Host()
        running = asyncio.ensure_future(Call(host, "POST", "/later").arrives().run())
        (await host.waiting.get())(HttpResponse(200, b"done"))
        return await running, host.cancelled.is_set()

    answer, is_cancelled = run(work)
    assert (answer.body, is_cancelled) == (b"done", False)


def test_an_answer_in_parts_comes_at_the_pace_of_the_server() -> None:
    async def work() -> tuple[Host, Call]:
        host = Host()
        call = Call(host, "GET", "/parts").arrives()
        await call.run()
        return host, call

    host, call = run(work)
    assert call.answer.parts == [b"one,", b"two,", b"three", b""]
    assert b"content-length" not in call.answer.headers
    assert not host.cancelled.is_set()


def test_a_slow_reader_holds_up_the_parts_and_leaving_cancels_them() -> None:
    async def work() -> tuple[list[bytes], bool]:
        host = Host()
        call = Call(host, "GET", "/parts").arrives()
        is_sending, may_go_on = asyncio.Event(), asyncio.Event()
        real_send = call._send

        async def send(message: Any) -> None:
            await real_send(message)
            if message.get("body"):
                is_sending.set()
                await may_go_on.wait()

        call._send = send  # type: ignore[method-assign]
        running = asyncio.ensure_future(call.run())
        await is_sending.wait()
        made = list(host.written)
        running.cancel()
        await host.cancelled.wait()
        return made, host.cancelled.is_set()

    assert run(work) == ([b"one,"], True)


def test_a_key_is_asked_for_where_there_are_keys() -> None:
    class Refusing:
        def check_headers(self, headers: Any) -> None:
            raise Unauthenticated("No.")

    async def work() -> Answer:
        host = Host()
        host.gate._doorman = Refusing()  # type: ignore[assignment]
        return await ask(host, "POST", "/echo")

    assert run(work).status == 401


def test_a_refusal_before_anything_is_read_is_a_whole_answer() -> None:
    async def work() -> Answer:
        answer = Answer()

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                answer.status, answer.headers = message["status"], dict(message["headers"])
            else:
                answer.parts.append(message["body"])

        await asgi.refuse(TowlineError("Not now."), send)
        return answer

    answer = run(work)
    assert (answer.status, int(answer.headers[b"content-length"])) == (500, len(answer.body))


def test_a_trace_context_is_repeated_and_an_id_that_is_none_is_not() -> None:
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    good = answer_of("POST", "/echo", headers={"traceparent": trace})
    bad = answer_of("POST", "/echo", headers={"traceparent": "nonsense", "X-Request-Id": "two words"})

    assert good.headers[b"traceparent"] == trace.encode()
    assert b"traceparent" not in bad.headers
    assert bad.headers[b"x-request-id"].startswith(b"test-")
