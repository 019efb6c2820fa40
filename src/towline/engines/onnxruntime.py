"""ONNX Runtime: the first engine. Imported only in a worker, in the fork server, or on purpose in-process."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

# Read when the library loads: it would count runs and keep an id of this machine for its maker. Nothing here reports home.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnxruntime as ort

from towline.core import dtypes
from towline.core.cpu import cpu_kind
from towline.core.engine import EngineOptions
from towline.core.errors import EngineError, Kind, VersionError
from towline.core.manifest import Manifest, Signature, TensorSpec
from towline.engines.wording import cleaned

_FATAL_ONLY = 4
_LAYOUT_DOMAIN = "com.microsoft.nchwc"
_PROVIDERS = {"cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider", "rocm": "ROCMExecutionProvider"}
_MEMORY_WORDS = re.compile(r"bad_?alloc|failed to allocate|out of memory|BFCArena", re.IGNORECASE)

# Everything this binding raises at load or run, plus what escapes its C++ when a file is mangled.
_FAILURES = (
    ort.capi.onnxruntime_pybind11_state.Fail,
    ort.capi.onnxruntime_pybind11_state.InvalidArgument,
    ort.capi.onnxruntime_pybind11_state.InvalidGraph,
    ort.capi.onnxruntime_pybind11_state.InvalidProtobuf,
    ort.capi.onnxruntime_pybind11_state.NoModel,
    ort.capi.onnxruntime_pybind11_state.NoSuchFile,
    ort.capi.onnxruntime_pybind11_state.NotImplemented,
    ort.capi.onnxruntime_pybind11_state.RuntimeException,
    ort.capi.onnxruntime_pybind11_state.EPFail,
    RuntimeError,
    ValueError,
    TypeError,
)

ort.set_default_logger_severity(_FATAL_ONLY)


class OnnxRuntimeEngine:
    name = "onnxruntime"
    starts_no_threads = True

    def load(self, folder: Path, manifest: Manifest, options: EngineOptions) -> OnnxRuntimeSession:
        """Load the model file of a sealed folder. The caller has checked the digest."""
        _check_layout(manifest)

        def opened(name: str) -> ort.InferenceSession:
            try:
                return ort.InferenceSession(str(folder / name), _session_options(options), providers=_providers(options))
            except _FAILURES as error:
                raise VersionError(f"ONNX Runtime cannot load this model: {cleaned(error)}", code="LOAD_FAILED") from error

        own = {signature: opened(name) for signature, name in manifest.model_files.items() if name != manifest.model_file}
        return OnnxRuntimeSession(opened(manifest.model_file), manifest, own)

    def describe(self, folder: Path, model_file: str) -> Signature:
        try:
            session = ort.InferenceSession(str(folder / model_file), _session_options(EngineOptions()), providers=["CPUExecutionProvider"])
        except _FAILURES as error:
            raise EngineError(f"ONNX Runtime cannot load this model: {cleaned(error)}", code="LOAD_FAILED") from error
        return Signature(tuple(map(_spec, session.get_inputs())), tuple(map(_spec, session.get_outputs())))

    def devices(self) -> tuple[str, ...]:
        present = ort.get_available_providers()
        return ("cpu", *(f"{device}:0" for device, provider in _PROVIDERS.items() if provider in present))


class OnnxRuntimeSession:
    """One session, and one more for each signature with a file of its own.

    Several threads may run at once; each run has options of its own, so that it can be told to stop.
    """

    def __init__(self, session: ort.InferenceSession, manifest: Manifest, own: Mapping[str, ort.InferenceSession]) -> None:
        self._session, self._own = session, own
        self._run = _runner(session)
        self._runs = {name: _runner(one) for name, one in own.items()}
        self._names = {name: [spec.name for spec in one.outputs] for name, one in manifest.signatures.items()}
        self._names[""] = self._names[manifest.signature_names[0]]
        self._strings = {spec.name for one in manifest.signatures.values() for spec in one.inputs if spec.dtype == "string"}
        self._options: dict[int, Any] = {}
        self._terminated: set[int] = set()

    def run(self, inputs: Mapping[str, np.ndarray], *, slot: int = 0, signature: str = "") -> Sequence[np.ndarray]:
        options = self._options.get(slot)
        if options is None or slot in self._terminated:
            options = self._new_options(slot)
        try:
            if self._strings:
                inputs = {name: _as_text(array) if name in self._strings else array for name, array in inputs.items()}
            run = self._runs.get(signature, self._run) if signature else self._run
            return run(self._names[signature], inputs, options)
        except (*_FAILURES, MemoryError) as error:
            raise self._failure(error, slot) from error

    def bind(self, inputs: Mapping[str, np.ndarray], outputs: Mapping[str, np.ndarray], *, slot: int) -> Callable[[], None] | None:
        """See engines/repeats.py. On the CPU only, where both lie."""
        run = getattr(getattr(self._session, "_sess", None), "run_with_iobinding", None)
        if run is None or self._strings or self._session.get_providers() != ["CPUExecutionProvider"]:
            return None
        binding = self._session.io_binding()
        try:
            for bind, arrays in ((binding.bind_input, inputs), (binding.bind_output, outputs)):
                for name, array in arrays.items():
                    bind(name, "cpu", 0, array.dtype.type, array.shape, array.__array_interface__["data"][0])
        except _FAILURES:
            return None
        bound, all_options = binding._iobinding, self._options

        def repeat() -> None:
            options = all_options.get(slot)
            if options is None or slot in self._terminated:
                options = self._new_options(slot)
            try:
                run(bound, options)
            except (*_FAILURES, MemoryError) as error:
                raise self._failure(error, slot) from error

        return repeat

    def _new_options(self, slot: int) -> Any:
        # A wish that came when its run had just ended must not stop this one.
        self._terminated.discard(slot)
        options = self._options[slot] = ort.RunOptions()
        return options

    def _failure(self, error: Exception, slot: int) -> EngineError:
        if slot in self._terminated:
            return EngineError("The run was stopped: its deadline had passed.", code="TERMINATED", kind=Kind.DEADLINE)
        if isinstance(error, MemoryError) or _MEMORY_WORDS.search(str(error)):
            return EngineError("The model ran out of memory on this input.", code="OUT_OF_MEMORY", kind=Kind.OUT_OF_MEMORY)
        return EngineError(f"The model refused this input: {cleaned(error)}", code="ENGINE_REFUSED", kind=Kind.INVALID)

    def terminate(self, slot: int) -> None:
        options = self._options.get(slot)
        if options is not None:
            self._terminated.add(slot)
            options.terminate = True


def _runner(session: ort.InferenceSession) -> Callable[..., list[np.ndarray]]:
    """The public wrapper lists the outputs anew on each call: 11-20 % of a small request. Private, so guarded."""
    run: Callable[..., list[np.ndarray]] = getattr(getattr(session, "_sess", None), "run", session.run)
    return run


def _session_options(options: EngineOptions) -> ort.SessionOptions:
    settings = ort.SessionOptions()
    settings.intra_op_num_threads = options.threads_per_run
    settings.inter_op_num_threads = 1
    settings.log_severity_level = _FATAL_ONLY
    # Spinning threads steal the cores that other runs need (measured: 84 against 103 requests/s).
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return settings


def _check_layout(manifest: Manifest) -> None:
    """Weights laid out for one kind of CPU (optimize/offline.py) would be read as others on another."""
    is_laid_out = any(operator.startswith(f"{_LAYOUT_DOMAIN}::") for operator in manifest.facts.operators)
    # Without golden answers it was not tried yet: it is a draft, made here.
    if is_laid_out and manifest.golden and manifest.measured.cpu != cpu_kind():
        raise VersionError(
            f"Its weights are laid out for {manifest.measured.cpu}; this is {cpu_kind()}.",
            code="OTHER_CPU",
            hint="Serve the version that it was made from; on this machine it can be optimised anew.",
        )


def _providers(options: EngineOptions) -> list[Any]:
    kind, _, index = options.device.partition(":")
    if kind == "cpu":
        return ["CPUExecutionProvider"]
    provider = _PROVIDERS.get(kind)
    if provider is None or provider not in ort.get_available_providers():
        raise VersionError(
            f"Device '{options.device}' cannot be used: ONNX Runtime has {', '.join(ort.get_available_providers())} here.",
            code="NO_SUCH_DEVICE",
            hint="Use --device cpu, or install the onnxruntime build for this device.",
        )
    return [(provider, {"device_id": index or "0", **options.provider_options}), "CPUExecutionProvider"]


def _spec(argument: Any) -> TensorSpec:
    dtype = dtypes.BY_ORT.get(argument.type)
    if dtype is None:
        raise EngineError(f"'{argument.name}' has type {argument.type}, which Towline does not carry.", code="UNSUPPORTED_DTYPE")
    shape = None if argument.shape is None else tuple(dim if isinstance(dim, int | str) else "?" for dim in argument.shape)
    return TensorSpec(argument.name, dtype.name, shape)


def _as_text(array: np.ndarray) -> np.ndarray:
    """Byte strings as the text ONNX Runtime takes. Bytes that are not UTF-8 raise UnicodeDecodeError, a ValueError."""
    text = np.empty(array.shape, dtype=object)
    flat = text.reshape(-1)
    for index, element in enumerate(array.reshape(-1)):
        flat[index] = element.decode() if isinstance(element, bytes) else element
    return text
