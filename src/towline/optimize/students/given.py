"""A student that was given as an ONNX file: it must take and answer what the version does, whatever its tensors are called."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from towline.core.digest import file_digest
from towline.optimize.base import PassFailed
from towline.optimize.students.asked import Asked, Taken, asked_of


def given(asked: Asked, file: Path, digest: str = "") -> Any:
    """The graph in `file` (an onnx.ModelProto) with the version's names. `digest` is that of the file (sha256, hex) when it was chosen.

    A graph that gives logits gets the activation that the version ends in. Raises PassFailed that says what does not fit.
    """
    import onnx

    if not file.is_file():
        raise PassFailed(f"There is no student at {file}.", hint="Give the path of an ONNX file.")
    if digest and file_digest(file) != digest:
        raise PassFailed(f"The student at {file} was changed since it was chosen.")
    try:
        model = onnx.load(file)
    except Exception as error:
        # Whatever protobuf raises on bytes that are no model.
        raise PassFailed(f"{file} is no ONNX file: {type(error).__name__}.") from error
    if len(model.graph.output) != 1:
        raise PassFailed(f"The student has {len(model.graph.output)} outputs; it needs one.")
    has = asked_of(model, model.graph.output[0].name)
    for its, wanted in zip(_paired(has, asked), asked.inputs, strict=True):
        _same(its, wanted, "takes")
        _rename(model.graph, its.name, wanted.name)
    _same(has.output, asked.output, "answers")
    _rename(model.graph, has.output.name, asked.output.name)
    if asked.activation and not has.activation:
        _end_in(model.graph, asked)
    return model


def _paired(has: Asked, asked: Asked) -> list[Taken]:
    """Its inputs in the order of the version's: by name, and a lone one whatever it is called."""
    by_name = {one.name: one for one in has.inputs}
    if len(has.inputs) == len(asked.inputs) == 1:
        return [has.inputs[0]]
    if set(by_name) != {one.name for one in asked.inputs}:
        raise PassFailed(f"The student takes {', '.join(by_name)}; the version {', '.join(one.name for one in asked.inputs)}.")
    return [by_name[one.name] for one in asked.inputs]


def _same(its: Taken, wanted: Taken, verb: str) -> None:
    sizes = list(zip(its.shape or (), wanted.shape or (), strict=False))
    fits = its.dtype == wanted.dtype and len(its.shape or ()) == len(wanted.shape or ())
    # Where either size is free they can agree; rows are always free to be one.
    if not fits or any(isinstance(one, int) and isinstance(other, int) and one != other for one, other in sizes[1:]):
        raise PassFailed(
            f"The student {verb} {its.name} {its.dtype}{list(its.shape or ())}; "
            f"the version {wanted.name} {wanted.dtype}{list(wanted.shape or ())}."
        )


def _rename(graph: Any, before: str, after: str) -> None:
    if before == after:
        return
    others = {name for node in graph.node for name in (*node.input, *node.output)} | {one.name for one in graph.initializer}
    if after in others:
        _rename(graph, after, _free(after, others))
    for node in graph.node:
        for names in (node.input, node.output):
            for place, name in enumerate(names):
                names[place] = after if name == before else name
    for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        value.name = after if value.name == before else value.name


def _free(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    return name


def _end_in(graph: Any, asked: Asked) -> None:
    from onnx import helper

    taken = {name for node in graph.node for name in node.output}
    logits = _free("logits", taken)
    for node in graph.node:
        for names in (node.input, node.output):
            for place, name in enumerate(names):
                names[place] = logits if name == asked.output.name else name
    attributes: dict[str, Any] = {"axis": -1} if asked.activation == "softmax" else {}
    kind = asked.activation.capitalize()
    graph.node.append(helper.make_node(kind, [logits], [asked.output.name], name=_free("probabilities", taken), **attributes))
