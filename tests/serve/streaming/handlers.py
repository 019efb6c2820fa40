"""Handlers that the tests of this folder serve. Imported by workers only; each is as small as what it shows."""

from __future__ import annotations

import asyncio
import ctypes
import os
import sys
import threading
import time
from pathlib import Path

import numpy as np

# Who imports this file.
with open(os.environ["TOLD"] + ".importers", "a") as file:
    file.write(" ".join(sys.orig_argv) + "\n")


class Echo:
    """Sync, a body in and a body out."""

    sample = {"name": "you"}

    def setup(self, folder, device):
        self.greeting = (folder / "greeting.txt").read_text().strip()

    def decode(self, request):
        return request["name"]

    def predict(self, name):
        return f"{self.greeting} {name}"

    def encode(self, text):
        return {"text": text}


class Later:
    """Async, many at once: nobody is answered before as many are here as the request says."""

    max_concurrent = 8
    idempotent = True

    def setup(self, folder, device):
        self.here = 0

    async def predict(self, request):
        if request.get("exit") == "task":
            self.leaving = asyncio.create_task(self.leave())
            await asyncio.sleep(0.05)
        elif request.get("exit"):
            await self.leave()
        self.here += 1
        while self.here < request["of"]:
            await asyncio.sleep(0.01)
        return {"pid": os.getpid(), "sum": np.float32(sum(request.get("values", [])))}

    async def leave(self):
        sys.exit(3)


class Keeper:
    """Remembers the first request it was ever sent, and how many there were."""

    inputs = {"x": "float32[N]"}
    outputs = {"first": "float32[N]", "seen": "int64[N]"}
    stateful = True
    seen = 0

    def predict(self, x):
        self.seen += 1
        if self.seen == 1:
            self.first = x
        return self.first, [self.seen]


class Patient:
    """Waits for ever; tells when it is told to stop."""

    async def predict(self, request):
        told = Path(os.environ["TOLD"] + ".patient")
        told.write_text("waits")
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            told.write_text("stopped")
            raise


class Sum:
    """Typed: every protocol serves it."""

    inputs = {"x": "float32[N,3]"}
    outputs = {"y": "float32[N]"}
    max_batch = 8
    idempotent = True

    def predict(self, x):
        return x.sum(axis=1)


class Words:
    """A generator: word by word."""

    sample = {"text": "a b"}
    timeout_s = 30

    def predict(self, request):
        for word in request["text"].split():
            if word == "FAIL":
                raise ValueError("a secret of the handler's")
            if word == "DIE":
                os.abort()
            if word == "WAIT":
                while not Path(os.environ["TOLD"] + request["for"]).exists():
                    time.sleep(0.01)
            time.sleep(request.get("pause_s", 0))
            yield {"word": word}


class Steps:
    """An async generator with a signature: 0, 1, …, n-1 as float32."""

    inputs = {"n": "int64[N]"}
    outputs = {"y": "float32[N]"}
    stateful = True

    async def predict(self, n):
        for step in range(int(n[0])):
            await asyncio.sleep(0)
            yield np.array([step], np.float32)


class Endless:
    """Parts of 64 KiB without end; counts what it made, and tells when it was closed."""

    def setup(self, folder, device):
        self.made = self.closed = 0

    def predict(self, request):
        try:
            while True:
                self.made += 1
                self.tell()
                yield "x" * 65536
        finally:
            self.closed += 1
            self.tell()

    def tell(self):
        # Whoever reads it sees it whole.
        told = Path(os.environ["TOLD"])
        told.with_suffix(".new").write_text(f"{self.made} {self.closed}")
        told.with_suffix(".new").rename(told)


class Stuck:
    """Goes on for ever when it is told to, though it may take no more than its `timeout_s`."""

    timeout_s = 1.0

    def predict(self, request):
        while request["for_ever"]:
            pass
        return {"pid": os.getpid()}


class Bad:
    """Does what its request says."""

    timeout_s = 30

    def decode(self, request):
        if request["do"] == "decode":
            raise KeyError("a secret of the handler's")
        return request["do"]

    def predict(self, do):
        if do == "predict":
            raise ZeroDivisionError
        if do == "exit":
            sys.exit(3)
        if do == "stop":
            raise StopIteration
        if do == "crash":
            ctypes.string_at(0)
        if do == "print":
            for _ in range(10):
                print("\x1b[31m" + "n" * 1023 + "\n" + ("m" * 1023 + "\n") * 1023, end="")
        if do == "thread":
            threading.Thread(target=lambda: 1 / 0).start()
        if do == "refuse":
            from towline.core.errors import InvalidRequest

            raise InvalidRequest("Not that.", code="NOT_THAT", field="do")
        return object() if do == "object" else {"did": do, "pid": os.getpid()}

    def encode(self, value):
        if isinstance(value, dict) and value["did"] == "encode":
            raise RuntimeError
        return value


class Wrong:
    """Gives an output that its signature does not have."""

    inputs = {"x": "float32[N]"}
    outputs = {"y": "float32[N]"}

    def predict(self, x):
        return x.astype(np.float64) if x[0] == 7 else x[:, np.newaxis] if x[0] == 8 else x
