"""What `towline ps` reads of a running server, and the lock that keeps a second one off the same home."""

from __future__ import annotations

import fcntl
import json
import os
import time
from pathlib import Path
from typing import Any

from towline.core.clock import SystemClock
from towline.core.errors import Conflict, Kind


class StateFile:
    """HOME/run/server-PID.json, which `towline ps` reads; believed while the lock beside it is held. PID is the supervisor's."""

    def __init__(self, folder: Path, url: str, grpc_url: str | None, clock: SystemClock) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._only = _locked(folder / "controller.lock")
        self._file = folder / f"server-{os.getppid()}.json"
        self._lock = _locked(self._file.with_suffix(".lock"))
        self._url, self._grpc_url = url, grpc_url
        self._started_s = clock.time()
        self.write([])

    def write(self, models: list[dict[str, Any]]) -> None:
        content = {
            "schema": "towline.server/1",
            "pid": os.getppid(),
            "url": self._url,
            "grpc_url": self._grpc_url,
            "started_s": self._started_s,
            "models": models,
        }
        temporary = self._file.with_suffix(".tmp")
        temporary.write_text(json.dumps(content))
        temporary.rename(self._file)

    def remove(self) -> None:
        for path in (self._file, self._file.with_suffix(".lock")):
            path.unlink(missing_ok=True)


def _locked(path: Path) -> int:
    """Hold an exclusive lock for as long as this process lives. Raises Conflict with the holder's pid."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    # A controller that is being replaced lets go a moment after its successor starts.
    until = time.monotonic() + 2.0
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() > until:
                holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
                os.close(descriptor)
                raise Conflict(
                    f"Another server uses this home already (pid {holder}).",
                    code="HOME_IN_USE",
                    hint="Stop it, or give this one a home of its own: --home DIR",
                    kind=Kind.USAGE,
                ) from None
            time.sleep(0.05)
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, str(os.getppid()).encode(), 0)
    return descriptor
