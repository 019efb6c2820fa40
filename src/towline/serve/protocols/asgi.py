"""Our routes as an ASGI 3 application, for servers and frameworks that are not ours. Limits and deadlines are kept here.

Source: the ASGI specification 3.0, HTTP and lifespan 2.5.
"""

from __future__ import annotations

import asyncio
import urllib.parse
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from towline.core.errors import InvalidRequest, TowlineError
from towline.serve.contract import HttpRequest, HttpResponse
from towline.serve.protocols import refusals
from towline.serve.protocols.gate import Gate
from towline.serve.protocols.pace import Pace
from towline.serve.protocols.table import MAX_TARGET_BYTES

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_GRACE_S = 5.0


class _Gone(Exception):
    """The client went away before its answer."""


async def answer(gate: Gate, scope: Scope, receive: Receive, send: Send, *, prefix: str = "") -> None:
    """Answer one HTTP request. `prefix` is cut off its path, beside the root path that the scope names."""
    headers = [(bytes(name), bytes(value)) for name, value in scope["headers"]]
    call = _Call(gate, _request(gate, scope, headers, prefix), receive, send)
    try:
        await call.run()
    except _Gone:
        pass


async def refuse(error: TowlineError, send: Send) -> None:
    """Answer a request that cannot even be read."""
    response = refusals.response_to(error)
    headers = [(b"content-type", response.content_type), (b"content-length", b"%d" % len(response.body)), *response.headers]
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": response.body})


def _request(gate: Gate, scope: Scope, headers: list[tuple[bytes, bytes]], prefix: str) -> HttpRequest:
    given = next((value for name, value in headers if name == b"x-request-id"), b"")
    request_id = given if gate.is_request_id(given) else gate.new_id()
    # The raw path, because a percent-encoded slash in a name is no slash. Not all servers give it.
    raw: bytes = scope.get("raw_path") or urllib.parse.quote(scope["path"], safe="/:@!$&'()*+,;=~-._").encode()
    path = raw.partition(b"?")[0].decode("latin-1")
    for front in (scope.get("root_path", ""), prefix):
        front = urllib.parse.quote(front.rstrip("/"), safe="/:@!$&'()*+,;=~-._%")
        if front and (path == front or path.startswith(f"{front}/")):
            path = path[len(front) :] or "/"
    query = scope.get("query_string", b"").decode("latin-1")
    return HttpRequest(scope["method"], path, query, headers, b"", gate.clock(), request_id)


class _Call:
    def __init__(self, gate: Gate, request: HttpRequest, receive: Receive, send: Send) -> None:
        self._gate = gate
        self._limits = gate.limits
        self._request = request
        self._receive = receive
        self._send = send
        self._held_bytes = 0

    async def run(self) -> None:
        request, gate = self._request, self._gate
        target = request.path.encode("latin-1") + (b"?" + request.query.encode("latin-1") if request.query else b"")
        try:
            self._check_head(target)
            found = gate.routes.find(request.method.encode("latin-1"), target)
            refusal = gate.check_key(request.headers, found, request.method.encode("latin-1"))
            if refusal is not None:
                raise refusal
            request.body = await self._body()
        except TowlineError as error:
            await self._respond(refusals.response_to(error, request.id))
            return
        finally:
            gate.held_bytes -= self._held_bytes
        request.path, request.query = found.path, found.query
        replied: asyncio.Future[HttpResponse] = asyncio.get_running_loop().create_future()
        stream = _Stream()

        def reply(response: HttpResponse) -> None:
            if not replied.done():
                replied.set_result(response)
                if response.begin is not None:
                    response.begin(stream)

        cancel = gate.handle(found, request, reply)
        try:
            response = await self._unless_gone(replied)
            if response.begin is None:
                await self._respond(response)
            else:
                await self._respond_in_parts(response, stream)
            cancel = None
        finally:
            stream.is_over = True
            if cancel is not None:
                cancel()

    def _check_head(self, target: bytes) -> None:
        """The server around us has parsed the head by its own rules; its size counts by ours."""
        size = len(target) + sum(len(name) + len(value) + 4 for name, value in self._request.headers)
        if len(self._request.headers) > self._limits.max_headers or size > self._limits.max_header_bytes or len(target) > MAX_TARGET_BYTES:
            raise refusals.headers_too_large(self._limits)
        if not target.startswith(b"/"):
            raise InvalidRequest("The request target is not a path.", code="BAD_TARGET", field="target")

    async def _body(self) -> bytes:
        """The whole body. Raises TowlineError when it is too large, too slow, or there is no room for more of them."""
        self._check_announced()
        parts: list[bytes] = []
        pace = Pace(self._gate.clock(), 0)
        while True:
            try:
                message = await asyncio.wait_for(self._receive(), _GRACE_S if self._limits.min_body_bytes_per_s else None)
            except TimeoutError:
                raise refusals.request_timeout() from None
            if message["type"] == "http.disconnect":
                raise _Gone
            part = message.get("body", b"")
            if part:
                parts.append(part)
                self._held_bytes += len(part)
                self._gate.held_bytes += len(part)
            if self._held_bytes > self._limits.max_request_bytes:
                raise refusals.body_too_large(self._limits)
            if self._gate.held_bytes > self._limits.max_waiting_bytes:
                raise refusals.too_many_bytes()
            if not message.get("more_body", False):
                return parts[0] if len(parts) == 1 else b"".join(parts)
            if pace.is_too_slow(self._held_bytes, self._gate.clock(), min_bytes_per_s=self._limits.min_body_bytes_per_s, grace_s=_GRACE_S):
                raise refusals.request_timeout()

    def _check_announced(self) -> None:
        length = self._request.header(b"content-length")
        if length is not None and length.isdigit() and int(length[:19]) > self._limits.max_request_bytes:
            raise refusals.body_too_large(self._limits)

    async def _unless_gone(self, replied: asyncio.Future[HttpResponse]) -> HttpResponse:
        """The answer; raises _Gone when the client leaves before. What is done by the time it is asked for costs no task."""
        if replied.done():
            return replied.result()
        leaving = asyncio.ensure_future(self._until_gone())
        try:
            waiting: set[asyncio.Future[Any]] = {replied, leaving}
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if not replied.done():
                raise _Gone
            return replied.result()
        finally:
            leaving.cancel()

    async def _until_gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def _respond(self, response: HttpResponse) -> None:
        length = (b"content-length", b"%d" % len(response.body))
        await self._start(response, length)
        await self._send({"type": "http.response.body", "body": b"" if self._request.method == "HEAD" else response.body})

    async def _respond_in_parts(self, response: HttpResponse, stream: _Stream) -> None:
        """Part by part: the next is asked for when the server has taken the one before, or buffers it within its bounds."""
        await self._start(response)
        leaving = asyncio.ensure_future(self._until_gone())
        try:
            while (part := await stream.next(leaving)) is not None:
                raw, more = part
                if raw:
                    await self._send({"type": "http.response.body", "body": raw, "more_body": True})
                more()
        finally:
            leaving.cancel()
        await self._send({"type": "http.response.body", "body": b""})

    async def _start(self, response: HttpResponse, *more: tuple[bytes, bytes]) -> None:
        self._gate.count(response)
        headers = [(b"content-type", response.content_type), *more, (b"x-request-id", self._request.id), *response.headers]
        trace = self._request.header(b"traceparent")
        if trace is not None and self._gate.trace_line(trace):
            headers.append((b"traceparent", trace))
        await self._send({"type": "http.response.start", "status": response.status, "headers": headers})


class _Stream:
    """The open end of an answer in parts, given to whoever makes them (HttpStream)."""

    def __init__(self) -> None:
        self.is_over = False
        self._parts: asyncio.Queue[tuple[bytes, Callable[[], None]] | None] = asyncio.Queue()

    def write(self, raw: bytes, more: Callable[[], None]) -> None:
        # Whoever writes waits for `more`: there is never a second part in the queue.
        if not self.is_over:
            self._parts.put_nowait((raw, more))

    def end(self) -> None:
        self._parts.put_nowait(None)

    async def next(self, leaving: asyncio.Future[None]) -> tuple[bytes, Callable[[], None]] | None:
        """The next part, None at the end. Raises _Gone when the client leaves first."""
        part = asyncio.ensure_future(self._parts.get())
        waiting: set[asyncio.Future[Any]] = {part, leaving}
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if part.done():
            return part.result()
        part.cancel()
        raise _Gone
