"""Have an ONNX model read by a process of its own, and take its word for nothing but what we can check."""

from __future__ import annotations

import math
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from towline.convert.inspected import MAX_REPORT_BYTES, Inspected, Report
from towline.core.child import Child, OwnChild
from towline.core.errors import ImportRefused

DEFAULT_TIMEOUT_S = 60.0
# From the end of a process until its status is known.
_END_WAIT_S = 5.0


# Starts `module arguments` with a file as its stdout, and holds a descriptor in it for as long as it lives.
StartReader = Callable[[list[str], int, int], Child]


def start_here(words: list[str], output: int, life: int) -> Child:
    """A new Python, as our own child."""
    return OwnChild(
        subprocess.Popen(
            # -P: a file called onnx.py in the current folder must not be what gets imported.
            [sys.executable, "-P", "-m", *words],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.DEVNULL,
            pass_fds=(life,),
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
            start_new_session=True,
        )
    )


class Inspection:
    """A model being read. `result` waits for it; `cancel` ends it. Use as a context manager, so that the process never outlives it."""

    def __init__(self, path: Path, *, timeout_s: float = DEFAULT_TIMEOUT_S, start: StartReader = start_here) -> None:
        """Start reading `path`: our own copy of the model, with its external data beside it and nothing else in its folder."""
        self._timeout_s = timeout_s
        self._deadline_s = time.monotonic() + timeout_s
        # A file in memory instead of a pipe: the kernel itself caps it by RLIMIT_FSIZE, and nobody has to read while the process writes.
        self._output = os.memfd_create("towline-inspection", os.MFD_CLOEXEC)
        # Ends when the process does, whoever's child it is.
        self._life, theirs = os.pipe2(os.O_CLOEXEC)
        try:
            self._process = start(["towline.convert.inspect", str(path.absolute()), str(math.ceil(timeout_s))], self._output, theirs)
        except BaseException:
            self._close()
            raise
        finally:
            os.close(theirs)

    def __enter__(self) -> Inspection:
        return self

    def __exit__(self, *_: object) -> None:
        self.cancel()

    def cancel(self) -> None:
        """End the process if it still runs. May be called again."""
        if self._output < 0:
            return
        if not self._has_ended(0):
            self._process.kill()
        self._process.wait(_END_WAIT_S)
        self._close()

    def result(self) -> Inspected:
        """What was found. Raises ImportRefused also when the process crashed, ran out of memory or of time."""
        if not self._has_ended(max(self._deadline_s - time.monotonic(), 0)):
            raise ImportRefused(
                f"Reading the model took longer than {self._timeout_s:g} seconds.",
                code="INSPECTION_TIMEOUT",
                hint="Export a simpler model, or import it on a machine that is less busy.",
            )
        return _accepted(os.pread(self._output, MAX_REPORT_BYTES + 1, 0), self._process.wait(_END_WAIT_S))

    def _has_ended(self, timeout_s: float) -> bool:
        return bool(select.select([self._life], [], [], timeout_s)[0])

    def _close(self) -> None:
        os.close(self._output)
        os.close(self._life)
        self._output = -1


def inspect_model(path: Path, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> Inspected:
    """Read our own copy of a model in a process of its own. Raises ImportRefused for whatever may not be imported."""
    with Inspection(path, timeout_s=timeout_s) as inspection:
        return inspection.result()


def _accepted(raw: bytes, code: int | None = 0) -> Inspected:
    import msgspec

    if code != 0 or len(raw) > MAX_REPORT_BYTES:
        raise _died(code or 0)
    try:
        report = msgspec.json.decode(raw, type=Report)
    except msgspec.DecodeError:
        raise _died(0) from None
    if report.refusal:
        refusal = report.refusal
        raise ImportRefused(refusal.message, code=refusal.code, hint=refusal.hint, field=refusal.field)
    if report.inspected is None:
        raise _died(0)
    return report.inspected


def _died(code: int) -> ImportRefused:
    if code == -signal.SIGXCPU:
        how = "used up its time"
    elif code < 0:
        how = f"was killed by {signal.Signals(-code).name}"
    else:
        how = "ended without an answer"
    return ImportRefused(
        f"The process that read the model {how}, so the model is not taken.",
        code="INSPECTION_DIED",
        hint="The file is damaged or hostile. If you trust it, export it again.",
    )
