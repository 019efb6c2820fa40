"""Two pipes between the front and a worker's threads: a batch wakes either side for less than over a socket pair."""

from __future__ import annotations

import os
from typing import NamedTuple

from towline.core.errors import Unavailable
from towline.serve.workers.control import Control

_START_TIMEOUT_S = 10.0


class Pipes(NamedTuple):
    """Our ends, neither of which blocks."""

    to_read: int
    to_write: int

    def close(self) -> None:
        os.close(self.to_read)
        os.close(self.to_write)


async def hand_over_pipes(control: Control, threads: int) -> Pipes:
    """Have a worker start `threads` threads and give it its ends. Raises Unavailable when it has died or does not answer."""
    (their_in, our_out), (our_in, their_out) = os.pipe(), os.pipe()
    ours = Pipes(our_in, our_out)
    try:
        await control.ask({"do": "start", "threads": threads}, (their_in, their_out), timeout_s=_START_TIMEOUT_S)
        if control.is_closed:
            raise Unavailable("The worker process has ended.", code="WORKER_DIED")
        for end in ours:
            os.set_blocking(end, False)
    except BaseException:
        ours.close()
        raise
    finally:
        os.close(their_in)
        os.close(their_out)
    return ours
