"""The control channel to one worker: questions that it answers one after the other, beside its batches and never in their way."""

from __future__ import annotations

import asyncio
import os
import socket
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from towline.core import channel
from towline.core.errors import TowlineError, Unavailable, VersionError
from towline.core.worker_messages import error_from


@dataclass(frozen=True)
class Loading:
    """What a worker is asked to load, and how: the sealed folder and its digest, the manifest's JSON; `threads` that one run may use."""

    folder: str
    digest: str
    manifest: str
    device: str
    threads: int = 1


class Control:
    """`on_hello` is called with the pid that the worker says, `on_end` when it hangs up or says what no worker says."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, end: socket.socket, *, on_hello: Callable[[int], None], on_end: Callable[[], None]
    ) -> None:
        self._loop = loop
        self._end = end
        self._on_hello = on_hello
        self._on_end = on_end
        self._answers: deque[asyncio.Future[dict[str, Any]]] = deque()
        end.setblocking(False)
        loop.add_reader(end.fileno(), self._on_readable)

    @property
    def is_closed(self) -> bool:
        return self._end.fileno() < 0

    async def ask(self, message: dict[str, Any], descriptors: tuple[int, ...] = (), *, timeout_s: float) -> dict[str, Any]:
        """Its answer. Raises what it answers with (VersionError, say); Unavailable when it is gone or silent for `timeout_s`."""
        if self.is_closed:
            raise Unavailable("The worker process has ended.")
        try:
            return await asyncio.wait_for(asyncio.shield(self.begin_to_ask(message, descriptors)), timeout_s)
        except TimeoutError:
            raise Unavailable(f"The worker did not answer '{message['do']}' within {timeout_s:g} s.", code="LOAD_TIMEOUT") from None

    def begin_to_ask(self, message: dict[str, Any], descriptors: tuple[int, ...] = ()) -> asyncio.Future[dict[str, Any]]:
        future: asyncio.Future[dict[str, Any]] = self._loop.create_future()
        self._answers.append(future)
        self.say(message, descriptors)
        return future

    def say(self, message: dict[str, Any], descriptors: tuple[int, ...] = ()) -> None:
        """What is not answered. To a worker that is dying nothing is said: its end is seen in a moment."""
        try:
            channel.send(self._end, message, descriptors)
        except OSError:
            pass

    def _on_readable(self) -> None:
        try:
            received = channel.receive(self._end)
        except BlockingIOError:
            return
        except (OSError, TowlineError):
            received = None
        if received is None:
            self._on_end()
            return
        message, descriptors = received
        for descriptor in descriptors:
            os.close(descriptor)
        try:
            self._heed(message)
        except (TypeError, ValueError):
            # Ours never says such a thing: something else speaks through it.
            self._on_end()

    def _heed(self, message: dict[str, Any]) -> None:
        if "hello" in message:
            self._on_hello(int(message["hello"]))
        elif self._answers:
            future = self._answers.popleft()
            if future.done():
                return
            if isinstance(message.get("ok"), dict):
                future.set_result(message["ok"])
            else:
                future.set_exception(error_from(message.get("error"), VersionError))

    def close(self, error: TowlineError) -> None:
        """Close our end; whoever waits for an answer gets `error`."""
        self._loop.remove_reader(self._end.fileno())
        self._end.close()
        for future in self._answers:
            if not future.done():
                future.set_exception(error)
                future.exception()
