"""TensorFlow: runs a SavedModel, in the Python of its environment. Imported only in a worker."""

from __future__ import annotations

import contextlib
import os
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

# Read when the library loads. As in the converter, against whose answers this engine is proven.
os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "1"}
warnings.simplefilter("ignore")

import numpy as np

try:
    tempfile.gettempdir()
except FileNotFoundError:
    # A worker may write nowhere. The import of TensorFlow asks for the folder's name all the same, and never uses it.
    tempfile.tempdir = os.path.join(os.sep, "nonexistent")

# By no setting of its own the library says on stderr which kernels it has.
_stderr, _nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
os.dup2(_nothing, 2)
try:
    import tensorflow as tf
    from tensorflow.core.protobuf import saved_model_pb2
    from tensorflow.python.eager import cancellation
finally:
    os.dup2(_stderr, 2)
    os.close(_stderr)
    os.close(_nothing)

from towline.core import dtypes
from towline.core.engine import EngineOptions
from towline.core.errors import EngineError, Kind, VersionError
from towline.core.manifest import DEFAULT_SIGNATURE, Manifest, Signature, TensorSpec
from towline.engines.wording import cleaned

tf.get_logger().setLevel("CRITICAL")
_FAILURES = (tf.errors.OpError, OSError, ValueError, TypeError, KeyError, AttributeError, RuntimeError)
# What import gives to inputs and outputs whose own names TensorFlow does not take as names of arguments, by their place.
PLACES = "place_{:04d}"


class TensorFlowEngine:
    name = "tensorflow"

    def load(self, folder: Path, manifest: Manifest, options: EngineOptions) -> TensorFlowSession:
        """Load the SavedModel whose saved_model.pb is the model file. The caller has checked the digest."""
        if options.device not in self.devices():
            raise VersionError(
                f"Device '{options.device}' cannot be used: TensorFlow has {', '.join(self.devices())} here.",
                code="NO_SUCH_DEVICE",
                hint="Use --device cpu.",
            )
        # A process that has run a model keeps its threads.
        with contextlib.suppress(RuntimeError):
            tf.config.threading.set_intra_op_parallelism_threads(options.threads_per_run)
            tf.config.threading.set_inter_op_parallelism_threads(1)
        try:
            with tf.device(_device(options.device)):
                loaded = _load(folder / manifest.model_file)
                return TensorFlowSession(loaded, manifest)
        except _FAILURES as error:
            raise VersionError(f"TensorFlow cannot load this model: {cleaned(error)}", code="LOAD_FAILED") from error

    def describe(self, folder: Path, model_file: str) -> Signature:
        """The default signature; what it leaves open is `N` where it stands first, else a symbol of its own."""
        try:
            signatures = _load(folder / model_file).signatures
            function = signatures[min(signatures, key=lambda name: (name != DEFAULT_SIGNATURE, name))]
            inputs, outputs = function.structured_input_signature[1], function.structured_outputs
        except _FAILURES as error:
            raise EngineError(f"TensorFlow cannot read this model: {cleaned(error)}", code="LOAD_FAILED") from error
        return Signature(*(tuple(_spec(name, tensors[name]) for name in sorted(tensors)) for tensors in (inputs, outputs)))

    def devices(self) -> tuple[str, ...]:
        return ("cpu", *(f"cuda:{place}" for place, _ in enumerate(tf.config.list_physical_devices("GPU"))))


class TensorFlowSession:
    """One loaded SavedModel. Several threads may run at once; each run can be told to stop."""

    def __init__(self, loaded: Any, manifest: Manifest) -> None:
        self._holds = loaded
        self._runs = {name: _runner(loaded.signatures[name], one) for name, one in manifest.signatures.items()}
        self._runs[""] = self._runs[manifest.signature_names[0]]
        self._running: dict[int, cancellation.CancellationManager] = {}

    def run(self, inputs: Mapping[str, np.ndarray], *, slot: int = 0, signature: str = "") -> Sequence[np.ndarray]:
        stop = self._running[slot] = cancellation.CancellationManager()
        try:
            with cancellation.CancellationManagerContext(stop):
                return self._runs[signature](inputs)
        except tf.errors.CancelledError as error:
            raise EngineError("The run was stopped: its deadline had passed.", code="TERMINATED", kind=Kind.DEADLINE) from error
        except tf.errors.ResourceExhaustedError as error:
            raise EngineError("The model ran out of memory on this input.", code="OUT_OF_MEMORY", kind=Kind.OUT_OF_MEMORY) from error
        except _FAILURES as error:
            raise EngineError(f"The model refused this input: {cleaned(error)}", code="ENGINE_REFUSED", kind=Kind.INVALID) from error
        finally:
            self._running.pop(slot, None)

    def terminate(self, slot: int) -> None:
        stop = self._running.get(slot)
        if stop is not None:
            stop.start_cancel()


def _load(model_file: Path) -> Any:
    """The one graph in the file, with whatever tags it has."""
    graphs = saved_model_pb2.SavedModel.FromString(model_file.read_bytes()).meta_graphs
    return tf.saved_model.load(str(model_file.parent), tags=sorted(graphs[0].meta_info_def.tags))


def _runner(function: Any, signature: Signature) -> Callable[[Mapping[str, np.ndarray]], list[np.ndarray]]:
    """Inputs by name in, outputs in the signature's order out."""
    specs = function.structured_input_signature[1]
    arguments = _arguments([spec.name for spec in signature.inputs], specs)
    answers = _arguments([spec.name for spec in signature.outputs], function.structured_outputs)
    taken = [(argument, name, specs[argument].dtype) for name, argument in arguments.items()]

    def run(inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        found = function(**{argument: tf.constant(inputs[name], dtype=dtype) for argument, name, dtype in taken})
        return [_array(found[answer]) for answer in answers.values()]

    return run


def _arguments(names: Sequence[str], there: Mapping[str, Any]) -> dict[str, str]:
    """What each name of the signature is called in the SavedModel: the same, or a place."""
    if set(names) <= there.keys():
        return {name: name for name in names}
    places = {name: PLACES.format(place) for place, name in enumerate(names)}
    if not set(places.values()) <= there.keys():
        raise ValueError(f"its signature has {', '.join(there)}, expected {', '.join(names)}.")
    return places


def _array(tensor: Any) -> np.ndarray:
    array = np.asarray(tensor.numpy())
    return array.astype(object) if array.dtype.kind in "SO" else array


def _device(name: str) -> str:
    kind, _, place = name.partition(":")
    return "/CPU:0" if kind == "cpu" else f"/GPU:{place or 0}"


def _spec(name: str, tensor: Any) -> TensorSpec:
    if tensor.dtype.name not in dtypes.BY_NAME:
        raise EngineError(f"'{name}' has type {tensor.dtype.name}, which Towline does not carry.", code="UNSUPPORTED_DTYPE")
    dims = None if tensor.shape.rank is None else tensor.shape.as_list()
    shape = (
        None if dims is None else tuple(("N" if not axis else f"{name}_{axis}") if dim is None else dim for axis, dim in enumerate(dims))
    )
    return TensorSpec(name, tensor.dtype.name, shape)
