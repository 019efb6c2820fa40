"""The main of the converter process: `host CHANNEL_FD IMPORTER TASK`, in the environment of a framework and behind the walls.

It loads one source and then does what it is asked, one message at a time: answer, convert, layers. Arrays travel as frames
(core/frames.py) in files of the scratch folder. Nothing that it says is believed without being looked at again.
"""

from __future__ import annotations

import json
import os
import re
import socket
import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec

from towline.convert.base import Defaulted, Exemplary, Source, Task
from towline.convert.foreign.importers import load_importer
from towline.convert.foreign.lookout import HINT, SOURCE_ESCAPES, Allowed, arm, python_folders
from towline.convert.wording import sentence
from towline.core import channel
from towline.core.errors import EngineError, ImportRefused, TowlineError
from towline.core.frames import decode_frame, encode_frame
from towline.core.walls import SAID
from towline.core.worker_messages import error_message

_LAYERS_BYTES = 1 << 30
# What native code says when it has come to a wall.
_AT_A_WALL = re.compile("permission ?denied|read-only file system|operation not permitted", re.IGNORECASE)


class Host:
    def __init__(self, end: socket.socket, task: Task, reads: Sequence[str]) -> None:
        self._end = end
        self._task = task
        self._reads = reads
        self._source: Source | None = None
        self._written = 0

    def work(self, reference: str) -> None:
        while received := channel.receive(self._end):
            message, _ = received
            try:
                answer: dict[str, Any] = {"ok": self._carry_out(message, reference)}
            except TowlineError as error:
                answer = {"error": error_message(_at_a_wall(error.message) or error)}
            except MemoryError:
                answer = {"error": error_message(ImportRefused("The source needs more memory than an import may take.", code="TOO_LARGE"))}
            except Exception as error:
                # The outermost frame of the process: whatever a framework raises becomes a refusal.
                traceback.print_exc()
                answer = {"error": error_message(_unforeseen(error, self._task))}
            channel.send(self._end, answer)

    def _carry_out(self, message: Mapping[str, Any], reference: str) -> dict[str, Any]:
        if message["do"] == "load":
            importer = load_importer(reference)
            # From here on it is the source that acts. Importing a framework looks at much that is nobody's business.
            arm(self._allowed(), self._report)
            source = self._source = importer.load(self._task)
            return {
                "signatures": msgspec.to_builtins(dict(source.signatures)),
                "facts": dict(source.facts),
                "parameters": source.parameters,
                "notes": list(source.notes),
                "routes": list(source.routes),
                "examples": self._write(dict(source.examples)) if isinstance(source, Exemplary) else "",
                "feature_defaults": msgspec.to_builtins(source.feature_defaults) if isinstance(source, Defaulted) else {},
            }
        assert self._source is not None
        if message["do"] == "convert":
            into = self._task.scratch / message["into"]
            into.mkdir()
            return asdict(self._source.convert(message["route"], into))
        request = decode_frame((self._task.scratch / message["request"]).read_bytes())
        if message["do"] == "answer":
            return {"response": self._write(self._source.answer(request, signature=message["signature"]))}
        layers, kept_bytes = [], 0
        for layer in self._source.layers(request, signature=message["signature"]):
            kept_bytes += layer.output.nbytes
            if kept_bytes > _LAYERS_BYTES:
                break
            layers.append(layer)
        response = self._write({str(place): layer.output for place, layer in enumerate(layers)})
        return {"layers": [[layer.name, layer.kind] for layer in layers], "response": response}

    def _allowed(self) -> Allowed:
        reads = (*self._reads, *python_folders())
        return Allowed(tuple(map(os.path.realpath, reads)), os.path.realpath(self._task.scratch), os.getpid())

    def _report(self, refusal: ImportRefused) -> None:
        """It stands for the answer that is being waited for."""
        channel.send(self._end, {"error": error_message(refusal)})

    def _write(self, arrays: dict[str, Any]) -> str:
        self._written += 1
        name = f"answer-{self._written}.bin"
        (self._task.scratch / name).write_bytes(encode_frame(arrays))
        return name


def _unforeseen(error: Exception, task: Task) -> TowlineError:
    hidden = (str(task.source), str(task.scratch), str(task.source.parent))
    said = sentence(f"{type(error).__name__}: {error}", hidden=hidden)
    return _at_a_wall(said) or EngineError(f"The source's own framework cannot do this: {said}", code="SOURCE_UNREADABLE")


def _at_a_wall(said: str) -> ImportRefused | None:
    """The refusal for what failed as things fail at the walls, in whatever words it is told."""
    if not _AT_A_WALL.search(said):
        return None
    return ImportRefused(f"The source tried what the walls around it do not allow: {said}", code=SOURCE_ESCAPES, hint=HINT)


def main(argv: list[str]) -> None:
    end = socket.socket(fileno=int(argv[0]))
    given = json.loads(argv[2])
    task = Task(Path(given["source"]), Path(given["scratch"]), given["kind"], given["options"], given["trusted"])
    chatter = os.open(task.scratch / SAID, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for descriptor in (1, 2):
        os.dup2(chatter, descriptor)
    # Names without a folder, and compiled modules, belong nowhere else.
    os.chdir(task.scratch)
    sys.dont_write_bytecode = True
    # urllib3, which converters bring along, opens a socket to try it out as it is imported: that is no attempt of the source's.
    socket.has_ipv6 = False
    Host(end, task, given["reads"]).work(argv[1])


if __name__ == "__main__":
    main(sys.argv[1:])
