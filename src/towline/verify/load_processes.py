"""Run a load in processes of its own and collect its windows, joined, as they end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from types import TracebackType
from typing import Any

from towline.core.errors import TowlineError, Unreachable
from towline.verify.load_job import Job, Window, encode_job, joined, read_window, shares

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
        """Each window as it ends, without end. Raises LoadFailed when a process of the generator dies."""
        while True:
            yield joined([self._window(process) for process in self._processes])

    def stop(self) -> None:
        for process in self._processes:
            _close(process.stdin)
            # It may be writing a window nobody will read.
            _close(process.stdout)
        for process in self._processes:
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._processes.clear()

    def _start(self, job: Job, number: int) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            # -P: a numpy.py in the folder this was started in is not ours to run.
            [sys.executable, "-P", "-m", "towline.verify.load_worker", str(os.getpid()), str(number), str(len(self._paces))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
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
