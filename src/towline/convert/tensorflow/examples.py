"""Signatures that parse serialized tf.Examples: the features become their inputs, which is how classify and regress give them here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import tensorflow as tf

from towline.convert import wording
from towline.convert.feature_defaults import plain_values
from towline.convert.tensorflow.program import FAILURES, Program, program_of
from towline.core.manifest import DefaultValue

_PARSERS = ("ParseExample", "ParseExampleV2")


def behind_parsers(programs: Mapping[str, Program]) -> tuple[dict[str, Program], tuple[str, ...]]:
    """The same programs, those that begin with a parser from its features on; and a sentence for each of these.

    Serialized examples could not be made up, hence not compared, and a parser has no counterpart in ONNX. A program whose parser gives
    sparse or ragged features has no such inputs: it is left out where another remains, and stays as it is where none does.
    """
    kept: dict[str, Program] = {}
    notes: list[str] = []
    for name, program in programs.items():
        parser = _parser_of(program)
        changed = _from_features(program, parser) if parser is not None else program
        if changed is None:
            notes.append(f"Signature {wording.name(name)} was left out: it parses serialized examples with sparse or ragged features.")
            continue
        kept[name] = changed
        if changed is not program:
            features = ", ".join(map(wording.name, changed.inputs))
            notes.append(f"Signature {wording.name(name)} takes the features {features} instead of serialized examples.")
    return (kept, tuple(notes)) if kept else (dict(programs), ())


def _parser_of(program: Program) -> Any | None:
    """The operation that is all that becomes of the program's only input."""
    # Those of TensorFlow 1, which is where such signatures come from, can be cut.
    if len(program.inputs) != 1 or not hasattr(program.function, "prune"):
        return None
    given = program.function.inputs[0]
    uses = given.consumers()
    return uses[0] if len(uses) == 1 and uses[0].type in _PARSERS and uses[0].inputs[0].name == given.name else None


def _from_features(program: Program, parser: Any) -> Program | None:
    """The program between the features that its outputs depend on and these; None where one of the features is no dense tensor."""
    outputs = list(program.outputs)
    fetches = [program.function.structured_outputs[name] for name in outputs]
    used = _used(fetches, parser)
    dense = _dense_features(parser)
    if not used or any(tensor.ref() not in dense for tensor in used):
        return None
    features = [dense[tensor.ref()] for tensor in used]
    try:
        behind = program_of(program.function.prune(used, fetches), [feature.name for feature in features], outputs)
    except FAILURES:
        return None
    return replace(behind, defaults={feature.name: feature.default for feature in features if feature.default})


@dataclass(frozen=True)
class _Feature:
    """`default` is empty for one that every example must have."""

    name: str
    default: tuple[DefaultValue, ...]


def _dense_features(parser: Any) -> dict[Any, _Feature]:
    """The parser's tensors of dense features, and what they are. Its outputs are three for each sparse feature, then the dense ones."""
    if parser.type == "ParseExample":
        sparse, dense = parser.get_attr("Nsparse"), parser.get_attr("Ndense")
        keys = [tf.get_static_value(tensor) for tensor in parser.inputs[2 + sparse : 2 + sparse + dense]]
        defaults = parser.inputs[2 + sparse + dense :]
    else:
        sparse = parser.get_attr("num_sparse")
        found = tf.get_static_value(parser.inputs[3])
        keys = [] if found is None else list(found)
        defaults = parser.inputs[5:]
    tensors = parser.outputs[3 * sparse : 3 * sparse + len(keys)]
    return {
        tensor.ref(): _Feature(_text(key), _default(given))
        for tensor, key, given in zip(tensors, keys, defaults[: len(keys)], strict=True)
        if key is not None
    }


def _default(tensor: Any) -> tuple[DefaultValue, ...]:
    """Its values, flat; none where the graph computes them, and where bytes of them are no text."""
    # What tf.io.parse_example makes of a default_value; the order of its values stays.
    while tensor.op.type in ("Reshape", "Identity"):
        tensor = tensor.op.inputs[0]
    found = tf.get_static_value(tensor)
    try:
        return () if found is None else plain_values(found.reshape(-1).tolist())
    except UnicodeDecodeError:
        return ()


def _text(key: Any) -> str:
    return bytes(key.item() if hasattr(key, "item") else key).decode("utf-8", "replace")


def _used(fetches: list[Any], parser: Any) -> list[Any]:
    """What the parser gives that one of these tensors depends on, in the parser's order."""
    found: set[int] = set()
    seen: set[Any] = set()
    waiting = list(fetches)
    while waiting:
        tensor = waiting.pop()
        if tensor.op.name == parser.name:
            found.add(tensor.value_index)
        elif tensor.op.name not in seen:
            seen.add(tensor.op.name)
            waiting += tensor.op.inputs
    return [parser.outputs[place] for place in sorted(found)]
