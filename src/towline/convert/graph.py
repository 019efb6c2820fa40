"""Walk a parsed ONNX model once: hold it to our limits, check that every name is made before it is used, and count what it holds. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from towline.convert import wording
from towline.convert.tensors import check_tensor
from towline.core.errors import ImportRefused

MAX_NODES = 200_000
MAX_DEPTH = 32
MAX_FUNCTIONS = 10_000
MAX_OPSETS = 100
# Domains whose operators ONNX Runtime brings along.
BUILT_IN_DOMAINS = frozenset(
    {
        "",
        "ai.onnx",
        "ai.onnx.ml",
        "ai.onnx.training",
        "ai.onnx.preview",
        "ai.onnx.preview.training",
        "com.microsoft",
        "com.microsoft.experimental",
        "com.microsoft.nchwc",
        "com.ms.internal.nhwc",
        "org.pytorch.aten",
    }
)
_FunctionKey = tuple[str, str, str]


@dataclass
class Census:
    """What the walk has counted so far. `calls` are the nodes of each function body, by the function they call."""

    operators: Counter[str] = field(default_factory=Counter)
    parameters: int = 0
    nodes: int = 0
    foreign: dict[str, str] = field(default_factory=dict)
    calls: dict[_FunctionKey, Counter[_FunctionKey]] = field(default_factory=dict)


def take_census(model: Any, external_sizes: dict[str, int]) -> Census:
    """Walk a ModelProto. Raises ImportRefused: INVALID_GRAPH, LIMIT_EXCEEDED, EXTERNAL_DATA_SHORT or CUSTOM_OPERATORS."""
    if len(model.functions) > MAX_FUNCTIONS:
        raise _too_many("functions", len(model.functions), MAX_FUNCTIONS)
    if len(model.opset_import) > MAX_OPSETS:
        raise _too_many("operator sets", len(model.opset_import), MAX_OPSETS)
    walk = _Walk(external_sizes)
    for function in model.functions:
        walk.function(function)
    walk.calling = ("", "", "")
    walk.census.calls[walk.calling] = Counter()
    walk.graph(model.graph, outer=(), depth=1, is_main=True)
    for training in model.training_info:
        # Never run by us, but read by libraries: only its tensors matter.
        walk.tensors_of(training.initialization)
        walk.tensors_of(training.algorithm)
    local = {(function.domain, function.name, function.overload) for function in model.functions}
    _check_expansion(walk.census.calls, local)
    _check_domains(walk.census.foreign, {domain for domain, _, _ in local})
    return walk.census


class _Walk:
    def __init__(self, external_sizes: dict[str, int]) -> None:
        self.census = Census()
        self.calling: _FunctionKey = ("", "", "")
        self._external_sizes = external_sizes

    def function(self, function: Any) -> None:
        self.calling = (function.domain, function.name, function.overload)
        self.census.calls[self.calling] = Counter()
        label = f"function {wording.name(function.name)}"
        names = set(function.input)
        self._nodes(function.node, (names,), 1, label)
        self._check_made(function.output, (names,), label)
        for attribute in function.attribute_proto:
            self._attribute(attribute, (names,), 1, label)

    def graph(self, graph: Any, *, outer: tuple[set[str], ...], depth: int, is_main: bool = False) -> None:
        if depth > MAX_DEPTH:
            raise ImportRefused(
                f"The model's graphs lie more than {MAX_DEPTH} deep in one another (in {wording.name(graph.name)}).", code="LIMIT_EXCEEDED"
            )
        label = "the graph" if is_main else f"subgraph {wording.name(graph.name)}"
        names = {value.name for value in graph.input}
        if len(names) != len(graph.input):
            raise _invalid(f"Two inputs of {label} have the same name.")
        self._initializers(graph, names, label)
        scope = (*outer, names)
        self._nodes(graph.node, scope, depth, label)
        if is_main and not graph.output:
            raise _invalid("The graph has no output.")
        self._check_made([value.name for value in graph.output], scope, label)

    def tensors_of(self, graph: Any) -> None:
        self._initializers(graph, set(), "the training graph")
        for node in graph.node:
            for attribute in node.attribute:
                self._tensors(attribute, "in the training graph")

    def _initializers(self, graph: Any, names: set[str], label: str) -> None:
        seen: set[str] = set()
        for tensor in graph.initializer:
            _add_once(seen, tensor.name, label)
            self.census.parameters += check_tensor(tensor, f"in {label}", self._external_sizes)
        for sparse in graph.sparse_initializer:
            _add_once(seen, sparse.values.name, label)
            self.census.parameters += self._sparse(sparse, f"in {label}")
        names |= seen

    def _nodes(self, nodes: Any, scope: tuple[set[str], ...], depth: int, label: str) -> None:
        self.census.nodes += len(nodes)
        if self.census.nodes > MAX_NODES:
            raise _too_many("nodes", self.census.nodes, MAX_NODES)
        names = scope[-1]
        for node in nodes:
            self._count(node)
            for wanted in node.input:
                if wanted and not any(wanted in known for known in reversed(scope)):
                    raise _unmade(node, wanted, nodes, label)
            for attribute in node.attribute:
                self._attribute(attribute, scope, depth, label)
            for made in node.output:
                if made and made in names:
                    raise _invalid(f"Node {_label(node)} in {label} makes {wording.name(made)}, which exists already.")
                names.add(made)

    def _count(self, node: Any) -> None:
        builtin = node.domain in ("", "ai.onnx")
        self.census.operators[wording.name(node.op_type if builtin else f"{node.domain}::{node.op_type}")[1:-1]] += 1
        self.census.calls[self.calling][node.domain, node.op_type, node.overload] += 1
        if node.domain not in BUILT_IN_DOMAINS:
            self.census.foreign.setdefault(node.domain, node.op_type)

    def _attribute(self, attribute: Any, scope: tuple[set[str], ...], depth: int, label: str) -> None:
        self._tensors(attribute, f"in {label}")
        if attribute.HasField("g"):
            self.graph(attribute.g, outer=scope, depth=depth + 1)
        for inner in attribute.graphs:
            self.graph(inner, outer=scope, depth=depth + 1)

    def _tensors(self, attribute: Any, where: str) -> None:
        if attribute.HasField("t"):
            check_tensor(attribute.t, where, self._external_sizes)
        for tensor in attribute.tensors:
            check_tensor(tensor, where, self._external_sizes)
        if attribute.HasField("sparse_tensor"):
            self._sparse(attribute.sparse_tensor, where)
        for sparse in attribute.sparse_tensors:
            self._sparse(sparse, where)

    def _sparse(self, sparse: Any, where: str) -> int:
        check_tensor(sparse.indices, where, self._external_sizes)
        return check_tensor(sparse.values, where, self._external_sizes)

    def _check_made(self, outputs: Iterable[str], scope: tuple[set[str], ...], label: str) -> None:
        for name in outputs:
            if not any(name in known for known in scope):
                raise _invalid(f"Nothing in {label} makes its output {wording.name(name)}.")


def _add_once(seen: set[str], name: str, label: str) -> None:
    if name in seen:
        raise _invalid(f"Two initializers of {label} are called {wording.name(name)}.")
    seen.add(name)


def _unmade(node: Any, wanted: str, nodes: Any, label: str) -> ImportRefused:
    maker = next((other for other in nodes if wanted in other.output), None)
    if maker is None:
        return _invalid(f"Node {_label(node)} in {label} takes {wording.name(wanted)}, which nothing makes.")
    return _invalid(
        f"Node {_label(node)} in {label} takes {wording.name(wanted)}, which {_label(maker)} makes only later: "
        "the graph has a cycle, or its nodes are out of order."
    )


def _label(node: Any) -> str:
    return f"{wording.name(node.name or '?')} ({wording.name(node.op_type)[1:-1]})"


def _check_expansion(calls: dict[_FunctionKey, Counter[_FunctionKey]], local: set[_FunctionKey]) -> None:
    """An engine inlines functions: written small, they may unfold without end."""
    sizes: dict[_FunctionKey, int] = {}
    open_calls: set[_FunctionKey] = set()

    def unfolded(key: _FunctionKey) -> int:
        if key not in local and key != ("", "", ""):
            return 1
        if key in open_calls:
            raise _invalid(f"Function {wording.name(key[1])} calls itself.")
        if len(open_calls) > MAX_DEPTH:
            raise ImportRefused(f"The model's functions call one another more than {MAX_DEPTH} deep.", code="LIMIT_EXCEEDED")
        if key not in sizes:
            open_calls.add(key)
            sizes[key] = sum(unfolded(called) * times for called, times in calls[key].items())
            open_calls.remove(key)
        return sizes[key]

    size = unfolded(("", "", ""))
    if size > MAX_NODES:
        raise _too_many("nodes once its functions are unfolded", size, MAX_NODES)


def _check_domains(foreign: dict[str, str], local: set[str]) -> None:
    for domain, operator in foreign.items():
        if domain not in local:
            raise ImportRefused(
                f"The model needs {wording.name(operator)} of the operator domain {wording.name(domain)}, which is not built in.",
                code="CUSTOM_OPERATORS",
                hint="Towline loads no operator libraries: they would run as code. Export the model with standard operators.",
            )


def _too_many(what: str, got: int, limit: int) -> ImportRefused:
    shown = str(got) if got < 10**15 else "more than 10^15"
    return ImportRefused(f"The model has {shown} {what}; at most {limit} are taken.", code="LIMIT_EXCEEDED")


def _invalid(message: str) -> ImportRefused:
    return ImportRefused(message, code="INVALID_GRAPH", hint="The file is damaged or its exporter erred: export the model again.")
