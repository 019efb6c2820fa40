"""OpenVINO: runs ONNX files on Intel's and other CPUs, in the Python of its environment. Imported only in a worker."""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from towline.core import dtypes
from towline.core.cpu import usable_cores
from towline.core.engine import EngineOptions
from towline.core.errors import EngineError, Kind, VersionError
from towline.core.manifest import Manifest, Signature, TensorSpec
from towline.engines.wording import cleaned

# It would tell its maker of each import, by an id of this machine. Nothing here reports home.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]

import openvino as ov  # noqa: E402

# Its bindings raise RuntimeError for nearly everything.
_FAILURES = (RuntimeError, ValueError, TypeError, KeyError)
_MEMORY_WORDS = re.compile(r"bad_?alloc|failed to allocate|out of memory|not enough memory", re.IGNORECASE)


class OpenVinoEngine:
    name = "openvino"

    def load(self, folder: Path, manifest: Manifest, options: EngineOptions) -> OpenVinoSession:
        """Load the model file of a sealed folder. The caller has checked the digest."""
        if options.device != "cpu":
            raise VersionError(
                f"Device '{options.device}' cannot be used: OpenVINO runs on the CPU here.", code="NO_SUCH_DEVICE", hint="Use --device cpu."
            )
        strings = [spec.name for one in manifest.signatures.values() for spec in (*one.inputs, *one.outputs) if spec.dtype == "string"]
        if strings:
            raise VersionError(f"'{strings[0]}' is text, which OpenVINO is not given here.", code="UNSUPPORTED_DTYPE")
        files = {name: manifest.model_files.get(name, manifest.model_file) for name in manifest.signatures}
        try:
            core = ov.Core()
            compiled = {name: core.compile_model(str(folder / file), "CPU", _settings(options)) for name, file in files.items()}
            return OpenVinoSession(compiled, manifest)
        except _FAILURES as error:
            raise VersionError(f"OpenVINO cannot load this model: {cleaned(error)}", code="LOAD_FAILED") from error

    def describe(self, folder: Path, model_file: str) -> Signature:
        try:
            model = ov.Core().read_model(str(folder / model_file))
            return Signature(tuple(map(_spec, model.inputs)), tuple(map(_spec, model.outputs)))
        except _FAILURES as error:
            raise EngineError(f"OpenVINO cannot read this model: {cleaned(error)}", code="LOAD_FAILED") from error

    def devices(self) -> tuple[str, ...]:
        return ("cpu",)


class OpenVinoSession:
    """As many requests as there were runs at the same time, all over one compiled model per signature."""

    def __init__(self, compiled: Mapping[str, Any], manifest: Manifest) -> None:
        self._default = manifest.signature_names[0]
        self._compiled = compiled
        self._outputs = {
            name: [compiled[name].output(spec.name) for spec in signature.outputs] for name, signature in manifest.signatures.items()
        }
        self._inputs = {name: {spec.name for spec in signature.inputs} for name, signature in manifest.signatures.items()}
        self._idle: dict[str, list[Any]] = {name: [] for name in compiled}
        self._running: dict[int, Any] = {}
        self._terminated: set[int] = set()
        self._lock = threading.Lock()

    def run(self, inputs: Mapping[str, np.ndarray], *, slot: int = 0, signature: str = "") -> Sequence[np.ndarray]:
        key = signature or self._default
        if inputs.keys() != self._inputs[key]:
            # It would take what is missing from an earlier run, which was somebody else's.
            raise EngineError(f"It takes {', '.join(sorted(self._inputs[key]))}.", code="ENGINE_REFUSED", kind=Kind.INVALID)
        request = self._begun(key, slot)
        try:
            request.infer(dict(inputs))
            # Copies: what a request holds is overwritten by its next run.
            return [np.array(request.get_tensor(port).data) for port in self._outputs[key]]
        except (*_FAILURES, MemoryError) as error:
            if slot in self._terminated:
                raise EngineError("The run was stopped: its deadline had passed.", code="TERMINATED", kind=Kind.DEADLINE) from error
            if isinstance(error, MemoryError) or _MEMORY_WORDS.search(str(error)):
                raise EngineError("The model ran out of memory on this input.", code="OUT_OF_MEMORY", kind=Kind.OUT_OF_MEMORY) from error
            raise EngineError(f"The model refused this input: {cleaned(error)}", code="ENGINE_REFUSED", kind=Kind.INVALID) from error
        finally:
            self._ended(key, slot, request)

    def terminate(self, slot: int) -> None:
        with self._lock:
            request = self._running.get(slot)
            if request is not None:
                self._terminated.add(slot)
                request.cancel()

    def _begun(self, key: str, slot: int) -> Any:
        with self._lock:
            self._terminated.discard(slot)
            idle = self._idle[key]
            request = self._running[slot] = idle.pop() if idle else self._compiled[key].create_infer_request()
            return request

    def _ended(self, key: str, slot: int, request: Any) -> None:
        with self._lock:
            self._running.pop(slot, None)
            self._idle[key].append(request)


def _settings(options: EngineOptions) -> dict[str, Any]:
    streams = max(1, usable_cores() // options.threads_per_run)
    return {
        "NUM_STREAMS": streams,
        "INFERENCE_NUM_THREADS": streams * options.threads_per_run,
        # Other workers use the cores too.
        "ENABLE_CPU_PINNING": False,
        # It would take bfloat16 by itself where the CPU has it: faster, and other answers.
        "INFERENCE_PRECISION_HINT": "f32",
    }


def _spec(port: Any) -> TensorSpec:
    dtype = np.dtype(port.get_element_type().to_dtype()).name
    if dtype not in dtypes.BY_NAME:
        raise EngineError(f"'{port.get_any_name()}' has type {dtype}, which Towline does not carry.", code="UNSUPPORTED_DTYPE")
    shape = port.get_partial_shape()
    if shape.rank.is_dynamic:
        return TensorSpec(port.get_any_name(), dtype, None)
    symbols = ("N" if axis == 0 else f"{port.get_any_name()}_{axis}" for axis in range(len(shape)))
    dims = tuple(symbol if dim.is_dynamic else dim.get_length() for dim, symbol in zip(shape, symbols, strict=True))
    return TensorSpec(port.get_any_name(), dtype, dims)
