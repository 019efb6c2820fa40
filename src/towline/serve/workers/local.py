"""A worker process driven from ordinary, blocking code: how import loads and tries a model. It can be handed to the front afterwards."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from towline.core import channel
from towline.core.child import Child, OwnChild
from towline.core.errors import DeadlineExceeded, EngineError, VersionError, WorkerDied
from towline.core.frames import read_frame, write_frame
from towline.core.interpreter import command, worker_command, worker_kind
from towline.core.manifest import Manifest, encode_manifest
from towline.core.worker_messages import BATCH, DONE, MAX_ERROR_BYTES, RUN, error_from
from towline.serve.workers.sizes import ArenaSize

# A machine that is busy takes its time even over what was killed.
_END_WAIT_S = 30.0
_DEFAULT_ARENA = ArenaSize(slots=2, slot_bytes=1 << 30)
_BIRTH_TIMEOUT_S = 60.0


# Starts a worker on two socket ends, which the caller closes.
# `pid` is set here once the worker has said it.
Spawn = Callable[[str, socket.socket, socket.socket], Child]


@dataclass(frozen=True)
class Handover:
    """The ends of a worker that lives on: descriptors in the order the front's pool adopts them."""

    pid: int
    slots: int
    slot_bytes: int
    descriptors: tuple[int, int, int, int]


def spawn_process(engine: str, link: socket.socket, control: socket.socket) -> OwnChild:
    """A worker as our own child: half a second slower than a forked one."""
    ends = (link.fileno(), control.fileno())
    words = [*worker_command(command("towline.engines.host", "worker"), engine), *map(str, ends)]
    return OwnChild(subprocess.Popen(words, pass_fds=ends, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL))


class LocalWorker:
    """Use as a context manager. One run at a time; not for several threads."""

    def __init__(self, engine: str, *, spawn: Spawn = spawn_process, arena_size: ArenaSize = _DEFAULT_ARENA) -> None:
        self._link, their_link = channel.channel()
        self._control, their_control = channel.channel()
        self._process = spawn(engine, their_link, their_control)
        their_link.close()
        their_control.close()
        self._arena = arena_size.create()
        self._is_open = True
        self.pid = 0
        self._empty_bytes = 0
        self._peak_bytes = 0
        self._counts_anew = False

    @classmethod
    def start(
        cls,
        folder: Path,
        manifest: Manifest,
        *,
        device: str = "cpu",
        timeout_s: float = 120.0,
        arena_size: ArenaSize = _DEFAULT_ARENA,
        **options: Any,
    ) -> LocalWorker:
        """A worker that has loaded `folder` as `manifest` describes it.

        Raises VersionError, MissingExtra, WorkerDied or DeadlineExceeded.
        """
        worker = cls(worker_kind(manifest, folder), arena_size=arena_size.fitting(manifest), **options)
        try:
            worker._load(folder, manifest, device, timeout_s)
        except BaseException:
            worker.close()
            raise
        return worker

    def _load(self, folder: Path, manifest: Manifest, device: str, timeout_s: float) -> None:
        hello = self._hear(_BIRTH_TIMEOUT_S)
        self.pid = self._process.pid = int(hello["hello"])
        self._empty_bytes = self._resident_bytes()
        inputs_fd, outputs_fd = self._arena.worker_descriptors()
        message = {"do": "load", "folder": str(folder), "digest": "", "manifest": encode_manifest(manifest).decode(), "device": device}
        try:
            self._ask(message | {"slots": self._arena.slots, "slot_bytes": self._arena.slot_bytes}, (inputs_fd, outputs_fd), timeout_s)
        finally:
            os.close(inputs_fd)
        self._ask({"do": "start", "threads": 1}, (), timeout_s)
        self._counts_anew = self._count_anew()

    # The Runner contract of verify/

    def run(self, inputs: Mapping[str, np.ndarray], *, timeout_s: float = 60.0, place: int = 0) -> dict[str, np.ndarray]:
        """`place` is that of the signature in Manifest.signature_names."""
        write_frame(self._arena.inputs, 0, self._arena.slot_bytes, [(name, (array,)) for name, array in inputs.items()])
        self._send(self._link, BATCH.pack(0, RUN, place))
        if not self._is_readable(self._link, timeout_s):
            self.kill()
            raise DeadlineExceeded(f"One run took longer than {timeout_s:g} s.")
        message = self._link.recv(64)
        if len(message) != BATCH.size:
            raise self._death()
        _, what, argument = BATCH.unpack(message)
        self._peak_bytes = max(self._peak_bytes, self._high_water_bytes())
        if what != DONE:
            raise error_from(json.loads(self._arena.outputs[: min(argument, MAX_ERROR_BYTES)]), EngineError)
        outputs = read_frame(self._arena.outputs, 0, self._arena.slot_bytes)
        return {name: array.copy() for name, array in outputs.items()}

    def memory_bytes(self) -> int:
        """What the worker holds now beyond an empty one."""
        return max(self._resident_bytes() - self._empty_bytes, 0)

    def peak_memory_bytes(self) -> int:
        """The most it held after any run so far, beyond an empty one."""
        return max(self._peak_bytes - self._empty_bytes, self.memory_bytes())

    def _resident_bytes(self) -> int:
        try:
            resident, shared = map(int, Path(f"/proc/{self.pid}/statm").read_text().split()[1:3])
        except OSError:
            return self._empty_bytes
        return (resident - shared) * os.sysconf("SC_PAGE_SIZE")

    def _high_water_bytes(self) -> int:
        """The most that was resident since the version was loaded, also in the middle of a run: a picture is decoded and forgotten."""
        now = self._resident_bytes()
        try:
            status = dict(line.split(":", 1) for line in Path(f"/proc/{self.pid}/status").read_text().splitlines())
            most, file, shared = (int(status[name].split()[0]) * 1024 for name in ("VmHWM", "RssFile", "RssShmem"))
        except (OSError, KeyError, ValueError):
            return now
        return max(now, most - file - shared) if self._counts_anew else now

    def _count_anew(self) -> bool:
        """Forget the peak of loading, which is over. False where the system does not allow it."""
        try:
            Path(f"/proc/{self.pid}/clear_refs").write_text("5")
        except OSError:
            return False
        return True

    # Talk

    def _ask(self, message: dict[str, Any], descriptors: tuple[int, ...], timeout_s: float) -> dict[str, Any]:
        try:
            channel.send(self._control, message, descriptors)
        except OSError:
            raise self._death() from None
        answer = self._hear(timeout_s)
        if "error" in answer:
            raise error_from(answer["error"], VersionError)
        ok: dict[str, Any] = answer.get("ok", {})
        return ok

    def _hear(self, timeout_s: float) -> dict[str, Any]:
        if not self._is_readable(self._control, timeout_s):
            self.kill()
            raise DeadlineExceeded(f"The model did not load within {timeout_s:g} s.", code="LOAD_TIMEOUT")
        received = channel.receive(self._control)
        if received is None:
            raise self._death()
        return received[0]

    def _send(self, end: socket.socket, raw: bytes) -> None:
        try:
            end.send(raw)
        except OSError:
            raise self._death() from None

    @staticmethod
    def _is_readable(end: socket.socket, timeout_s: float) -> bool:
        return bool(select.select([end], [], [], timeout_s)[0])

    def _death(self) -> WorkerDied:
        status = self._process.wait(5.0)
        number = -status if status is not None and status < 0 else 0
        name = signal.Signals(number).name if number else "an unknown cause"
        return WorkerDied(f"The engine's process died of {name}.", signal_number=number)

    # The end

    def hand_over(self) -> Handover:
        """Give the living worker away; this object is closed and must not be used again. The receiver owns the descriptors."""
        descriptors = (self._link.detach(), self._control.detach(), os.dup(self._arena.inputs_fd), os.dup(self._arena.outputs_fd))
        handover = Handover(self.pid, self._arena.slots, self._arena.slot_bytes, descriptors)
        self._is_open = False
        self._arena.close()
        return handover

    def kill(self) -> None:
        self._process.kill()

    def close(self) -> None:
        if not self._is_open:
            return
        self._is_open = False
        self._link.close()
        self._control.close()
        self._arena.close()
        # It ends by itself when its channel closes; one that hangs in a run does not notice.
        if self._process.wait(0.2) is None:
            self.kill()
            self._process.wait(_END_WAIT_S)

    def __enter__(self) -> LocalWorker:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
