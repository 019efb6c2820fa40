"""One signature of a source: a function of TensorFlow with named inputs and outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tensorflow as tf

from towline.convert import wording
from towline.convert.tensorflow.guard import changing_node
from towline.convert.tensorflow.specs import signature_of
from towline.core.errors import EngineError, ImportRefused, Kind
from towline.core.manifest import DefaultValue, Signature

# What TensorFlow and Keras raise for what they cannot read or do: their C++ code is told as Python's own errors.
FAILURES = (
    tf.errors.OpError,
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    IndexError,
    OSError,
    RuntimeError,
    AssertionError,
    ImportError,
)


@dataclass(frozen=True)
class Program:
    """`function` is a ConcreteFunction; `inputs` and `outputs` are tf.TensorSpecs by name, in the order of its own flat tensors.

    `keywords` tells that it takes its inputs by name, as what comes out of a SavedModel does, and else in order.
    `defaults` are what stood for a feature that an example lacks, where the program was behind a parser of examples.
    """

    function: Any
    inputs: Mapping[str, Any]
    outputs: Mapping[str, Any]
    keywords: bool
    defaults: Mapping[str, tuple[DefaultValue, ...]] = field(default_factory=dict)

    @property
    def signature(self) -> Signature:
        return signature_of(self.inputs, self.outputs)

    @property
    def changing_node(self) -> str:
        """What of it leaves something behind for the next request; empty if nothing does."""
        return changing_node(self.function.graph.as_graph_def())

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Every output by name. Raises EngineError for what TensorFlow refuses."""
        missing = self.inputs.keys() - feeds.keys()
        if missing:
            raise EngineError(f"Input '{min(missing)}' is missing.", code="MISSING_INPUT", kind=Kind.INVALID, field=min(missing))
        try:
            tensors = {name: tf.constant(feeds[name], dtype=spec.dtype) for name, spec in self.inputs.items()}
            answer = self.function(**tensors) if self.keywords else self.function(*tensors.values())
            flat = tf.nest.flatten(answer)
            return {name: _array(tensor) for name, tensor in zip(self.outputs, flat, strict=True)}
        except FAILURES as error:
            said = wording.sentence(str(error).partition("\n")[0])
            raise EngineError(f"TensorFlow refused this input: {said}", code="ENGINE_REFUSED", kind=Kind.INVALID) from error


def without_memory(programs: Mapping[str, Program]) -> tuple[dict[str, Program], tuple[str, ...]]:
    """The programs whose answers depend on their request only, and a sentence for each of the others. Raises ImportRefused for none."""
    changing = {name: node for name, program in programs.items() if (node := program.changing_node)}
    if len(changing) == len(programs):
        name, node = next(iter(changing.items()))
        raise ImportRefused(
            f"Signature {wording.name(name)} changes the model's variables (at {wording.name(node)}): answers depend on who asked before.",
            code="STATEFUL_MODEL",
            field=name,
            hint="Export the state as inputs and outputs, and in inference mode.",
        )
    notes = (
        f"Signature {wording.name(name)} was left out: it changes the model's variables (at {wording.name(node)})."
        for name, node in changing.items()
    )
    return {name: program for name, program in programs.items() if name not in changing}, tuple(notes)


def program_of(function: Any, inputs: Sequence[str], outputs: Sequence[str]) -> Program:
    """A ConcreteFunction of ours, whose flat tensors have these names in order."""
    return Program(function, _named(inputs, own_inputs(function)), _named(outputs, function.outputs), keywords=False)


def loaded_program(function: Any) -> Program:
    """A signature of a loaded SavedModel: its flat tensors are in the order of their sorted names."""
    specs = function.structured_input_signature[1]
    outputs = function.structured_outputs
    if not isinstance(outputs, dict):
        raise ImportRefused("A signature of the SavedModel does not name its outputs.", code="BAD_SIGNATURE", hint="Export it again.")
    return Program(
        function, {name: specs[name] for name in sorted(specs)}, {name: outputs[name] for name in sorted(outputs)}, keywords=True
    )


def own_inputs(function: Any) -> list[Any]:
    """The tensors of the graph that are given with each call, without the variables and tables it holds on to."""
    captured = {id(tensor) for tensor in function.graph.internal_captures}
    return [tensor for tensor in function.inputs if id(tensor) not in captured]


def _named(names: Sequence[str], tensors: Sequence[Any]) -> dict[str, Any]:
    assert len(names) == len(tensors), f"{len(names)} names for {len(tensors)} tensors"
    return {name: tf.TensorSpec(tensor.shape, tensor.dtype) for name, tensor in zip(names, tensors, strict=True)}


def _array(tensor: Any) -> np.ndarray:
    array = np.asarray(tensor.numpy())
    return array.astype(object) if array.dtype.kind in "SO" else array
