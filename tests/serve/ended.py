"""Wait for the end of processes that nobody here is the parent of. Linux."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

_PATIENCE_S = 30.0
_LOOK_AGAIN_S = 0.01


def await_end(pids: Iterable[int]) -> None:
    """Return when none of them runs any more. Raises AssertionError with those that still do after half a minute."""
    until_s = time.monotonic() + _PATIENCE_S
    while left := [pid for pid in pids if _runs(pid)]:
        assert time.monotonic() < until_s, f"{left} still run"
        time.sleep(_LOOK_AGAIN_S)


def _runs(pid: int) -> bool:
    """A zombie has ended: it only waits for its parent to hear of it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
