"""Find operators whose output or work is as large as a request's own numbers say: a few bytes may ask for any amount. Pure."""

from __future__ import annotations

from typing import Any

from towline.convert import wording

# Operator -> which of its inputs are sizes or counts.
_SIZES: dict[str, tuple[int, ...]] = {
    "ConstantOfShape": (0,),
    "Expand": (1,),
    "Tile": (1,),
    "Range": (0, 1, 2),
    "Pad": (1,),
    "Resize": (2, 3),
    "Upsample": (1,),
    "OneHot": (1,),
    "Loop": (0,),
}
# What these tell of a value is bounded by the value itself, which the request had to carry.
_HARMLESS = frozenset({"Shape", "Size"})
MAX_WARNINGS = 5


def unbounded_warnings(graph: Any) -> tuple[str, ...]:
    """One sentence per operator of the main graph that takes a size from the values of a request; at most MAX_WARNINGS."""
    constants = {tensor.name for tensor in graph.initializer}
    from_request = {value.name for value in graph.input} - constants
    warnings: list[str] = []
    for node in graph.node:
        sizes = [node.input[place] for place in _SIZES.get(node.op_type, ()) if place < len(node.input)]
        if any(size in from_request for size in sizes) and len(warnings) < MAX_WARNINGS:
            warnings.append(
                f"Node {wording.name(node.name or node.op_type)} takes a size from the request's values: "
                "a small request may need much memory or time."
            )
        if node.op_type not in _HARMLESS and any(name in from_request for name in node.input):
            from_request.update(node.output)
    return tuple(warnings)
