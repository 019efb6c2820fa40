"""Requests that come at their own pace, however slow the answers are: an open loop, every request accounted for."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field

ANSWER_TIMEOUT_S = 90.0


@dataclass(frozen=True)
class Outcome:
    """How one request ended. Times in seconds; `at_s` since the first one, `took_s` from when it was due."""

    status: int
    at_s: float
    took_s: float
    has_retry_after: bool


@dataclass
class Arrivals:
    """`rate_per_s` copies of `raw` for `seconds`, each on a kept connection that is free, else on a new one.

    `lost` counts requests without a whole answer; `late_s` is how far the sender itself fell behind at worst.
    """

    host: str
    port: int
    raw: bytes
    rate_per_s: float
    seconds: float
    outcomes: list[Outcome] = field(default_factory=list)
    sent: int = 0
    lost: int = 0
    late_s: float = 0.0

    def run(self) -> Arrivals:
        asyncio.run(self._run())
        return self

    @property
    def statuses(self) -> Counter[int]:
        return Counter(one.status for one in self.outcomes)

    @property
    def refused(self) -> list[Outcome]:
        return [one for one in self.outcomes if one.status in (429, 503)]

    def good_per_s(self, begin_s: float, end_s: float) -> float:
        """Right answers given in that window, a second."""
        return sum(1 for one in self.outcomes if one.status == 200 and begin_s <= one.at_s < end_s) / (end_s - begin_s)

    async def _run(self) -> None:
        self._free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        tasks = []
        self._began_s = time.monotonic()
        for number in range(round(self.rate_per_s * self.seconds)):
            due_s = self._began_s + number / self.rate_per_s
            wait_s = due_s - time.monotonic()
            # A thousandth of a second is as exact as the loop's timers are.
            if wait_s > 0.001:
                await asyncio.sleep(wait_s)
            self.late_s = max(self.late_s, -wait_s)
            self.sent += 1
            tasks.append(asyncio.create_task(self._one(due_s)))
        await asyncio.gather(*tasks)
        for _, writer in self._free:
            writer.close()

    async def _one(self, due_s: float) -> None:
        writer = None
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                stream = self._free.pop() if self._free else await asyncio.open_connection(self.host, self.port)
                reader, writer = stream
                writer.write(self.raw)
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                await reader.readexactly(int(head.split(b"content-length: ", 1)[1].split(b"\r\n", 1)[0]))
        except (OSError, EOFError, TimeoutError):
            self.lost += 1
            if writer is not None:
                writer.close()
            return
        now_s = time.monotonic()
        self.outcomes.append(Outcome(int(head[9:12]), now_s - self._began_s, now_s - due_s, b"\r\nretry-after: " in head))
        if b"\r\nconnection: close" in head:
            writer.close()
        else:
            self._free.append(stream)
