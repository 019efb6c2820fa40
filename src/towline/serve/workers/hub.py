"""The front's end of the channel to the supervisor: workers are asked for, killed and mourned through it."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from towline.core import channel

_REMEMBERED_EXITS = 256
_EXIT_WAIT_S = 1.0
_NAMES = {int(number): number.name for number in signal.Signals}

Handler = Callable[[dict[str, Any], list[int]], None]


class Exit:
    """How a worker ended: by a signal, or by itself with a status. Unknown when nobody could tell in time."""

    def __init__(self, signal_number: int = 0, status: int = 0, *, out_of_memory: bool = False, is_known: bool = True) -> None:
        self.signal_number = signal_number
        self.status = status
        self.out_of_memory = out_of_memory
        self.is_known = is_known

    def __str__(self) -> str:
        if self.signal_number:
            return f"died of {_NAMES.get(self.signal_number, f'signal {self.signal_number}')}"
        return f"ended with status {self.status}" if self.is_known else "ended"


class Hub:
    """Sends and receives on the supervisor's channel. `on_message` gets all that is not about workers' ends."""

    def __init__(self, loop: asyncio.AbstractEventLoop, end: socket.socket, on_message: Handler, on_lost: Callable[[], None]) -> None:
        self._loop = loop
        self._end = end
        self._on_message = on_message
        self._on_lost = on_lost
        self._exits: OrderedDict[int, Exit] = OrderedDict()
        self._mourners: dict[int, asyncio.Future[Exit]] = {}
        end.setblocking(False)
        loop.add_reader(end.fileno(), self._on_readable)

    def spawn(self, engine: str, link: socket.socket, control: socket.socket) -> None:
        """Ask for a worker on these ends, which are closed here."""
        self.send({"to": "supervisor", "do": "spawn", "engine": engine}, (link.fileno(), control.fileno()))
        link.close()
        control.close()

    def kill(self, pid: int) -> None:
        if pid:
            self.send({"to": "supervisor", "do": "kill", "pid": pid})

    def send(self, message: dict[str, Any], descriptors: tuple[int, ...] = ()) -> None:
        try:
            channel.send(self._end, message, descriptors)
        except BlockingIOError:
            # The supervisor is not reading. What we tell it is repeated (states) or missed by timeout (spawn): never block the loop.
            pass
        except OSError:
            self._on_lost()

    async def exit_of(self, pid: int) -> Exit:
        """How the worker with this pid ended; waits a moment for the supervisor to find out."""
        if pid in self._exits:
            return self._exits[pid]
        if not pid:
            return Exit(is_known=False)
        future = self._mourners.setdefault(pid, self._loop.create_future())
        try:
            return await asyncio.wait_for(asyncio.shield(future), _EXIT_WAIT_S)
        except TimeoutError:
            return Exit(is_known=False)
        finally:
            self._mourners.pop(pid, None)

    def _on_readable(self) -> None:
        try:
            received = channel.receive(self._end)
        except BlockingIOError:
            return
        if received is None:
            self._loop.remove_reader(self._end.fileno())
            self._on_lost()
            return
        message, descriptors = received
        if message.get("do") == "exited":
            self._remember(int(message["pid"]), Exit(message["signal"], message["status"], out_of_memory=message["out_of_memory"]))
            for descriptor in descriptors:
                os.close(descriptor)
        else:
            self._on_message(message, descriptors)

    def _remember(self, pid: int, end: Exit) -> None:
        self._exits[pid] = end
        while len(self._exits) > _REMEMBERED_EXITS:
            self._exits.popitem(last=False)
        if pid in self._mourners and not self._mourners[pid].done():
            self._mourners[pid].set_result(end)
