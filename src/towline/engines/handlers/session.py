"""One loaded handler: its methods called in order, on the thread that runs the request or, where they are async, on an event loop."""

from __future__ import annotations

import asyncio
import concurrent.futures
import inspect
import sys
import threading
import traceback
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import partial
from typing import Any

import numpy as np

from towline.core.errors import EngineError, Kind, TowlineError
from towline.core.handler import BODY
from towline.core.refs import clip
from towline.engines.handlers.declared import Declared
from towline.engines.handlers.values import arrays_of, bad_output, body_of, joined, parsed, size_bytes

# What no user's iterator gives.
_END = object()


class PythonSession:
    """A StreamingSession (core/engine.py) around a user's object. `max_answer_bytes` bounds an answer that comes in parts."""

    def __init__(self, user: Any, declared: Declared, loop: Loop, *, max_answer_bytes: int) -> None:
        self._user = user
        self._declared = declared
        self._handler = declared.handler
        self._outputs = declared.signature.outputs
        self._names = [spec.name for spec in declared.signature.inputs]
        self._loop = loop
        self._max_answer_bytes = max_answer_bytes
        self._decode = getattr(user, "decode", None)
        self._encode = getattr(user, "encode", None)
        self._stopped: set[int] = set()

    def run(self, inputs: Mapping[str, np.ndarray], *, slot: int = 0, signature: str = "") -> Sequence[np.ndarray]:
        self._stopped.discard(slot)
        if self._handler.streams:
            return self._run_whole(inputs, slot)
        if not self._handler.passes_body:
            value = self._call("predict", self._user.predict, slot, self._decoded(self._values(inputs), slot))
            return self._encoded(value, slot)
        decoded = [self._decoded(self._body(body), slot) for body in inputs[BODY].reshape(-1)]
        values = [self._call("encode", self._encode, slot, value) if self._encode else value for value in self._predicted(decoded, slot)]
        return [_bodies([body_of(value, self._handler.media_type) for value in values]).reshape(inputs[BODY].shape)]

    def _predicted(self, decoded: list[Any], slot: int) -> Sequence[Any]:
        if self._declared.max_batch == 1:
            return [self._call("predict", self._user.predict, slot, value) for value in decoded]
        answers = self._call("predict", self._user.predict, slot, decoded)
        if isinstance(answers, str | bytes | Mapping) or not hasattr(answers, "__len__") or len(answers) != len(decoded):
            raise bad_output(f"gave a {type(answers).__name__} for {len(decoded)} requests, expected a list with one answer for each")
        return list(answers)

    def stream(self, inputs: Mapping[str, np.ndarray], *, slot: int = 0) -> Generator[Sequence[np.ndarray], None, None]:
        """The parts of an answer as the user's `predict` yields them."""
        self._stopped.discard(slot)
        if self._handler.passes_body:
            bodies = inputs[BODY].reshape(-1)
            if len(bodies) != 1:
                raise EngineError("A streaming handler takes one body at a time.", code="ONE_AT_A_TIME", kind=Kind.INVALID, field=BODY)
            given = self._body(bodies[0])
        else:
            given = self._values(inputs)
        with closing(self._parts(self._call("predict", self._user.predict, slot, self._decoded(given, slot)), slot)) as values:
            for value in values:
                if slot in self._stopped:
                    raise _terminated()
                yield self._encoded(value, slot)

    def _parts(self, answer: Any, slot: int) -> Generator[Any, None, None]:
        """What the user's iterator gives, async or not; closed with this one, so that his `finally` runs."""
        is_async = hasattr(answer, "__aiter__")
        if not is_async and (not hasattr(answer, "__iter__") or isinstance(answer, str | bytes | Mapping)):
            raise bad_output(f"gave a {type(answer).__name__} where its parts were expected: streams = True promises an iterator")
        source = answer.__aiter__() if is_async else iter(answer)
        step = partial(_next_async, source) if is_async else partial(next, source, _END)
        try:
            while (value := self._call("predict", step, slot)) is not _END:
                yield value
        finally:
            close = getattr(source, "aclose" if is_async else "close", None)
            if close is not None:
                self._call("predict", close)

    def _run_whole(self, inputs: Mapping[str, np.ndarray], slot: int) -> Sequence[np.ndarray]:
        """All parts of an answer as one, within what an answer may hold."""
        if not self._handler.passes_body:
            return joined(self._collected(inputs, slot), self._outputs)
        answers = []
        for body in inputs[BODY].reshape(-1):
            parts = [part[0][0] for part in self._collected({BODY: _bodies([body])}, slot)]
            is_json = self._handler.media_type.startswith("application/json")
            answers.append(b"[" + b",".join(parts) + b"]" if is_json else b"".join(parts))
        return [_bodies(answers).reshape(inputs[BODY].shape)]

    def _collected(self, inputs: Mapping[str, np.ndarray], slot: int) -> list[Sequence[np.ndarray]]:
        parts: list[Sequence[np.ndarray]] = []
        left_bytes = self._max_answer_bytes
        stream = self.stream(inputs, slot=slot)
        try:
            for part in stream:
                left_bytes -= size_bytes(part) + 64
                if left_bytes < 0:
                    raise EngineError(
                        "The whole answer is larger than this server passes on.", code="OUTPUT_TOO_LARGE", hint="Ask for it in parts."
                    )
                parts.append(part)
        finally:
            stream.close()
        return parts

    def terminate(self, slot: int) -> None:
        self._stopped.add(slot)
        self._loop.cancel(slot)

    # The steps

    def _body(self, body: Any) -> Any:
        return bytes(body) if self._handler.takes == "bytes" else parsed(bytes(body))

    def _values(self, inputs: Mapping[str, np.ndarray]) -> Any:
        """The inputs as the user's own: what he keeps of them must not change when the next request comes."""
        missing = [name for name in self._names if name not in inputs]
        if missing:
            raise EngineError(f"Input '{missing[0]}' is missing.", code="MISSING_INPUT", kind=Kind.INVALID, field=missing[0])
        own = {name: inputs[name].copy() for name in self._names}
        return own if len(own) > 1 or self._decode is not None else next(iter(own.values()))

    def _decoded(self, given: Any, slot: int) -> Any:
        return self._call("decode", self._decode, slot, given) if self._decode is not None else given

    def _encoded(self, value: Any, slot: int) -> list[np.ndarray]:
        if self._encode is not None:
            value = self._call("encode", self._encode, slot, value)
        if self._handler.passes_body:
            return [_bodies([body_of(value, self._handler.media_type)])]
        return arrays_of(value, self._outputs)

    def _call(self, step: str, method: Callable[..., Any], slot: int | None = None, *arguments: Any) -> Any:
        """Call a method of the user's and wait for it; without a slot nothing ends it before it ends."""
        with users_code(step):
            value = method(*arguments)
            if not inspect.isawaitable(value):
                return value
            return self._loop.wait_for(value, slot, is_stopped=slot in self._stopped)


class Loop:
    """The event loop of a handler's async methods, on a thread of its own that starts when it is needed."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = threading.Lock()
        self._waited_for: dict[int, concurrent.futures.Future[Any]] = {}

    def wait_for(self, work: Any, slot: int | None = None, *, is_stopped: bool = False) -> Any:
        """The result of an awaitable, which `cancel` of its slot may end."""
        future = asyncio.run_coroutine_threadsafe(_awaited(work), self._running())
        if slot is not None:
            self._waited_for[slot] = future
        if is_stopped:
            future.cancel()
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise _terminated() from None
        finally:
            self._waited_for.pop(slot, None)  # type: ignore[arg-type]

    def cancel(self, slot: int) -> None:
        future = self._waited_for.get(slot)
        if future is not None:
            future.cancel()

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=_run_forever, args=(self._loop,), daemon=True, name="towline-loop").start()
            return self._loop


def _run_forever(loop: asyncio.AbstractEventLoop) -> None:
    """Also when a task calls sys.exit(): asyncio tells who waits for it, and lets it end the loop."""
    while True:
        try:
            loop.run_forever()
        except (SystemExit, KeyboardInterrupt) as error:
            sys.stderr.write(f"a task raised {type(error).__name__}\n")


async def _awaited(work: Any) -> Any:
    return await work


async def _next_async(source: Any) -> Any:
    try:
        return await anext(source)
    except StopAsyncIteration:
        return _END


@contextmanager
def users_code(step: str) -> Iterator[None]:
    """Whatever a user's code raises becomes an answer: its type for the client, all of it for the log. What we raise passes."""
    try:
        yield
    except (TowlineError, MemoryError):
        raise
    except BaseException as error:
        # From the user's frame on: ours say nothing he needs.
        trace = error.__traceback__ and error.__traceback__.tb_next
        sys.stderr.write(f"{step} failed\n{''.join(traceback.format_exception(type(error), error, trace))}")
        raise EngineError(f"The handler's {step} raised {clip(type(error).__name__)}.", code="HANDLER_FAILED") from error


def _terminated() -> EngineError:
    return EngineError("The run was stopped: its deadline had passed.", code="TERMINATED", kind=Kind.DEADLINE)


def _bodies(bodies: Sequence[bytes]) -> np.ndarray:
    array = np.empty(len(bodies), dtype=object)
    array[:] = bodies
    return array
