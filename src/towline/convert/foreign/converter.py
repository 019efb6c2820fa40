"""Our side of the converter process: start it, ask it, and believe nothing that it writes before it was looked at."""

from __future__ import annotations

import errno
import json
import os
import select
import signal
import stat
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import msgspec
import numpy as np

from towline.convert.base import ConversionFailed, Converted, Layer, Task
from towline.convert.feature_defaults import Defaults
from towline.convert.foreign.importers import Entry
from towline.convert.foreign.lookout import SOURCE_ESCAPES
from towline.convert.wording import sentence
from towline.core import channel
from towline.core.errors import EngineError, ImportRefused, TowlineError
from towline.core.frames import decode_frame, encode_frame
from towline.core.interpreter import command
from towline.core.manifest import Signature
from towline.core.walls import SAID, Walls
from towline.core.worker_messages import error_from

LOAD_TIMEOUT_S = 600.0
ANSWER_TIMEOUT_S = 300.0
CONVERT_TIMEOUT_S = 1800.0
# Codes of a converter that is gone, or not to be believed: nothing more can be asked of it.
DIED, TIMEOUT, BROKEN = "CONVERTER_DIED", "CONVERSION_TIMEOUT", "CONVERTER_BROKEN"
# What a frame with answers may hold; a model's layers are kept up to 1 GiB.
_MAX_FRAME_BYTES = 2 << 30

# Starts a command behind walls, with these descriptors passed on.
Launch = Callable[[Sequence[str], Sequence[int], Walls], "subprocess.Popen[bytes]"]


@dataclass(frozen=True)
class Loaded:
    """What a source said of itself (convert/base.py: Source)."""

    signatures: Mapping[str, Signature]
    facts: Mapping[str, str]
    parameters: int
    notes: tuple[str, ...]
    routes: tuple[str, ...]
    # One request as it was made for, where it knows; as unvouched for as everything else here.
    examples: Mapping[str, Any] = field(default_factory=dict)
    feature_defaults: Defaults = field(default_factory=dict)


class Converter:
    """A source, loaded in a process of its own. Use as a context manager: the process never outlives it."""

    def __init__(self, entry: Entry, task: Task, *, python: str, launch: Launch, reads: Sequence[Path] = ()) -> None:
        """`task.scratch` is an empty folder. `reads` is what belongs to the source, such as the code of an architecture."""
        self._task = task
        self._asked = 0
        self._end, theirs = channel.channel()
        reads = (task.source, *reads)
        given = {**asdict(task), "source": str(task.source), "scratch": str(task.scratch), "reads": [str(path) for path in reads]}
        words = command("towline.convert.foreign.host", str(theirs.fileno()), entry.reference, json.dumps(given), python=python)
        try:
            self._process = launch(words, [theirs.fileno()], Walls(reads=reads, writes=(task.scratch,)))
        except BaseException:
            self._end.close()
            raise
        finally:
            theirs.close()

    def __enter__(self) -> Converter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._end.close()
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()

    def load(self) -> Loaded:
        """Raises ImportRefused."""
        found = self._ask({"do": "load"}, LOAD_TIMEOUT_S, ImportRefused)
        examples = found.pop("examples", "")
        loaded = msgspec.convert(found, Loaded, strict=True)
        return replace(loaded, examples=self._read(examples)) if examples else loaded

    def answer(self, inputs: Mapping[str, np.ndarray], *, signature: str) -> dict[str, np.ndarray]:
        """Raises EngineError when the source's framework refuses this input."""
        message = {"do": "answer", "request": self._write(inputs), "signature": signature}
        return self._read(self._ask(message, ANSWER_TIMEOUT_S, EngineError)["response"])

    def convert(self, route: str) -> tuple[Path, Converted]:
        """The folder that a route wrote, and what it says is in it. Raises ConversionFailed."""
        self._asked += 1
        into = f"route-{self._asked}"
        found = self._ask({"do": "convert", "route": route, "into": into}, CONVERT_TIMEOUT_S, ConversionFailed)
        folder = self._task.scratch / into
        # A link would lead whoever copies what is beneath it out of the scratch folder.
        if not stat.S_ISDIR(os.lstat(folder).st_mode):
            raise self._broken("made no folder")
        return folder, msgspec.convert(found, Converted, strict=True)

    def layers(self, inputs: Mapping[str, np.ndarray], *, signature: str) -> list[Layer]:
        message = {"do": "layers", "request": self._write(inputs), "signature": signature}
        found = self._ask(message, ANSWER_TIMEOUT_S, EngineError)
        arrays = self._read(found["response"])
        return [Layer(str(name), str(kind), arrays[str(place)]) for place, (name, kind) in enumerate(found["layers"])]

    def chatter(self, limit: int = 2000) -> str:
        """The end of what the framework printed, for whoever has to find out."""
        try:
            with self._opened(SAID) as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - limit))
                return file.read(limit).decode("utf-8", "replace")
        except OSError:
            return ""

    def _write(self, arrays: Mapping[str, np.ndarray]) -> str:
        self._asked += 1
        name = f"request-{self._asked}.bin"
        try:
            descriptor = os.open(self._task.scratch / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileExistsError:
            raise self._broken("wrote where it is asked") from None
        with os.fdopen(descriptor, "wb") as file:
            # Who reads it may be another user; nobody else comes into the folder.
            os.fchmod(descriptor, 0o644)
            file.write(encode_frame(dict(arrays)))
        return name

    def _read(self, name: object) -> dict[str, np.ndarray]:
        """A frame from the scratch folder."""
        if not isinstance(name, str) or not name.isascii() or "/" in name:
            raise self._broken("named no file of its own")
        try:
            with self._opened(name) as file:
                if os.fstat(file.fileno()).st_size > _MAX_FRAME_BYTES:
                    raise self._broken("wrote too large an answer")
                return decode_frame(file.read(_MAX_FRAME_BYTES))
        except OSError:
            raise self._broken("wrote no answer") from None

    def _opened(self, name: str) -> BinaryIO:
        """A plain file of the scratch folder, which belongs to code that nobody vouches for. Raises OSError for anything else."""
        descriptor = os.open(self._task.scratch / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise OSError(errno.EINVAL, "no plain file")
        return os.fdopen(descriptor, "rb")

    def _ask(self, message: dict[str, Any], timeout_s: float, refusal: type[TowlineError]) -> dict[str, Any]:
        try:
            channel.send(self._end, message)
        except OSError:
            raise self._died() from None
        if not select.select([self._end], [], [], timeout_s)[0]:
            self._process.kill()
            raise ImportRefused(
                f"The process that reads the source took longer than {timeout_s:g} seconds to {message['do']}.",
                code=TIMEOUT,
                hint="Convert a smaller model, or on a machine that is less busy.",
            )
        received = self._received()
        if "error" in received:
            error = error_from(received["error"], refusal)
            # No other route is tried with it.
            raise ImportRefused(error.message, code=error.code, hint=error.hint) if error.code == SOURCE_ESCAPES else error
        ok = received.get("ok")
        if not isinstance(ok, dict):
            raise self._broken("said what is no answer")
        return ok

    def _received(self) -> dict[str, Any]:
        try:
            received = channel.receive(self._end)
        except TowlineError:
            raise self._broken("said what is no message") from None
        if received is None:
            raise self._died()
        for descriptor in received[1]:
            os.close(descriptor)
        return received[0]

    def _broken(self, what: str) -> ImportRefused:
        self._process.kill()
        return ImportRefused(f"The process that reads the source {what}; the source is not taken.", code=BROKEN)

    def _died(self) -> ImportRefused:
        code = self._process.wait()
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
        said = sentence(self.chatter().strip().rpartition("\n")[2])
        return ImportRefused(
            f"The process that reads the source {how}; the source is not taken." + (f" Its last words: {said}" if said else ""),
            code=DIED,
            hint="The file is damaged or hostile, or needs more memory than there is.",
        )
