"""An ASGI server of a few lines, in memory: what arrives when, and when the client leaves, is the test's to choose."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any

App = Callable[[Any, Any, Any], Awaitable[None]]


@dataclass
class Answer:
    status: int = 0
    headers: dict[bytes, bytes] = field(default_factory=dict)
    parts: list[bytes] = field(default_factory=list)

    @property
    def body(self) -> bytes:
        return b"".join(self.parts)


class Call:
    """One request. `arrives` puts a message in front of the application, `leave` is the client going away."""

    def __init__(self, app: App, method: str, path: str, *, headers: dict[str, str] | None = None, **scope: Any) -> None:
        self._app = app
        self._scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "path": path.partition("?")[0],
            "raw_path": path.partition("?")[0].encode(),
            "query_string": path.partition("?")[2].encode(),
            "root_path": "",
            "headers": [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()],
            **scope,
        }
        self._incoming: asyncio.Queue[MutableMapping[str, Any]] = asyncio.Queue()
        self.answer = Answer()

    def arrives(self, body: bytes = b"", *, more: bool = False) -> Call:
        self._incoming.put_nowait({"type": "http.request", "body": body, "more_body": more})
        return self

    def leave(self) -> Call:
        self._incoming.put_nowait({"type": "http.disconnect"})
        return self

    async def run(self) -> Answer:
        await self._app(self._scope, self._incoming.get, self._send)
        return self.answer

    async def _send(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.answer.status, self.answer.headers = message["status"], dict(message["headers"])
        else:
            self.answer.parts.append(message.get("body", b""))


async def ask(app: App, method: str, path: str, body: bytes = b"", **more: Any) -> Answer:
    return await Call(app, method, path, **more).arrives(body).run()
