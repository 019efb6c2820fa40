"""Open weights without a model: the user's code (`arch`) builds it, the checkpoint or the Keras file fills it.

The code runs here, behind the walls, because the user named it. Every variable of what it builds must find its value.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from towline.convert import wording
from towline.convert.arch import parse_arch
from towline.convert.base import Source, Task
from towline.convert.declared_inputs import parse_inputs
from towline.convert.tensorflow import keras_file
from towline.convert.tensorflow.keras import keras_source
from towline.convert.tensorflow.object_checkpoint import restore
from towline.convert.tensorflow.program import FAILURES, own_inputs, program_of, without_memory
from towline.convert.tensorflow.saved_model import output_names, parameters_of
from towline.convert.tensorflow.source import TensorFlowSource
from towline.core.errors import ImportRefused
from towline.core.manifest import DEFAULT_SIGNATURE, TensorSpec

_HINT = "Write it as model.py:build or model.py:build(width=128), which gives a keras.Model or a tf.Module."

# A comma that a name follows, not one between dims.


def open_with_code(task: Task) -> Source:
    """Raises ImportRefused also without code, when code is what is missing."""
    if "arch" not in task.options:
        raise ImportRefused(
            "The checkpoint holds weights only, without the model that they belong to.",
            code="WEIGHTS_ONLY",
            field="arch",
            hint=f"Give the code that builds the model: towline import {wording.sentence(task.source.name)} --arch file.py:function",
        )
    model = made(task.options["arch"])
    if not isinstance(model, tf.Module | keras.Model):
        raise _refused(f"it gave a {type(model).__name__}, expected a keras.Model or a tf.Module")
    if isinstance(model, keras.Model) and not model.built:
        model = _built(model, task.options.get("input", ""))
    _fill(model, task)
    if isinstance(model, keras.Model):
        return keras_source(model, notes=("The weights were loaded into the code that was given.",))
    return _module_source(model)


def made(arch: str) -> Any:
    """What the user's code makes. Arguments may be literals only."""
    asked = parse_arch(arch, hint=_HINT)
    make = getattr(_module(Path(asked.place)), asked.name, None)
    if not callable(make):
        raise _refused(f"there is no {wording.name(asked.name)} in that file")
    return make(*asked.positional, **asked.named)


def _module(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(f"arch_{path.stem}", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise _refused("there is no such file")
    # Behind everything that is installed: a file of the user's must not stand in for a library.
    sys.path.append(str(path.parent))
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (SyntaxError, ImportError, AttributeError, NameError, TypeError, ValueError) as error:
        raise _refused(wording.sentence(f"{type(error).__name__}: {error}", hidden=(str(path.parent),))) from error
    return module


def _built(model: Any, words: str) -> Any:
    """A model that does not know its inputs yet, as a functional one of the inputs that were given."""
    if not words:
        raise ImportRefused(
            "The model that the code builds does not tell the shape of its input.",
            code="NOT_BUILT",
            field="input",
            hint="Give it: --input 'float32[N,28,28,1]'",
        )
    inputs = [_keras_input(spec) for spec in parse_inputs(words)]
    return keras.Model(inputs, model(inputs[0] if len(inputs) == 1 else inputs))


def _keras_input(spec: TensorSpec) -> Any:
    dims = [None if isinstance(dim, str) else dim for dim in spec.shape or ()]
    return keras.Input(batch_shape=dims, dtype=spec.dtype, name=spec.name or None)


def _fill(model: Any, task: Task) -> None:
    if task.kind == "keras_h5":
        keras_file.config_of_hdf5(task.source)
    elif task.kind == "keras":
        keras_file.config_of_archive(task.source)
    load: Callable[[], None] = (
        partial(model.load_weights, task.source) if task.kind.startswith("keras") else partial(restore, model, task.source)
    )
    try:
        load()
    except FAILURES as error:
        said = wording.sentence(str(error).partition("\n")[0], hidden=(str(task.source), str(task.source.parent)))
        raise ImportRefused(
            f"The weights do not fit the model that the code builds: {said}",
            code="WEIGHTS_DO_NOT_FIT",
            hint="Give the code, and its arguments, with which they were saved.",
        ) from error


def _module_source(module: Any) -> Source:
    """A tf.Module answers by its call, which must tell what it takes: @tf.function(input_signature=[tf.TensorSpec(…)])."""
    call = getattr(module, "serve", None) or (module.__call__ if callable(module) else None)
    if call is None or getattr(call, "input_signature", None) is None:
        raise ImportRefused(
            "The tf.Module that the code builds has no __call__ with an input_signature.",
            code="NOT_BUILT",
            field="arch",
            hint="Write @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, name='x')]) above it.",
        )
    function = call.get_concrete_function()
    names = [tensor.name.partition(":")[0] for tensor in own_inputs(function)]
    programs, _ = without_memory({DEFAULT_SIGNATURE: program_of(function, names, output_names(function.structured_outputs))})
    return TensorFlowSource(programs, parameters=parameters_of(programs), holds=module)


def _refused(what: str) -> ImportRefused:
    return ImportRefused(f"The code of --arch cannot be used: {what}.", code="BAD_ARCHITECTURE", field="arch", hint=_HINT)
