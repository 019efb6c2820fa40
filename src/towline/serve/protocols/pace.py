"""Whether bytes move fast enough. Pure."""

from __future__ import annotations

import msgspec


class Pace(msgspec.Struct):
    """How far a transfer was when it last kept pace. What moved in a burst before buys no time for a stall."""

    since_s: float
    done_bytes: int

    def is_too_slow(self, done_bytes: int, now_s: float, *, min_bytes_per_s: float, grace_s: float) -> bool:
        """Look again: True when for more than `grace_s` it fell behind `min_bytes_per_s`, or did not move at all."""
        waited_s = now_s - self.since_s
        if done_bytes - self.done_bytes >= max(1.0, waited_s * min_bytes_per_s):
            self.since_s, self.done_bytes = now_s, done_bytes
            return False
        return waited_s > grace_s
