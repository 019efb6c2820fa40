"""Run a load in processes of its own and collect its windows, joined, as they end."""

from __future__ import annotations

import fcntl
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from types import TracebackType
from typing import Any

from towline.core.errors import TowlineError, Unreachable
from towline.verify.load.job import Job, Window, encode_job, joined, read_window, shares

# What a pipe may hold without a right to more: a window is then written at one go, and the load does not wait for a reader.
_PIPE_BYTES = 1 << 20
# Between `go` and the first request: every process is to have heard it.
_HEAD_START_NS = 20_000_000
STOP_TIMEOUT_S = 5.0


class LoadFailed(TowlineError):
    """The load generator itself broke."""

    code = "LOAD_FAILED"


class RunningLoad:
    """`with RunningLoad(job, processes=2) as load: for window in load.windows(): …`. Leaving ends it.

    Entering opens every connection; raises Unreachable when the server takes none.
    """

    def __init__(self, job: Job, *, processes: int = 1) -> None:
        self._job = job
        self._paces = shares(job.pace, processes)
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> RunningLoad:
        try:
            for number, pace in enumerate(self._paces):
                self._processes.append(self._start(replace(self._job, pace=pace), number))
            for process in self._processes:
                said = self._line(process)
                if "failed" in said:
                    raise Unreachable(
                        f"{self._job.endpoint.authority}: {said['failed']}, with {self._job.pace.clients} connections wanted.",
                        hint="'towline ps' shows the servers running on this machine.",
                    )
            start_ns = time.monotonic_ns() + _HEAD_START_NS
            for process in self._processes:
                _write(process, b"go %d\n" % start_ns)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    @property
    def processes(self) -> int:
        return len(self._paces)

    def windows(self) -> Iterator[Window]:
        """Each window as it ends, without end. Raises LoadFailed when a process of the generator dies.

        They are read whether or not the caller asks for the next one: a full pipe would be a pause in the load.
        """
        told: list[queue.SimpleQueue[Window | LoadFailed]] = [queue.SimpleQueue() for _ in self._processes]
        for process, windows in zip(self._processes, told, strict=True):
            threading.Thread(target=self._read, args=(process, windows), daemon=True).start()
        while True:
            found = [windows.get() for windows in told]
            for one in found:
                if isinstance(one, LoadFailed):
                    raise one
            yield joined([one for one in found if isinstance(one, Window)])

    def _read(self, process: subprocess.Popen[bytes], windows: queue.SimpleQueue[Window | LoadFailed]) -> None:
        while True:
            try:
                windows.put(self._window(process))
            except LoadFailed as error:
                windows.put(error)
                return

    def stop(self) -> None:
        """End it. What its processes still say is read by nobody."""
        for process in self._processes:
            _close(process.stdin)
        for process in self._processes:
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            _close(process.stdout)
        self._processes.clear()

    def _start(self, job: Job, number: int) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            # -P: a numpy.py in the folder this was started in is not ours to run.
            [sys.executable, "-P", "-m", "towline.verify.load.worker", str(os.getpid()), str(number), str(len(self._paces))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert process.stdout is not None
        fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        _write(process, encode_job(job))
        return process

    def _window(self, process: subprocess.Popen[bytes]) -> Window:
        return read_window(self._line(process), lambda size: self._exactly(process, size))

    def _line(self, process: subprocess.Popen[bytes]) -> dict[str, Any]:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line.endswith(b"\n"):
            raise _died(process)
        found: dict[str, Any] = json.loads(line)
        return found

    def _exactly(self, process: subprocess.Popen[bytes], size: int) -> bytes:
        assert process.stdout is not None
        raw = process.stdout.read(size)
        if len(raw) != size:
            raise _died(process)
        return raw


def _died(process: subprocess.Popen[bytes]) -> LoadFailed:
    return LoadFailed(f"A process of the load generator ended with status {process.wait()} while it was needed.")


def _write(process: subprocess.Popen[bytes], raw: bytes) -> None:
    assert process.stdin is not None
    try:
        process.stdin.write(raw)
        process.stdin.flush()
    except BrokenPipeError as error:
        raise _died(process) from error


def _close(stream: Any) -> None:
    try:
        stream.close()
    except BrokenPipeError:
        # It went first; what was to be written is of no use to it.
        return
