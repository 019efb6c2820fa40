"""Look through a TensorFlow graph before anything of it is loaded: known operations only, no asset outside the folder. Pure but for stat.

Takes the protobuf messages as they were parsed; runs nothing of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from towline.convert import wording
from towline.convert.tensorflow.ops import ALLOWED, CHANGING, SAVING, harm_of
from towline.core.errors import ImportRefused

MAX_NODES = 1_000_000
# What a saver may do while it restores, which loading a SavedModel of TensorFlow 1 runs.
_RESTORING = frozenset(op for op in SAVING if op.startswith("Restore"))
_NOTHING: frozenset[str] = frozenset()


def check_saved_model(meta_graph: Any, folder: Path) -> None:
    """Raise ImportRefused for an operation that is not known to only compute, or an asset that is not the model's own.

    The model's own saver may write and read checkpoints: nobody calls it, and what a signature reaches is not the saver's own.
    """
    saver = meta_graph.saver_def
    check_graph(
        meta_graph.graph_def,
        needed=_called(meta_graph),
        saving=(saver.save_tensor_name,),
        restoring=(saver.restore_op_name,),
    )
    for asset in meta_graph.asset_file_def:
        _check_asset(asset.filename, folder)


def check_graph(graph: Any, *, needed: Iterable[str] = (), saving: Iterable[str] = (), restoring: Iterable[str] = ()) -> None:
    """Raise ImportRefused for the first operation of a GraphDef that may not be. The others are names of nodes or tensors of it."""
    nodes = {node.name: node for node in graph.node}
    functions = {function.signature.name: function for function in graph.library.function}
    if len(nodes) + sum(len(function.node_def) for function in functions.values()) > MAX_NODES:
        raise ImportRefused(f"The graph has more than {MAX_NODES:,} nodes.", code="LIMIT_EXCEEDED")
    called, restored, saved = (_Reached(nodes, functions, names) for names in (needed, restoring, saving))
    at_large = nodes.keys() - called.nodes - restored.nodes - saved.nodes
    orphans = functions.keys() - called.functions - restored.functions - saved.functions
    unknown = _Reached(nodes, functions, at_large, orphans)

    for node in graph.node:
        # What nothing reaches is never run; training leaves savers of its own there.
        also = _NOTHING if node.name in called.nodes else _RESTORING if node.name in restored.nodes else SAVING
        _check_node(node, functions, also, "")
    for name, function in functions.items():
        is_the_savers = name not in called.functions and name not in unknown.functions
        also = _NOTHING if not is_the_savers else _RESTORING if name in restored.functions else SAVING
        for node in function.node_def:
            _check_node(node, functions, also, name)


def _called(meta_graph: Any) -> Iterator[str]:
    """What serving and loading run: the tensors of every signature, and the initialisers."""
    for signature in meta_graph.signature_def.values():
        for tensor in (*signature.inputs.values(), *signature.outputs.values()):
            yield tensor.name
            yield from (part.name for part in tensor.composite_tensor.components)
            yield from (tensor.coo_sparse.values_tensor_name, tensor.coo_sparse.indices_tensor_name)
    for key in ("saved_model_main_op", "legacy_init_op", "table_initializer"):
        yield from meta_graph.collection_def[key].node_list.value if key in meta_graph.collection_def else ()


def changing_node(graph: Any) -> str:
    """The name of a node of a GraphDef, or of a function in it, that leaves something behind for the next request; empty if none does."""
    inside = (node for function in graph.library.function for node in function.node_def)
    return next((node.name for node in (*graph.node, *inside) if node.op.startswith(CHANGING)), "")


class _Reached:
    """What running some nodes of a graph runs: other nodes, and functions."""

    def __init__(self, nodes: Mapping[str, Any], functions: Mapping[str, Any], names: Iterable[str], also: Iterable[str] = ()) -> None:
        self.nodes: set[str] = set()
        self.functions: set[str] = set()
        waiting = [_node_of(name) for name in names if name]
        while waiting:
            name = waiting.pop()
            if name in nodes and name not in self.nodes:
                self.nodes.add(name)
                waiting.extend(map(_node_of, nodes[name].input))
        calls = [called for name in self.nodes for called in _functions_of(nodes[name], functions)]
        calls.extend(also)
        while calls:
            name = calls.pop()
            if name not in self.functions:
                self.functions.add(name)
                calls.extend(called for node in functions[name].node_def for called in _functions_of(node, functions))


def _node_of(tensor: str) -> str:
    return tensor.removeprefix("^").partition(":")[0]


def _functions_of(node: Any, functions: Mapping[str, Any]) -> Iterator[str]:
    if node.op in functions:
        yield node.op
    for value in node.attr.values():
        yield from (name for name in (value.func.name, *(one.name for one in value.list.func)) if name in functions)


def _check_node(node: Any, functions: Mapping[str, Any], also: frozenset[str], function: str) -> None:
    if node.op in ALLOWED or node.op in also or node.op in functions:
        return
    where = f" in function {wording.name(function)}" if function else ""
    raise ImportRefused(
        f"The graph's node {wording.name(node.name)}{where} is the operation {wording.name(node.op)}, which {harm_of(node.op)}.",
        code="OPERATION_NOT_ALLOWED",
        field=wording.name(node.op).strip("'"),
        hint="Export the model for inference only: without reading, writing, printing or Python inside.",
    )


def _check_asset(filename: str, folder: Path) -> None:
    """An asset is a regular file of the folder `assets`, wherever links lead."""
    place = folder / "assets" / filename
    parts = filename.split("/")
    inside = bool(filename) and not filename.startswith("/") and ".." not in parts and "\0" not in filename
    if inside and (folder / "assets").resolve() in place.resolve().parents and place.is_file():
        return
    raise ImportRefused(
        f"The model's asset {wording.name(filename)} is not a file in its folder 'assets'.",
        code="ASSET_OUTSIDE",
        field="assets",
        hint="Export the SavedModel again and copy its folder whole.",
    )
