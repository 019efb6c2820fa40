"""A graph as a PyTorch module: its operators in order, its weights as Parameters of real layers, each under its ONNX name.

What is trained is the graph that will run, whatever framework it came from; no training code of its maker is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from towline.optimize.base import PassFailed
from towline.optimize.training.layers import Held, call, layer_of
from towline.optimize.training.operators import OPERATORS
from towline.optimize.training.reading import Graph, Node, read_graph
from towline.optimize.training.roles import Roles, roles_of

Activation = Literal["softmax", "sigmoid", ""]
# Nodes in order, each with the tensors that nobody reads after it.
Plan = tuple[tuple[Node, tuple[str, ...]], ...]


class Trainable(nn.Module):
    """The nodes of a graph that one output needs, each either a layer or a function without weights.

    `inputs` are the graph's, in order; `output` is the one that answers, and `activation` what makes it of the logits.
    `taps` are applied to a tensor as soon as it is made, by its ONNX name: graph inputs as well, no weights.
    """

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.inputs = graph.inputs
        self.output = graph.output
        self.logits, self.activation = _before_activation(graph)
        self.taps: dict[str, Callable[[Tensor], Tensor]] = {}
        roles = roles_of(graph)
        # By ONNX name: the attribute of this module that holds it, as a path, and how.
        self.held: dict[str, tuple[str, Held]] = {}
        self._layers: dict[str, str] = {}
        self._values: dict[str, str] = {}
        self._hold_layers(graph, roles)
        self._hold_values(graph, roles)
        self.nodes = self._folded(graph)
        self._plans: dict[tuple[str, ...], Plan] = {}
        if not any(True for _ in self.parameters()):
            raise PassFailed("The graph has no float32 weights to train.")

    @property
    def layers(self) -> dict[str, nn.Module]:
        """By the name of the ONNX node. Two nodes with the same weights are one layer."""
        return {name: self.get_submodule(place) for name, place in self._layers.items()}

    def forward(self, *inputs: Tensor) -> Tensor:
        """The logits: what comes before the last activation, if there is one."""
        return self._run(inputs, (self.logits,))[self.logits]

    def tensors(self, inputs: Sequence[Tensor], names: Sequence[str]) -> dict[str, Tensor]:
        """Inner tensors, inputs and outputs, by ONNX name. Raises PassFailed for a name that nothing computes."""
        return self._run(inputs, tuple(names))

    def _run(self, inputs: Sequence[Tensor], names: tuple[str, ...]) -> dict[str, Tensor]:
        known: dict[str, Any] = {name: self._tapped(name, value) for name, value in zip(self.inputs, inputs, strict=True)}
        found = {name: known[name] for name in names if name in known}
        if names not in self._plans:
            self._plans[names] = _plan(self.nodes, names, {*self.inputs, *self._values})
        for node, spent in self._plans[names]:
            values = [known[name] if name in known else self._value(name) for name in node.inputs]
            place = self._layers.get(node.name)
            made = OPERATORS[node.op](node, values) if place is None else call(node, self.get_submodule(place), values)
            for name, value in zip(node.outputs, made if isinstance(made, tuple) else (made,), strict=False):
                known[name] = self._tapped(name, value)
                if name in names:
                    found[name] = known[name]
            for name in spent:
                # Fixed values are no tensors of this run.
                known.pop(name, None)
        return found

    def _tapped(self, name: str, value: Tensor) -> Tensor:
        return self.taps[name](value) if name in self.taps else value

    def _value(self, name: str) -> Tensor | None:
        return getattr(self, self._values[name]) if name else None

    def _hold_layers(self, graph: Graph, roles: Roles) -> None:
        made: dict[tuple[Any, ...], str] = {}
        for place, node in enumerate(graph.nodes):
            if node.name not in roles.layers:
                continue
            key = (node.op, node.inputs[1:] if node.op != "Gather" else node.inputs[:1], str(node.attributes))
            if key not in made:
                layer = layer_of(node, graph)
                assert layer is not None
                made[key] = f"{node.op.lower()}_{place}"
                self.add_module(made[key], layer.module)
                for one in layer.held:
                    self._share(layer.module, one, made[key])
            self._layers[node.name] = made[key]

    def _share(self, module: nn.Module, one: Held, place: str) -> None:
        """A weight that another layer holds already is the same Parameter here."""
        if one.name in self.held:
            owner, its = self.held[one.name]
            setattr(module, one.attribute, getattr(self.get_submodule(owner), its.attribute))
        else:
            self.held[one.name] = (place, one)

    def _hold_values(self, graph: Graph, roles: Roles) -> None:
        for place, name in enumerate(sorted(roles.values)):
            tensor = torch.from_numpy(np.array(graph.constants[name]))
            self._values[name] = f"value_{place}"
            if name in roles.learnt:
                self.register_parameter(f"value_{place}", nn.Parameter(tensor))
                self.held[name] = ("", Held(name, f"value_{place}"))
            else:
                self.register_buffer(f"value_{place}", tensor, persistent=False)

    def _folded(self, graph: Graph) -> tuple[Node, ...]:
        """The nodes, less those whose inputs are all fixed: these are computed once."""
        learnt = {name for name, (place, _) in self.held.items() if not place}
        kept = []
        for node in graph.nodes:
            if node.name in self._layers:
                # A layer holds its weights itself.
                kept.append(replace(node, inputs=tuple("" if name in graph.constants else name for name in node.inputs)))
                continue
            if not all(not name or (name in self._values and name not in learnt) for name in node.inputs):
                kept.append(node)
                continue
            made = OPERATORS[node.op](node, [self._value(name) for name in node.inputs])
            for name, value in zip(node.outputs, made if isinstance(made, tuple) else (made,), strict=False):
                place = f"value_{len(self._values)}"
                self._values[name] = place
                self.register_buffer(place, value, persistent=False)
        return tuple(kept)


def trainable(model: Path, output: str) -> Trainable:
    """The graph as a module with the weights it has. Raises PassFailed that names the operators that cannot be trained."""
    graph = read_graph(model, output)
    unknown = sorted({node.op for node in graph.nodes if node.op not in OPERATORS})
    if unknown:
        raise PassFailed(f"Graphs with the operator{'s'[: len(unknown) != 1]} {', '.join(unknown)} cannot be trained.")
    try:
        return Trainable(graph).eval()
    except (RuntimeError, ValueError, IndexError, KeyError, TypeError) as error:
        raise PassFailed(f"This graph cannot be made a PyTorch module: {type(error).__name__}: {str(error)[:120]}") from error


def _plan(nodes: Sequence[Node], names: Sequence[str], given: set[str]) -> Plan:
    """The nodes that these tensors need, in order, each with the tensors that nobody reads after it."""
    wanted, kept = set(names), []
    for node in reversed(nodes):
        if wanted & set(node.outputs):
            kept.append(node)
            wanted.update(node.inputs)
    missing = set(names) - {name for node in kept for name in node.outputs} - given
    if missing:
        raise PassFailed(f"Nothing in the graph computes {', '.join(sorted(missing))}.")
    plan = []
    read = {""}
    for node in kept:
        last = set(node.inputs) - read
        read |= last
        plan.append((node, tuple(last)))
    return tuple(plan[::-1])


def _before_activation(graph: Graph) -> tuple[str, Activation]:
    """The tensor whose softmax or sigmoid is the output, and which of the two; the output itself where it is neither."""
    by_output: Mapping[str, Node] = {name: node for node in graph.nodes for name in node.outputs}
    name = graph.output
    while name in by_output and by_output[name].op == "Identity":
        name = by_output[name].inputs[0]
    node = by_output.get(name)
    if node is not None and node.op == "Sigmoid":
        return node.inputs[0], "sigmoid"
    if node is not None and node.op == "Softmax" and _is_over_last(node, graph):
        return node.inputs[0], "softmax"
    return name, ""


def _is_over_last(node: Node, graph: Graph) -> bool:
    axis = int(node.attributes.get("axis", -1 if node.opset >= 13 else 1))
    (rank,) = (len(one.type.tensor_type.shape.dim) for one in graph.proto.graph.output if one.name == graph.output)
    return axis in (-1, rank - 1)
