"""Is it alive, ready, started, and what does it count: `/livez /readyz /startupz /metrics`."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Protocol

import orjson

from towline.serve.contract import HttpRequest, HttpResponse, Reply, Route

_EXPOSITION = b"text/plain; version=0.0.4; charset=utf-8"


class Health(Protocol):
    is_draining: bool

    def is_ready(self) -> bool: ...

    def is_started(self) -> bool: ...

    def not_ready(self) -> list[str]: ...


def routes(health: Health, metrics: Callable[[], bytes]) -> tuple[Route, ...]:
    def live(request: HttpRequest, params: Mapping[str, str], reply: Reply) -> None:
        reply(HttpResponse(200, b'{"status":"alive"}'))

    def ready(request: HttpRequest, params: Mapping[str, str], reply: Reply) -> None:
        if health.is_ready():
            reply(HttpResponse(200, b'{"status":"ready"}'))
            return
        status = "draining" if health.is_draining else "not ready"
        reply(HttpResponse(503, orjson.dumps({"status": status, "waiting_for": health.not_ready()})))

    def started(request: HttpRequest, params: Mapping[str, str], reply: Reply) -> None:
        is_started = health.is_started()
        reply(HttpResponse(200 if is_started else 503, b'{"status":"started"}' if is_started else b'{"status":"starting"}'))

    def exposition(request: HttpRequest, params: Mapping[str, str], reply: Reply) -> None:
        reply(HttpResponse(200, metrics(), _EXPOSITION))

    return (
        Route("GET", "/livez", live, is_open=True),
        Route("GET", "/readyz", ready, is_open=True),
        Route("GET", "/startupz", started, is_open=True),
        Route("GET", "/metrics", exposition),
    )


class Scrape:
    """What `/metrics` answers. Kept for ten times as long as it took to write, so that no storm of scrapes costs more than a tenth."""

    def __init__(self, write: Callable[[], bytes]) -> None:
        self._write = write
        self._page = b""
        self._until_s = 0.0

    def __call__(self) -> bytes:
        began = time.monotonic()
        if began >= self._until_s:
            self._page = self._write()
            ended = time.monotonic()
            self._until_s = ended + 10 * (ended - began)
        return self._page
