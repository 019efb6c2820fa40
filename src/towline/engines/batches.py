"""The batches of one session: out of memory that the front fills, through the engine, and into memory that the front reads."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from towline.core.arena import Arena
from towline.core.engine import Session
from towline.core.errors import EngineError, Kind, TowlineError
from towline.core.frames import FrameError, FrameReader, FrameTooLarge, FrameWriter
from towline.core.manifest import Manifest
from towline.core.worker_messages import BATCH, DONE, ENDED, FAILED, MAX_ERROR_BYTES, MOVE, PART, RUN, STREAM, error_message
from towline.engines.polite import leave
from towline.engines.repeats import Repeats
from towline.engines.streaming import Turns, give_parts

_OUT_OF_MEMORY = TowlineError("The model ran out of memory on this input.", code="OUT_OF_MEMORY", kind=Kind.OUT_OF_MEMORY)


class Batches:
    """Each inference thread calls `run`. A slot of the arena is in one thread's hands at a time."""

    def __init__(self, session: Session, manifest: Manifest, arena: Arena, link: socket.socket) -> None:
        self._session = session
        self._manifest = manifest
        self._arena = arena
        self._link = link
        # To read batches from and to answer them on, once they were given: the link wakes its reader for more.
        self.pipes: tuple[int, int] | None = None
        self.turns = Turns(arena.slots)
        slots, size = range(arena.slots), arena.slot_bytes
        self._readers = [FrameReader(arena.inputs, slot * size, size) for slot in slots]
        self._writers = [FrameWriter(arena.outputs, slot * size, size) for slot in slots]
        self._repeats = [Repeats(session, writer, slot) for slot, writer in enumerate(self._writers)]

    def run(self) -> None:
        """What an inference thread does, until the front has gone; that ends the process."""
        link, session, manifest = self._link, self._session, self._manifest
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
                elif what == MOVE and self.pipes is not None:
                    receive, send = partial(os.read, self.pipes[0]), partial(os.write, self.pipes[1])
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
            give_parts(stream(self._readers[slot].read(), slot=slot), give, lambda: self.turns.wants_more(slot))
            return BATCH.pack(slot, ENDED, min((time.perf_counter_ns() - began) // 1000, 0xFFFFFFFF))
        except TowlineError as error:
            return BATCH.pack(slot, FAILED, self._write_error(slot, error))
        except MemoryError:
            return BATCH.pack(slot, FAILED, self._write_error(slot, _OUT_OF_MEMORY))

    def _write_error(self, slot: int, error: TowlineError) -> int:
        self._writers[slot].forget()
        start = slot * self._arena.slot_bytes
        if isinstance(error, FrameTooLarge):
            error = FrameError("The model's answer is larger than this server passes on.", code="OUTPUT_TOO_LARGE")
        raw = json.dumps(error_message(error)).encode()
        if len(raw) > MAX_ERROR_BYTES:
            raw = json.dumps({"code": error.code, "kind": error.kind.value, "message": error.message[:200]}).encode()
        self._arena.outputs[start : start + len(raw)] = raw
        return len(raw)
