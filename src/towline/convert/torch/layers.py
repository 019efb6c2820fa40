"""What each layer of a model answers, and which tensor of the exported graph is the answer of which layer."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from towline.convert.base import Layer
from towline.convert.torch.program import Program, array_of

_SCOPES = "pkg.torch.onnx.name_scopes"
# How Flat calls the model within itself.
FLAT_ROOT = "model"


@dataclass(frozen=True)
class Ran:
    """One call of a layer. `tensors` is how many tensors it answered with."""

    path: str
    kind: str
    output: torch.Tensor
    tensors: int


def run_layers(program: Program, tensors: Sequence[torch.Tensor]) -> list[Ran]:
    """Every call of a layer without layers of its own, in the order of running. TorchScript tells none."""
    if isinstance(program.model, torch.jit.ScriptModule):
        return []
    # A program of torch.export is one long list of operators, which can be put back into its modules.
    face = program.flat if program.exported is None else program.flat.around(torch.export.unflatten(program.exported))
    ran: list[Ran] = []
    modules = [(path, module) for path, module in face.model.named_modules() if path and _is_leaf(module)]
    hooks = [module.register_forward_hook(_noted(ran, path, module)) for path, module in modules]
    try:
        with torch.no_grad():
            face(*tensors)
    finally:
        for hook in hooks:
            hook.remove()
    return ran


def told(ran: Iterable[Ran]) -> Iterator[Layer]:
    """As layers of the contract; a layer that ran several times is NAME, NAME#2, …"""
    for name, one in _named(ran):
        yield Layer(name, one.kind, array_of(one.output))


def tensors_of_layers(graph: Any, ran: Sequence[Ran], *, root: str = FLAT_ROOT) -> dict[str, str]:
    """Which tensor of `graph` is the answer of which layer. `root` is what the model is called within what was exported.

    An exporter keeps the path of the module in the node's name or metadata. The last node of a layer gives its answer; where a layer ran
    several times only a node for each call can be told apart. A batch norm without nodes was folded into the layer before it: the tensor is
    then its answer, and nothing is that layer's own.
    """
    nodes: dict[str, list[str]] = {}
    for node in graph.node:
        if node.output and node.output[0]:
            nodes.setdefault(_path_of(node, root), []).append(node.output[0])
    calls: dict[str, int] = {}
    for one in ran:
        calls[one.path] = calls.get(one.path, 0) + 1
    found: dict[str, str] = {}
    seen: dict[str, int] = {}
    before = ""
    for name, one in _named(ran):
        place = seen[one.path] = seen.get(one.path, 0) + 1
        outputs = nodes.get(one.path, [])
        if not outputs and "BatchNorm" in one.kind and before in found:
            found[name] = found.pop(before)
        elif one.tensors == 1 and outputs and calls[one.path] == 1:
            found[name] = outputs[-1]
        elif one.tensors == 1 and len(outputs) == calls[one.path]:
            found[name] = outputs[place - 1]
        before = name
    return found


def _named(ran: Iterable[Ran]) -> Iterator[tuple[str, Ran]]:
    seen: dict[str, int] = {}
    for one in ran:
        seen[one.path] = seen.get(one.path, 0) + 1
        yield (one.path if seen[one.path] == 1 else f"{one.path}#{seen[one.path]}"), one


def _noted(ran: list[Ran], path: str, module: nn.Module) -> Any:
    kind = str(module.type_name() if hasattr(module, "type_name") else type(module).__name__).rpartition(".")[2]

    def note(_: nn.Module, __: Any, answer: Any) -> None:
        values = answer if isinstance(answer, tuple | list) else (answer,)
        found = [value for value in values if isinstance(value, torch.Tensor)]
        if found:
            # A copy: the layer after it may write into it.
            ran.append(Ran(path, kind, found[0].detach().clone(), len(found)))

    return note


def _is_leaf(module: nn.Module) -> bool:
    """Attention has a layer inside that it uses without calling it."""
    return not any(True for _ in module.children()) or isinstance(module, nn.MultiheadAttention)


def _path_of(node: Any, root: str) -> str:
    """The path of the module that a node came from."""
    for entry in node.metadata_props:
        if entry.key == _SCOPES:
            return _beneath(root, _scopes(entry.value))
    # /model/features/features.0/Conv: within a sequence a scope says its parent's name again.
    path: list[str] = []
    for part in node.name.split("/")[1:-1]:
        if path and part.startswith(f"{path[-1]}."):
            path.pop()
        path.append(part)
    return _beneath(root, ".".join(path))


def _scopes(written: str) -> str:
    """Of "['', 'model', 'model.features.0', 'conv2d']" the last but one is the module."""
    try:
        scopes = ast.literal_eval(written)
    except (ValueError, SyntaxError):
        return ""
    return str(scopes[-2]) if isinstance(scopes, list) and len(scopes) > 1 else ""


def _beneath(root: str, path: str) -> str:
    return "" if path == root else path.removeprefix(f"{root}.") if root else path
