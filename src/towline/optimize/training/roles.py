"""Decide which constants of a graph are learnt, and which nodes are layers. Pure."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from towline.optimize.training.layers import Held, layer_of
from towline.optimize.training.reading import Graph, Node, is_float

# Beyond this a constant is a mask, such as the -1e9 that attention adds to what may not be seen.
_LARGEST = 1e4
# With these, a constant is a weight; with the others, such as Sub or Div, it may be the mean and the spread of the inputs.
_PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul", "Gather", "BatchNormalization", "LayerNormalization", "InstanceNormalization")


@dataclass(frozen=True)
class Roles:
    """`layers` are names of nodes; `values` are constants that other nodes read, and `learnt` those of them that training may change."""

    layers: frozenset[str]
    values: frozenset[str]
    learnt: frozenset[str]


def roles_of(graph: Graph) -> Roles:
    held = {node.name: layer.held for node in graph.nodes if (layer := layer_of(node, graph)) is not None}
    # A weight that two nodes read in two ways, such as a table of words that is also the last layer, is no layer's own.
    forms: dict[str, set[Held | None]] = defaultdict(set)
    for node in graph.nodes:
        kept = {one.name: one for one in held.get(node.name, ())}
        for name in node.inputs:
            if name in graph.constants:
                forms[name].add(kept.get(name))
    layers = {name for name, ones in held.items() if all(len(forms[one.name]) == 1 for one in ones)}
    values = {name for node in graph.nodes for name in _read(node, layers, held) if name in graph.constants}
    return Roles(frozenset(layers), frozenset(values), frozenset(_learnt(graph, layers, values)))


def _read(node: Node, layers: set[str], held: dict[str, tuple[Held, ...]]) -> set[str]:
    return set(node.inputs) - ({one.name for one in held[node.name]} if node.name in layers else set())


def _learnt(graph: Graph, layers: set[str], values: set[str]) -> set[str]:
    """What comes before the first layer, such as the mean of the inputs, is no weight."""
    learnt: set[str] = set()
    after_weights: set[str] = set()
    for node in graph.nodes:
        candidates = {name for name in node.inputs if name in values and _may_learn(graph.constants[name])}
        computed = [name for name in node.inputs if name and name not in graph.constants]
        is_weighed = bool(candidates) and (not computed or node.op in _PRODUCTS)
        if is_weighed or node.name in layers or any(name in after_weights for name in computed):
            learnt |= candidates
            after_weights.update(node.outputs)
    return learnt


def _may_learn(array: np.ndarray) -> bool:
    return is_float(array) and array.size > 1 and bool(np.all(np.abs(array) <= _LARGEST))
