"""Workers as children of this very process, for a data plane that has no supervisor: it lives inside somebody else's program. Linux."""

from __future__ import annotations

import asyncio
import os
import socket

from towline.core.child import OwnChild
from towline.serve.workers.hub import Exit
from towline.serve.workers.local import spawn_process

_EXIT_WAIT_S = 1.0
# A machine that is busy takes its time even over what was killed.
_END_WAIT_S = 30.0


class Children:
    """What a Pool asks of a supervisor.

    A worker is started fresh, half a second slower than a fork; its end is told by its pidfd, so that the program around us keeps its own
    SIGCHLD. Should this process end, the workers see their channels close, and end too.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._living: dict[int, tuple[OwnChild, asyncio.Future[Exit]]] = {}

    def spawn(self, engine: str, link: socket.socket, control: socket.socket) -> None:
        """Start a worker on these ends, which are closed here. Raises OSError."""
        try:
            child = spawn_process(engine, link, control)
        finally:
            link.close()
            control.close()
        ended: asyncio.Future[Exit] = self._loop.create_future()
        self._living[child.pid] = child, ended
        descriptor = os.pidfd_open(child.pid)
        self._loop.add_reader(descriptor, self._on_end, child, descriptor)

    def kill(self, pid: int) -> None:
        # What was reaped is no longer here: its number may be another process's by now.
        if pid in self._living:
            self._living[pid][0].kill()

    async def exit_of(self, pid: int) -> Exit:
        """How the worker with this pid ended; waits a moment for it to be known."""
        if pid not in self._living:
            return Exit(is_known=False)
        try:
            return await asyncio.wait_for(asyncio.shield(self._living[pid][1]), _EXIT_WAIT_S)
        except TimeoutError:
            return Exit(is_known=False)

    async def close(self) -> None:
        """Kill all, and wait until they are gone."""
        ends = [ended for _, ended in self._living.values()]
        for child, _ in list(self._living.values()):
            child.kill()
        if ends:
            await asyncio.wait(ends, timeout=_END_WAIT_S)

    def _on_end(self, child: OwnChild, descriptor: int) -> None:
        status = child.wait(0.0)
        if status is None:
            return
        self._loop.remove_reader(descriptor)
        os.close(descriptor)
        _, ended = self._living[child.pid]
        ended.set_result(Exit(max(-status, 0), max(status, 0)))
        # Whoever mourns it asks within the second; then it is forgotten.
        self._loop.call_later(_EXIT_WAIT_S, self._living.pop, child.pid, None)
