"""LiteRT, once TensorFlow Lite: runs .tflite files, in the Python of its environment. Imported only in a worker."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from towline.core import dtypes
from towline.core.engine import EngineOptions
from towline.core.errors import EngineError, Kind, VersionError
from towline.core.manifest import DEFAULT_SIGNATURE, Manifest, Signature, TensorSpec
from towline.engines.wording import cleaned

_FAILURES = (RuntimeError, ValueError, TypeError)
_MEMORY_WORDS = re.compile(r"bad_?alloc|failed to allocate|out of memory|allocation failed", re.IGNORECASE)
BATCH = "N"


class LiteRtEngine:
    name = "litert"

    def load(self, folder: Path, manifest: Manifest, options: EngineOptions) -> LiteRtSession:
        """Load the model file of a sealed folder. The caller has checked the digest."""
        if options.device != "cpu":
            raise VersionError(
                f"Device '{options.device}' cannot be used: LiteRT runs on the CPU here.", code="NO_SUCH_DEVICE", hint="Use --device cpu."
            )
        model = folder / manifest.model_file

        def open_copy() -> Copy:
            return Copy(Interpreter(model_path=str(model), num_threads=options.threads_per_run), manifest)

        try:
            with _without_greeting():
                return LiteRtSession(open_copy)
        except _FAILURES as error:
            raise VersionError(f"LiteRT cannot load this model: {cleaned(error)}", code="LOAD_FAILED") from error

    def describe(self, folder: Path, model_file: str) -> Signature:
        """The default signature of a file; what it leaves open is `N` where it stands first, else a symbol of its own."""
        try:
            interpreter = Interpreter(model_path=str(folder / model_file))
            keys = sorted(interpreter.get_signature_list(), key=lambda key: (key != DEFAULT_SIGNATURE, key))
            if keys:
                runner = interpreter.get_signature_runner(keys[0])
                inputs, outputs = runner.get_input_details(), runner.get_output_details()
            else:
                inputs = {one["name"]: one for one in interpreter.get_input_details()}
                outputs = {one["name"]: one for one in interpreter.get_output_details()}
        except _FAILURES as error:
            raise EngineError(f"LiteRT cannot read this model: {cleaned(error)}", code="LOAD_FAILED") from error
        return Signature(*(tuple(_spec(name, one) for name, one in tensors.items()) for tensors in (inputs, outputs)))

    def devices(self) -> tuple[str, ...]:
        return ("cpu",)


class Copy:
    """One interpreter, in one thread's hands at a time. Its tensors take the shapes of each request."""

    def __init__(self, interpreter: Any, manifest: Manifest) -> None:
        self._interpreter = interpreter
        # Now, and not with the first request: what cannot be prepared cannot be loaded. Nor can it be done beside a signature's runner.
        interpreter.allocate_tensors()
        self._runs = {key: _runner(interpreter, key, one) for key, one in manifest.signatures.items()}
        self._default = manifest.signature_names[0]

    def run(self, inputs: Mapping[str, np.ndarray], signature: str) -> list[np.ndarray]:
        # What an LSTM remembers of one request is no other's business.
        self._interpreter.reset_all_variables()
        return [_carried(array) for array in self._runs[signature or self._default](inputs)]


class LiteRtSession:
    """As many interpreters as there were runs at the same time, all over one mapped file."""

    def __init__(self, open_copy: Callable[[], Copy]) -> None:
        self._open_copy = open_copy
        self._idle = [open_copy()]

    def run(self, inputs: Mapping[str, np.ndarray], *, slot: int = 0, signature: str = "") -> Sequence[np.ndarray]:
        try:
            copy = self._idle.pop()
        except IndexError:
            copy = self._opened()
        try:
            outputs = copy.run(inputs, signature)
        except (*_FAILURES, MemoryError) as error:
            # The copy is not used again: its tensors may be half prepared.
            if isinstance(error, MemoryError) or _MEMORY_WORDS.search(str(error)):
                raise EngineError("The model ran out of memory on this input.", code="OUT_OF_MEMORY", kind=Kind.OUT_OF_MEMORY) from error
            raise EngineError(f"The model refused this input: {cleaned(error)}", code="ENGINE_REFUSED", kind=Kind.INVALID) from error
        self._idle.append(copy)
        return outputs

    def terminate(self, slot: int) -> None:
        """LiteRT has no way to stop a run from outside: one that does not end is ended with its worker."""

    def _opened(self) -> Copy:
        try:
            return self._open_copy()
        except _FAILURES as error:
            raise EngineError(f"LiteRT cannot run once more at a time: {cleaned(error)}", code="ENGINE_ERROR") from error


def _runner(interpreter: Any, key: str, signature: Signature) -> Callable[[Mapping[str, np.ndarray]], list[np.ndarray]]:
    names = [spec.name for spec in signature.outputs]
    if key in interpreter.get_signature_list():
        by_name = interpreter.get_signature_runner(key)

        def run(inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
            found = by_name(**inputs)
            return [found[name] for name in names]

        return run
    # A file without signatures names its tensors only.
    inputs_at = {one["name"]: one["index"] for one in interpreter.get_input_details()}
    outputs_at = {one["name"]: one["index"] for one in interpreter.get_output_details()}
    if missing := [spec.name for spec in signature.inputs if spec.name not in inputs_at] + [
        name for name in names if name not in outputs_at
    ]:
        raise ValueError(f"the file has no tensor '{missing[0]}'.")

    def run_unnamed(inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        if inputs.keys() != inputs_at.keys():
            raise ValueError(f"it takes {', '.join(inputs_at)}.")
        for name, array in inputs.items():
            interpreter.resize_tensor_input(inputs_at[name], array.shape)
        interpreter.allocate_tensors()
        for name, array in inputs.items():
            interpreter.set_tensor(inputs_at[name], array)
        interpreter.invoke()
        return [interpreter.get_tensor(outputs_at[name]) for name in names]

    return run_unnamed


def _carried(array: np.ndarray) -> np.ndarray:
    return array.astype(object) if array.dtype.kind in "SU" else array


def _spec(name: str, details: Mapping[str, Any]) -> TensorSpec:
    kind = np.dtype(details["dtype"])
    dtype = "string" if kind.kind in "OSU" else kind.name
    if dtype not in dtypes.BY_NAME:
        raise EngineError(f"'{name}' has type {dtype}, which Towline does not carry.", code="UNSUPPORTED_DTYPE")
    shape = [int(size) for size in details["shape_signature"]] or [int(size) for size in details["shape"]]
    symbols = (BATCH if axis == 0 else f"{name}_{axis}" for axis in range(len(shape)))
    return TensorSpec(name, dtype, tuple(symbol if size < 0 else size for size, symbol in zip(shape, symbols, strict=True)))


@contextlib.contextmanager
def _without_greeting() -> Iterator[None]:
    """The library says on stderr, once and by no setting of its own, which delegate it made."""
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)
