"""Processing that many models share, by name. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from towline.convert.declaration import Declaration, refused
from towline.core import steps
from towline.core.manifest import Signature

NAMES = ("imagenet", "segmentation")
# What torchvision's segmenters call the scores of each pixel, beside others.
_PIXELS = "out"
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_SIDE = 224
# As torchvision evaluates its models: the shorter side to 256 for a crop of 224.
_SHORTER_PER_CROP = 256 / 224


def preset(name: str, graph: Signature, makers: Mapping[str, str], *, has_labels: bool) -> Declaration:
    """The declaration a preset stands for on this graph. `makers` tells, by output, which operator makes it."""
    if name not in NAMES:
        raise refused(f"there is no preset '{name}'; there is {', '.join(NAMES)}")
    width, height = _size(graph, name)
    before = (
        steps.Image(),
        steps.Resize(shorter=round(min(width, height) * _SHORTER_PER_CROP)),
        steps.Crop(width=width, height=height),
        steps.Normalise(mean=_MEAN, std=_STD),
    )
    if name == "segmentation":
        return Declaration(before, (steps.Segment(output=_PIXELS if any(spec.name == _PIXELS for spec in graph.outputs) else ""),))
    output = graph.outputs[0].name
    scores: tuple[steps.After, ...] = () if makers.get(output) in ("Softmax", "Sigmoid") else (steps.Softmax(),)
    after = (*scores, steps.TopK(), *((steps.Labels(),) if has_labels else ()))
    return Declaration(before, after)


def _size(graph: Signature, name: str) -> tuple[int, int]:
    """Width and height of the pictures that the graph takes; where it leaves them open, 224."""
    shape = graph.inputs[0].shape if len(graph.inputs) == 1 else None
    if shape is None or len(shape) != 4:
        raise refused(f"preset '{name}' needs a graph with one input of rank 4, [N, 3, height, width] or [N, height, width, 3]")
    height, width = shape[1:3] if shape[3] == 3 else shape[2:4]
    return (width if isinstance(width, int) else _SIDE), (height if isinstance(height, int) else _SIDE)
