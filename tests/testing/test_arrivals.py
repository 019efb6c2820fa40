"""An open loop sends at its own pace, whatever comes back, and accounts for every request."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator

import pytest

from towline.testing.arrivals import Arrivals


class Desk:
    """Answers the nth request with 200, 429 with Retry-After, or not at all, in turn."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.asked = 0
        self.server = self.loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port = self.server.sockets[0].getsockname()[1]
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Until it is not answered, or the client leaves.
        with contextlib.closing(writer), contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while await reader.readuntil(b"\r\n\r\n"):
                self.asked += 1
                if self.asked % 3 == 0:
                    break
                head = b"HTTP/1.1 200 OK\r\n" if self.asked % 3 == 1 else b"HTTP/1.1 429 Too Many\r\nRetry-After: 1\r\n"
                writer.write(head + b"Content-Length: 2\r\n\r\nok")

    async def _end(self) -> None:
        """What is left of whoever was served would else be told of in the test that runs next."""
        self.server.close()
        served = asyncio.all_tasks() - {asyncio.current_task()}
        for one in served:
            one.cancel()
        await asyncio.gather(*served, return_exceptions=True)

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self.loop).result(60)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


@pytest.fixture
def desk() -> Iterator[Desk]:
    made = Desk()
    yield made
    made.close()


def test_every_request_is_accounted_for(desk: Desk) -> None:
    load = Arrivals("127.0.0.1", desk.port, b"GET / HTTP/1.1\r\n\r\n", rate_per_s=300, seconds=0.1).run()

    assert (load.sent, desk.asked) == (30, 30)
    assert (load.lost, load.statuses) == (10, {200: 10, 429: 10})
    assert len(load.refused) == 10
    assert all(one.has_retry_after for one in load.refused)
