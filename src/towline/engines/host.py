"""The main of a worker process: core and one engine, nothing else. `python -m towline.engines.host worker ENGINE LINK_FD CONTROL_FD`"""

from __future__ import annotations

import os
import socket
import sys
import threading
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from towline.core import channel
from towline.core.arena import Arena
from towline.core.engine import Engine, EngineOptions, Session
from towline.core.errors import Kind, TowlineError, VersionError
from towline.core.manifest import Manifest, decode_manifest
from towline.core.process import become, ignore_signals_of_the_terminal, settle_collector
from towline.core.version import check_sealed
from towline.core.warmup import WarmReport, warm
from towline.core.worker_messages import error_message
from towline.engines.batches import Batches
from towline.engines.loading import load_engine, load_session
from towline.engines.polite import at_once, leave, politely

_MAX_THREADS = 256
_UNANSWERED = ("more", "stop")
_NO_ROOM = TowlineError("There is not enough memory to load this version.", code="OUT_OF_MEMORY", kind=Kind.OUT_OF_MEMORY)


class Host:
    """One worker: a control thread that loads and answers questions, and inference threads that run batches from the link."""

    def __init__(self, make_engine: Callable[[], Engine], link: socket.socket, control: socket.socket) -> None:
        """`make_engine` is called with the first load: a framework takes seconds to import, and one that cannot be is a reason to tell."""
        self._make_engine = make_engine
        self._link = link
        self._control = control
        self._session: Session | None = None
        self._batches: Batches | None = None
        self._threads = 0
        self._started = threading.Event()

    def work(self) -> None:
        """Never returns: the process ends when the front closes its end, or by a signal."""
        threading.Thread(target=self._answer_control, daemon=True, name="towline-control").start()
        # The main thread is the first inference thread: a tiny model's batch is received, run and answered without a hop.
        self._started.wait()
        assert self._batches is not None
        self._batches.run()

    def _answer_control(self) -> None:
        channel.send(self._control, {"hello": os.getpid()})
        while received := channel.receive(self._control):
            message, descriptors = received
            try:
                answer: dict[str, Any] = {"ok": self._carry_out(message, descriptors)}
            except TowlineError as error:
                answer = {"error": error_message(error)}
            except OSError as error:
                # Removed while it was being read, say.
                answer = {"error": error_message(VersionError(f"Its files cannot be read: {error.strerror}."))}
            except MemoryError:
                answer = {"error": error_message(_NO_ROOM)}
            if message.get("do") not in _UNANSWERED:
                channel.send(self._control, answer)
        leave()

    def _carry_out(self, message: dict[str, Any], descriptors: list[int]) -> dict[str, Any]:
        match message["do"]:
            case "load":
                return self._load(message, descriptors)
            case "warm":
                return self._warm(Path(message["folder"]), decode_manifest(message["manifest"].encode()))
            case "more" | "stop" as reply:
                if self._batches is not None:
                    self._batches.turns.give(int(message["slot"]), wants_more=reply == "more")
                return {}
            case "start":
                return self._start(int(message["threads"]), descriptors)
            case "terminate":
                if self._session is not None:
                    self._session.terminate(int(message["slot"]))
                return {}
            case _:
                return {}

    def _load(self, message: dict[str, Any], descriptors: list[int]) -> dict[str, Any]:
        folder = Path(message["folder"])
        if message["digest"]:
            politely(lambda: check_sealed(folder, message["digest"]))
        manifest = decode_manifest(message["manifest"].encode())
        inputs_fd, outputs_fd = descriptors
        slots, size = int(message["slots"]), int(message["slot_bytes"])
        arena = Arena(inputs_fd, outputs_fd, slots=slots, slot_bytes=size, is_worker=True)
        options = EngineOptions(device=message["device"], threads_per_run=int(message.get("threads", 1)), max_answer_bytes=size)
        engine = self._make_engine()
        # A thread that an engine starts keeps the priority of the one that loads.
        starts_none = getattr(engine, "starts_no_threads", False) and options.threads_per_run == 1 and not manifest.processing
        waits = politely if starts_none else at_once
        self._session = waits(lambda: load_session(engine, folder, manifest, options))
        self._batches = Batches(self._session, manifest, arena, self._link)
        settle_collector()
        return {"memory_bytes": memory_bytes()}

    def _warm(self, folder: Path, manifest: Manifest) -> dict[str, Any]:
        assert self._session is not None
        report: WarmReport = warm(self._session.run, folder, manifest)
        return report.as_message()

    def _start(self, threads: int, pipes: list[int]) -> dict[str, Any]:
        assert self._batches is not None
        if pipes:
            self._batches.pipes = (pipes[0], pipes[1])
        threads = min(threads, _MAX_THREADS)
        while self._threads < threads:
            self._threads += 1
            if self._started.is_set():
                threading.Thread(target=self._batches.run, daemon=True, name="towline-run").start()
            self._started.set()
        return {"threads": self._threads, "memory_bytes": memory_bytes()}


def memory_bytes() -> int:
    """Memory of this process that no other process shares, in bytes: what its end would give back."""
    resident = shared = 0
    with open("/proc/self/statm") as file:
        fields = file.read().split()
        resident, shared = int(fields[1]), int(fields[2])
    return (resident - shared) * os.sysconf("SC_PAGE_SIZE")


def run_worker(make_engine: Callable[[], Engine], link: socket.socket, control: socket.socket) -> None:
    become("towline-worker")
    ignore_signals_of_the_terminal()
    threading.excepthook = lambda failure: _end(failure.exc_value)
    try:
        Host(make_engine, link, control).work()
    except BaseException as error:
        _end(error)


def _end(error: BaseException | None) -> None:
    """End the process with whichever thread fails: a worker that looked well and never answered would be worse."""
    if not isinstance(error, BrokenPipeError | ConnectionResetError):
        traceback.print_exception(error)
        os._exit(1)
    # The front has gone.
    os._exit(0)


def main(argv: list[str]) -> None:
    _, engine, link, control = argv
    run_worker(partial(load_engine, engine), socket.socket(fileno=int(link)), socket.socket(fileno=int(control)))


if __name__ == "__main__":
    main(sys.argv[1:])
