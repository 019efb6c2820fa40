"""Main of a load generator's process: python -m towline.verify.load.worker, driven through stdin and stdout.

In: a job, then `go NANOSECONDS`, the moment to begin; the end of stdin stops it. Out: `ready` or `failed`, then windows as they end.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import sys
from collections.abc import Iterator
from typing import Any

from towline.core.process import become, ignore_signals_of_the_terminal
from towline.verify.load.arrivals import times
from towline.verify.load.job import HTTP, Job, Window, encode_window, read_job
from towline.verify.load.link import LinkFailed
from towline.verify.load.meter import Meter


def main(argv: list[str]) -> None:
    become("towline-load", parent=int(argv[0]))
    # The command that started us decides what Ctrl-C means.
    ignore_signals_of_the_terminal()
    job = read_job(sys.stdin.buffer)
    _raise_file_limit()
    share, of = int(argv[1]), int(argv[2])
    due = times(job.pace, share=share, shares=of) if job.pace.is_open else None
    load = _load(job, due)
    try:
        load.open()
    except LinkFailed as error:
        _tell(json.dumps({"failed": str(error)}).encode() + b"\n")
        return
    _tell(b'{"ready": true}\n')
    words = sys.stdin.buffer.readline().split()
    if not words:
        return
    start_ns = int(words[1])
    gc.collect()
    gc.freeze()
    # What a request leaves behind has no cycles; a collection would be a pause in what is measured.
    gc.disable()
    begin_ns = start_ns + int(job.warmup_s * 1e9)
    try:
        load.run(start_ns, Meter(begin_ns, int(job.window_s * 1e9), _tell_window, load.waiting_since))
    except BrokenPipeError:
        # Whoever wanted the windows has gone.
        return
    finally:
        load.close()


def _load(job: Job, due: Iterator[int] | None) -> Any:
    if job.endpoint.transport == HTTP:
        from towline.verify.load.http import HttpLoad

        return HttpLoad(job, due, sys.stdin.fileno())
    from towline.verify.load.grpc import GrpcLoad

    return GrpcLoad(job, due, sys.stdin.fileno())


def _raise_file_limit() -> None:
    """Every client is a connection: take as many open files as the system lets us."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _tell_window(window: Window) -> None:
    _tell(encode_window(window))


def _tell(raw: bytes) -> None:
    left = memoryview(raw)
    while left:
        left = left[os.write(1, left) :]


if __name__ == "__main__":
    main(sys.argv[1:])
