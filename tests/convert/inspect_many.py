"""Inspect many files, each in a fork of one process that has paid for importing onnx: `python inspect_many.py FILE…`."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import onnx  # noqa: F401

from towline.convert import inspect


def inspected(path: Path) -> str:
    """`ok`, a refusal's code, or how the process died."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        # As the real process has it: time that passes is a death of its own, not of the test.
        signal.setitimer(signal.ITIMER_REAL, 120)
        report = inspect._report(path)
        os.write(write, (report.refusal.code if report.refusal else "ok").encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as answers:
        answer = answers.read()
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    return answer if code == 0 else f"died {code}"


for name in sys.argv[1:]:
    print(inspected(Path(name)))
