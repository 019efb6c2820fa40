"""Which engine a name means, and a session of it with what its manifest declares around the graph."""

from __future__ import annotations

import importlib
from pathlib import Path

from towline.core.engine import Engine, EngineOptions, Session
from towline.core.environments import PROBES
from towline.core.errors import MissingExtra
from towline.core.manifest import Manifest

# They go through the same contract as a stranger's; looking them up among all installed packages would cost 30 ms.
_BUILT_IN = {
    "onnxruntime": "towline.engines.onnxruntime:OnnxRuntimeEngine",
    "python": "towline.engines.python:PythonEngine",
    "inputs": "towline.engines.inputs:InputsEngine",
    "litert": "towline.engines.litert:LiteRtEngine",
    "openvino": "towline.engines.openvino:OpenVinoEngine",
    "torch": "towline.engines.torch:TorchEngine",
    "tensorflow": "towline.engines.tensorflow:TensorFlowEngine",
}


def load_engine(name: str) -> Engine:
    """A built-in engine, or the one that an entry point of group `towline.engines` names. Raises MissingExtra."""
    reference = _BUILT_IN.get(name)
    if reference is None:
        return _plugin(name)
    module, _, class_name = reference.partition(":")
    try:
        engine: Engine = getattr(importlib.import_module(module), class_name)()
    except ImportError as error:
        lacks = f"lacks '{error.name}'" if isinstance(error, ModuleNotFoundError) else "cannot load its library"
        hint = f"Make its environment anew: towline env create {name}" if name in PROBES else ""
        raise MissingExtra(f"The engine '{name}' cannot run here: its Python {lacks}.", code="MISSING_ENVIRONMENT", hint=hint) from error
    return engine


def _plugin(name: str) -> Engine:
    # Here: with what it imports it would cost every start 10 ms.
    import importlib.metadata

    for entry in importlib.metadata.entry_points(group="towline.engines"):
        if entry.name == name:
            engine: Engine = entry.load()()
            return engine
    raise MissingExtra(f"No engine named '{name}' is installed.", hint=f"Try: pip install 'towline[{name}]'")


def load_session(engine: Engine, folder: Path, manifest: Manifest, options: EngineOptions) -> Session:
    """Load a version with `engine`, and with what its manifest declares to be done before and after the graph."""
    if not manifest.processing:
        return engine.load(folder, manifest, options)
    # Late: most versions declare none.
    from towline.engines.processing.session import load_processed

    return load_processed(engine, folder, manifest, options)
