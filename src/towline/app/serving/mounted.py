"""`towline.asgi_app("digits")`: models inside another ASGI application, in its event loop, each in a worker process of its own."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from towline.app.home import find_settings
from towline.app.predicting.load import version_of
from towline.client.tensors import as_tensor, named_inputs
from towline.core import dtypes
from towline.core.config import Settings, home_folder
from towline.core.errors import TowlineError, Unavailable, UsageError
from towline.core.inference import Request
from towline.core.manifest import Signature
from towline.core.version import Version

if TYPE_CHECKING:
    from towline.monitor.process import ProcessSample
    from towline.serve.embedded import Embedded, Lent
    from towline.serve.protocols.asgi import Receive, Scope, Send
    from towline.serve.slots import Slot


class MountedModels:
    """An ASGI 3 application. It starts with the server's lifespan, with `async with`, or with the first request; whichever comes first.

    Each process of a server that has several starts workers of its own. What is served is decided at the start.
    """

    def __init__(self, refs: Sequence[str | Path], settings: Settings, home: Path, prefix: str) -> None:
        self._refs = tuple(refs)
        self._settings = settings
        self._home = home
        self._prefix = prefix
        self._embedded: Embedded | None = None
        self._starting: asyncio.Lock | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            await self._answer(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1000, "reason": "There is no WebSocket here."})

    async def start(self) -> None:
        """Import what is a file, start the workers, return once all models answer. Raises TowlineError with the reason when one cannot."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop and self._embedded is not None:
            raise UsageError("These models were started in another event loop.", hint="Make one asgi_app per event loop.")
        if self._loop is not loop:
            self._loop, self._starting = loop, asyncio.Lock()
        assert self._starting is not None
        async with self._starting:
            if self._embedded is None:
                self._embedded = await self._started()

    async def _started(self) -> Embedded:
        from towline.serve.embedded import Embedded
        from towline.serve.router import WantedModel, WantedVersion

        versions = await asyncio.to_thread(self._versions)
        models = [WantedModel(one.name, (WantedVersion(one.name, one.number, one.digest, str(one.path)),), one.number) for one in versions]
        embedded = Embedded(self._settings, self._lent())
        try:
            await embedded.start(models)
        except BaseException:
            await embedded.stop()
            raise
        return embedded

    async def stop(self) -> None:
        """Answer what is in flight, end the workers."""
        embedded, self._embedded = self._embedded, None
        if embedded is not None:
            await embedded.stop()

    async def __aenter__(self) -> MountedModels:
        await self.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.stop()

    async def predict(self, inputs: Any, *, model: str = "", timeout_s: float | None = None) -> Any:
        """Run a model from your own code, batched with what comes over HTTP; `model` may be left out when there is one.

        Inputs and outputs are those of `towline.load(…).predict`: an array, or a dict of arrays by name, the batch axis included.
        Raises TowlineError: InvalidRequest, Overloaded, DeadlineExceeded, EngineError, … Cancelled, it gives the work up.
        """
        if self._embedded is None:
            await self.start()
        embedded = self._embedded
        assert embedded is not None
        served = embedded.plane.find(model) if model else embedded.plane.only()
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        outputs = (await embedded.infer(served, _request(inputs, served.signature(), self._settings.max_batch, deadline))).outputs
        return next(iter(outputs.values())) if len(outputs) == 1 and not isinstance(inputs, Mapping) else outputs

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            await self.start()
        except TowlineError as error:
            await send({"type": "lifespan.startup.failed", "message": error.message})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.stop()
        await send({"type": "lifespan.shutdown.complete"})

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        from towline.serve.protocols import asgi

        if self._embedded is None:
            try:
                await self.start()
            except TowlineError as error:
                why = Unavailable(f"The models could not be started. {error.message}", code="NOT_STARTED", hint=error.hint)
                await asgi.refuse(why, send)
                return
        assert self._embedded is not None
        await asgi.answer(self._embedded.gate, scope, receive, send, prefix=self._prefix)

    def _versions(self) -> list[Version]:
        found = [version_of(ref, self._home) for ref in self._refs]
        names = [one.name for one in found]
        if len(set(names)) < len(names):
            raise UsageError(f"A name is given twice: {', '.join(sorted(names))}.")
        return found

    def _lent(self) -> Lent:
        from towline.app.serving.inline import load_inline
        from towline.monitor.metrics import ServingMetrics
        from towline.secure.keys import FILE_NAME, WatchedRing
        from towline.serve.embedded import Lent
        from towline.serve.lanes import InlineLanes

        metrics = ServingMetrics()
        is_inline = self._settings.isolation == "none"
        return Lent(
            metrics,
            lambda slots: metrics.render(_samples(slots)),
            (lambda loop: InlineLanes(load_inline, loop)) if is_inline else None,
            WatchedRing(self._home / FILE_NAME) if self._settings.auth != "off" else None,
        )


def _request(inputs: Any, signature: Signature, max_batch: int, deadline: float | None) -> Request:
    """The arrays as the signature has them, checked as those of a request are."""
    from towline.serve.codecs.check import InputCheck, Limits

    names = [spec.name for spec in signature.inputs]
    named = named_inputs(inputs, names)
    arrays = [as_tensor(spec.name, named[spec.name], dtypes.BY_NAME[spec.dtype]) for spec in signature.inputs]
    rows = InputCheck(signature, Limits(max_batch=max_batch)).rows([array.shape for array in arrays], names)
    return Request({name: np.asarray(array, order="C") for name, array in zip(names, arrays, strict=True)}, rows, deadline)


def _samples(slots: Sequence[Slot]) -> list[ProcessSample]:
    from towline.monitor.process import sample_process

    workers = [sample_process(slot.pid, "worker", model=slot.name, version=str(slot.number)) for slot in slots if slot.pid]
    return [sample for sample in [sample_process(os.getpid(), "front"), *workers] if sample is not None]


def asgi_app(*refs: str | Path, home: str | Path | None = None, prefix: str = "", **settings: Any) -> MountedModels:
    """An ASGI application that serves model files or versions inside yours, by the routes of `towline serve`.

    `refs` are what `towline serve` takes: files, which are imported at the start, and `digits`, `digits:3`, `digits@champion`.
    `prefix` is cut off the path of each request; a framework that mounts says by itself what to cut off. `settings` are those of
    `towline config show` that concern requests: timeouts, limits, isolation, device, auth. Nothing is done before it is started.
    """
    if not refs:
        raise UsageError("asgi_app needs at least one model file or version.", hint='towline.asgi_app("model.onnx")')
    loaded = find_settings({**settings, "home": str(home) if home else None})
    return MountedModels(refs, loaded.settings, home_folder(loaded.settings, os.environ), prefix)
