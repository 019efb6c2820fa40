"""What the front tells of its models: to the controller whenever their state changes, to the supervisor once they are ready."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from towline.serve.dataplane import ServingPlane

# Changes that come together are told together.
_PAUSE_S = 0.1


def model_states(plane: ServingPlane, *, now_s: float, wall_s: float) -> list[dict[str, Any]]:
    """Every version that is loaded, or cannot even be read; `now_s` is the clock of the slots, `wall_s` the time of day."""
    slots = [
        {
            "name": slot.name,
            "version": slot.number,
            "digest": slot.digest,
            "state": slot.state,
            "since_s": round(wall_s - (now_s - slot.since_s), 3),
            "pid": slot.pid or None,
            "error": slot.error,
        }
        for slot in plane.slots()
    ]
    unreadable = [
        {"name": one.name, "version": one.number, "digest": one.digest, "state": "failed", "since_s": wall_s, "pid": None, "error": error}
        for one, error in plane.unreadable()
    ]
    return slots + unreadable


class Reports:
    """`send` is to the supervisor's channel; `may_accept` is set when every model that is wanted was loaded, or has failed."""

    def __init__(self, plane: ServingPlane, send: Callable[[dict[str, Any]], None], may_accept: asyncio.Event) -> None:
        self._plane = plane
        self._send = send
        self._may_accept = may_accept
        self._is_due = False
        self.was_ready = False

    def soon(self) -> None:
        if not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_later(_PAUSE_S if self.was_ready else 0.0, self.now)

    def now(self) -> None:
        self._is_due = False
        models = model_states(self._plane, now_s=time.monotonic(), wall_s=time.time())
        self._send({"to": "controller", "do": "state", "models": models})
        if self._plane.is_settled():
            self._may_accept.set()
        if self._plane.is_ready() and not self.was_ready:
            self.was_ready = True
            self._send({"to": "supervisor", "do": "ready", "models": models})
