"""Look at a server while it is measured: its own counters, and what its processes on this machine use."""

from __future__ import annotations

import time
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from towline.app.benching.target import Aim, Asked
from towline.client.connection import Connections
from towline.core.config import is_loopback
from towline.core.errors import TowlineError
from towline.verify.latency.server_cost import Usage, listeners, usage
from towline.verify.latency.server_time import METRICS, STATISTICS, Counters, from_metrics, from_statistics

COUNTERS_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class Moment:
    """What the server's counters and processes told at a moment of the monotonic clock."""

    at_s: float
    counters: Counters | None
    usage: Usage | None


class Watch:
    """Looks at the server from beside the load."""

    def __init__(self, aim: Aim, asked: Asked) -> None:
        self.aim = aim
        self._asked = asked
        # Looked for once: who listens does not change while it is measured, but what they start may.
        self._roots = listeners(_ports(aim)) if is_loopback(aim.endpoint.host) else frozenset()
        # Asked in this order, until one of them answers: that one is asked from then on.
        self._sources = [STATISTICS, METRICS] if aim.base and aim.model else []

    def look(self) -> Moment:
        counters = self._counters()
        used = usage(self._roots)
        return Moment(used.at_s if used else time.monotonic(), counters, used)

    def _counters(self) -> Counters | None:
        for source in self._sources:
            found = self._ask(source)
            if found is not None:
                self._sources = [source]
                return found
        return None

    def _ask(self, source: str) -> Counters | None:
        aim = self.aim
        path = "/metrics" if source == METRICS else f"/v2/models/{quote(aim.model, safe='')}/stats"
        connections = Connections(aim.base, timeout_s=COUNTERS_TIMEOUT_S, key=self._asked.key)
        try:
            answer = connections.exchange("GET", path, b"", {}, tries=1)
        except TowlineError:
            # A server too busy to tell is still measured; the report says what is missing.
            return None
        finally:
            connections.close()
        if answer.status != 200:
            return None
        if source == METRICS:
            return from_metrics(answer.body.decode("utf-8", "replace"), aim.model, aim.version)
        return from_statistics(answer.body, aim.model, aim.version)


def _ports(aim: Aim) -> set[int]:
    """Of all that listens for the server: in ours, one process listens for gRPC, and the one above it for HTTP."""
    beside = urlsplit(aim.base).port
    return {aim.endpoint.port, *([beside] if beside else [])}
