"""uvicorn on the socket that the supervisor holds, with our own protocol in place of its: nothing is left to ASGI, or to signals."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import uvicorn

from towline.serve.protocols.gate import Gate
from towline.serve.protocols.http import protocol_for

# What the kernel holds of connections that nobody has accepted yet.
_BACKLOG = 2048


class HttpServer(uvicorn.Server):
    """Its `serve([listener])` answers until `should_exit` is set and all are answered, or `drain_timeout_s` has passed since."""

    def __init__(self, gate: Gate, *, drain_timeout_s: float) -> None:
        super().__init__(
            uvicorn.Config(
                _nothing_here,
                http=protocol_for(gate),
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                date_header=False,
                backlog=_BACKLOG,
                timeout_graceful_shutdown=max(1, round(drain_timeout_s)),
            )
        )

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the supervisor's; it tells us when to stop."""
        yield


async def _nothing_here(scope: Any, receive: Any, send: Any) -> None:
    """Every path is answered by the gate's routes; nothing falls through to ASGI."""
