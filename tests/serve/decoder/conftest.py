"""A connection over a transport in memory, around a gate of the test's own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import uvicorn

from towline.serve.protocols.gate import Gate
from towline.serve.protocols.http import GuardedProtocol, protocol_for


class Nowhere(asyncio.Transport):
    """Takes everything."""

    def write(self, data: bytes) -> None:  # type: ignore[override]
        pass

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


@pytest.fixture
def wires_around() -> Iterator[Callable[[Gate], GuardedProtocol]]:
    loop = asyncio.new_event_loop()

    def wire(gate: Gate) -> GuardedProtocol:
        config = uvicorn.Config(_no_app, http=protocol_for(gate), ws="none", lifespan="off", log_config=None, access_log=False)
        config.load()
        made: Any = config.http_protocol_class(
            config=config,
            server_state=uvicorn.Server(config).server_state,
            app_state={},
            _loop=loop,  # type: ignore[call-arg]
        )
        made.connection_made(Nowhere())
        return made

    yield wire
    loop.close()


async def _no_app(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError("nothing falls through to ASGI")
