"""The main of a worker process: core and one engine, nothing else. `python -m towline.engines.host worker ENGINE LINK_FD CONTROL_FD`"""

from __future__ import annotations

import importlib
import json
import os
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from towline.core import channel
from towline.core.arena import Arena
from towline.core.engine import Engine, EngineOptions, Session
from towline.core.environments import PROBES
from towline.core.errors import EngineError, Kind, MissingExtra, TowlineError, VersionError
from towline.core.frames import FrameError, FrameReader, FrameTooLarge, FrameWriter
from towline.core.manifest import Manifest, decode_manifest
from towline.core.process import become, ignore_signals_of_the_terminal, settle_collector
from towline.core.version import check_sealed
from towline.core.warmup import WarmReport, warm
from towline.core.worker_messages import BATCH, DONE, ENDED, FAILED, MAX_ERROR_BYTES, MOVE, PART, RUN, STREAM, error_message
from towline.engines.polite import at_once, leave, politely
from towline.engines.repeats import Repeats
from towline.engines.streaming import Turns, give_parts

_MAX_THREADS = 256
_UNANSWERED = ("more", "stop")


class Host:
    """One worker: a control thread that loads and answers questions, and inference threads that run batches from the link."""

    def __init__(self, make_engine: Callable[[], Engine], link: socket.socket, control: socket.socket) -> None:
        """`make_engine` is called with the first load: a framework takes seconds to import, and one that cannot be is a reason to tell."""
        self._make_engine = make_engine
        self._link = link
        self._control = control
        self._session: Session | None = None
        self._manifest: Manifest | None = None
        self._arena: Arena | None = None
        # One per slot of the arena; a slot is in one thread's hands at a time.
        self._readers: list[FrameReader] = []
        self._writers: list[FrameWriter] = []
        self._repeats: list[Repeats] = []
        self._turns = Turns(0)
        self._threads = 0
        # To read batches from and to answer them on, once they were given: the link wakes its reader for more.
        self._pipes: tuple[int, int] | None = None
        self._started = threading.Event()

    def work(self) -> None:
        """Never returns: the process ends when the front closes its end, or by a signal."""
        threading.Thread(target=self._answer_control, daemon=True, name="towline-control").start()
        # The main thread is the first inference thread: a tiny model's batch is received, run and answered without a hop.
        self._started.wait()
        self._run_batches()

    def _answer_control(self) -> None:
        channel.send(self._control, {"hello": os.getpid()})
        while received := channel.receive(self._control):
            message, descriptors = received
            try:
                answer: dict[str, Any] | None = {"ok": self._carry_out(message, descriptors)}
            except TowlineError as error:
                answer = {"error": error_message(error)}
            except OSError as error:
                # Removed while it was being read, say.
                answer = {"error": error_message(VersionError(f"Its files cannot be read: {error.strerror}."))}
            except MemoryError:
                answer = {
                    "error": {
                        "code": "OUT_OF_MEMORY",
                        "message": "There is not enough memory to load this version.",
                        "kind": "out_of_memory",
                    }
                }
            if message.get("do") not in _UNANSWERED:
                channel.send(self._control, answer or {})
        leave()

    def _carry_out(self, message: dict[str, Any], descriptors: list[int]) -> dict[str, Any]:
        match message["do"]:
            case "load":
                return self._load(message, descriptors)
            case "warm":
                return self._warm(Path(message["folder"]), decode_manifest(message["manifest"].encode()))
            case "more" | "stop" as reply:
                self._turns.give(int(message["slot"]), wants_more=reply == "more")
                return {}
            case "start":
                if descriptors:
                    self._pipes = (descriptors[0], descriptors[1])
                return self._start(int(message["threads"]))
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
        self._manifest = decode_manifest(message["manifest"].encode())
        inputs_fd, outputs_fd = descriptors
        slots, size = int(message["slots"]), int(message["slot_bytes"])
        self._arena = arena = Arena(inputs_fd, outputs_fd, slots=slots, slot_bytes=size, is_worker=True)
        self._readers = [FrameReader(arena.inputs, slot * size, size) for slot in range(slots)]
        self._writers = [FrameWriter(arena.outputs, slot * size, size) for slot in range(slots)]
        self._turns = Turns(slots)
        options = EngineOptions(device=message["device"], threads_per_run=int(message.get("threads", 1)), max_answer_bytes=size)
        manifest, engine = self._manifest, self._make_engine()
        # A thread that an engine starts keeps the priority of the one that loads.
        starts_none = getattr(engine, "starts_no_threads", False) and options.threads_per_run == 1 and not manifest.processing
        waits = politely if starts_none else at_once
        self._session = waits(lambda: load_session(engine, folder, manifest, options))
        self._repeats = [Repeats(self._session, writer, slot) for slot, writer in enumerate(self._writers)]
        settle_collector()
        return {"memory_bytes": memory_bytes()}

    def _warm(self, folder: Path, manifest: Manifest) -> dict[str, Any]:
        assert self._session is not None
        report: WarmReport = warm(self._session.run, folder, manifest)
        return report.as_message()

    def _start(self, threads: int) -> dict[str, Any]:
        threads = min(threads, _MAX_THREADS)
        while self._threads < threads:
            self._threads += 1
            if self._started.is_set():
                threading.Thread(target=self._run_batches, daemon=True, name="towline-run").start()
            self._started.set()
        return {"threads": self._threads, "memory_bytes": memory_bytes()}

    def _run_batches(self) -> None:
        assert self._session is not None
        assert self._manifest is not None
        link, session = self._link, self._session
        manifest = self._manifest
        outputs_of = [[spec.name for spec in manifest.signatures[one].outputs] for one in manifest.signature_names]
        names = outputs_of[0]
        receive: Callable[[int], bytes] = link.recv
        send: Callable[[bytes], int] = link.send
        unpack, pack, clock = BATCH.unpack, BATCH.pack, time.perf_counter_ns
        readers, writers, repeats = self._readers, self._writers, self._repeats
        # An engine gives each output one dtype: of a single one the shape tells all.
        only_one = len(names) == 1
        while len(message := receive(BATCH.size)) == BATCH.size:
            slot, what, place = unpack(message)
            if what != RUN or slot >= len(readers) or place >= len(outputs_of):
                if what == STREAM and slot < len(readers):
                    send(self._stream(slot, names))
                elif what == MOVE and self._pipes is not None:
                    receive, send = partial(os.read, self._pipes[0]), partial(os.write, self._pipes[1])
                continue
            try:
                inputs = readers[slot].read()
                began = clock()
                if not place and repeats[slot].run(inputs):
                    send(pack(slot, DONE, min((clock() - began) // 1000, 0xFFFFFFFF)))
                    continue
                if place:
                    outputs = session.run(inputs, slot=slot, signature=manifest.signature_names[place])
                else:
                    outputs = session.run(inputs, slot=slot)
                spent_us = min((clock() - began) // 1000, 0xFFFFFFFF)
                layout = outputs[0].shape if only_one and not place else None
                named = dict(zip(outputs_of[place] if place else names, outputs, strict=True))
                writers[slot].write((named,), layout)
                if layout is not None:
                    repeats[slot].learn(inputs, outputs, layout, spent_us)
                answer = pack(slot, DONE, spent_us)
            except TowlineError as error:
                answer = pack(slot, FAILED, self._write_error(slot, error))
            except MemoryError:
                answer = pack(slot, FAILED, self._write_error(slot, _OUT_OF_MEMORY))
            inputs = outputs = None  # type: ignore[assignment]
            send(answer)
        leave()

    def _stream(self, slot: int, names: list[str]) -> bytes:
        """Answer in parts; returns the message that says how that ended."""
        writer, stream = self._writers[slot], getattr(self._session, "stream", None)

        def give(part: Sequence[np.ndarray]) -> None:
            writer.write((dict(zip(names, part, strict=True)),))
            self._link.send(BATCH.pack(slot, PART, 0))

        try:
            if stream is None:
                raise EngineError("This engine does not answer in parts.", code="NOT_STREAMING", kind=Kind.UNSUPPORTED)
            began = time.perf_counter_ns()
            give_parts(stream(self._readers[slot].read(), slot=slot), give, lambda: self._turns.wants_more(slot))
            return BATCH.pack(slot, ENDED, min((time.perf_counter_ns() - began) // 1000, 0xFFFFFFFF))
        except TowlineError as error:
            return BATCH.pack(slot, FAILED, self._write_error(slot, error))
        except MemoryError:
            return BATCH.pack(slot, FAILED, self._write_error(slot, _OUT_OF_MEMORY))

    def _write_error(self, slot: int, error: TowlineError) -> int:
        assert self._arena is not None
        self._writers[slot].forget()
        start = slot * self._arena.slot_bytes
        if isinstance(error, FrameTooLarge):
            error = FrameError("The model's answer is larger than this server passes on.", code="OUTPUT_TOO_LARGE")
        raw = json.dumps(error_message(error)).encode()
        if len(raw) > MAX_ERROR_BYTES:
            raw = json.dumps({"code": error.code, "kind": error.kind.value, "message": error.message[:200]}).encode()
        self._arena.outputs[start : start + len(raw)] = raw
        return len(raw)


# They go through the same contract as a stranger's; looking them up among all installed packages would cost 30 ms.
_BUILT_IN = {
    "onnxruntime": "towline.engines.onnxruntime:OnnxRuntimeEngine",
    "python": "towline.engines.python:PythonEngine",
    "inputs": "towline.engines.inputs:InputsEngine",
    "litert": "towline.engines.litert:LiteRtEngine",
    "openvino": "towline.engines.openvino:OpenVinoEngine",
    "torch": "towline.engines.torch:TorchEngine",
    "tensorflow": "towline.engines.tensorflow:TensorFlowEngine",
}
_OUT_OF_MEMORY = TowlineError("The model ran out of memory on this input.", code="OUT_OF_MEMORY", kind=Kind.OUT_OF_MEMORY)


def memory_bytes() -> int:
    """Memory of this process that no other process shares, in bytes: what its end would give back."""
    resident = shared = 0
    with open("/proc/self/statm") as file:
        fields = file.read().split()
        resident, shared = int(fields[1]), int(fields[2])
    return (resident - shared) * os.sysconf("SC_PAGE_SIZE")


def load_engine(name: str) -> Engine:
    """A built-in engine, or the one that an entry point of group `towline.engines` names. Raises MissingExtra."""
    reference = _BUILT_IN.get(name)
    if reference is None:
        return _plugin(name)
    module, _, class_name = reference.partition(":")
    try:
        engine: Engine = getattr(importlib.import_module(module), class_name)()
    except ImportError as error:
        lacks = f"lacks '{error.name}'" if isinstance(error, ModuleNotFoundError) else "cannot load its library"
        hint = f"Make its environment anew: towline env create {name}" if name in PROBES else ""
        raise MissingExtra(f"The engine '{name}' cannot run here: its Python {lacks}.", code="MISSING_ENVIRONMENT", hint=hint) from error
    return engine


def _plugin(name: str) -> Engine:
    # Here: with what it imports it would cost every start 10 ms.
    import importlib.metadata

    for entry in importlib.metadata.entry_points(group="towline.engines"):
        if entry.name == name:
            engine: Engine = entry.load()()
            return engine
    raise MissingExtra(f"No engine named '{name}' is installed.", hint=f"Try: pip install 'towline[{name}]'")


def load_session(engine: Engine, folder: Path, manifest: Manifest, options: EngineOptions) -> Session:
    """Load a version with `engine`, and with what its manifest declares to be done before and after the graph."""
    if not manifest.processing:
        return engine.load(folder, manifest, options)
    # Late: most versions declare none.
    from towline.engines.processing.session import load_processed

    return load_processed(engine, folder, manifest, options)


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
