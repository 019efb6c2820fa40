"""When the requests of an open loop are due: fixed before the first is sent, whatever the server does. Pure."""

from __future__ import annotations

import random
from collections.abc import Iterator

from towline.verify.load.job import POISSON, Pace


def times(pace: Pace, *, share: int = 0, shares: int = 1) -> Iterator[int]:
    """Nanoseconds from the beginning at which a request is due, for ever. Of constant arrivals, share number `share`."""
    gap_ns = 1e9 / pace.rate
    if pace.arrivals == POISSON:
        draw, at_ns = random.Random(pace.seed), 0.0
        while True:
            at_ns += draw.expovariate(1.0) * gap_ns
            yield int(at_ns)
    # From the count, not by adding gaps, so that an hour of them does not drift. Shares take turns.
    first_ns, number = gap_ns * share / shares, 0
    while True:
        yield int(first_ns + number * gap_ns)
        number += 1
