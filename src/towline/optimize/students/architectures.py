"""The architectures that students are drawn in: for pictures, for plain numbers and for tokens.

`width` scales the channels of every layer, `depth` how many layers follow one another; at 1 and 1 they are small already.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from towline.optimize.base import PassFailed
from towline.optimize.students.asked import Asked
from towline.optimize.students.drawn import Drawing, Spread

# At width 1: the channels of the first convolution and the most of any, the units of a dense layer, and the length of a token's vector.
_STEM, _MOST, _UNITS, _VECTOR = 32, 512, 256, 128
# Layers of one size that follow one another, at depth 1.
_LAYERS = 2
# Convolutions work on channels in vectors of this many.
_VECTORS = 8
# Smaller pictures keep their sides in the first convolution; all are halved until about this is left.
_SMALL_SIDE, _LAST_SIDE = 24, 7
_UNKNOWN_SIDE = 112


def mobile(asked: Asked, *, width: float = 1.0, depth: float = 1.0, seed: int = 0, spreads: Mapping[str, Spread] | None = None) -> Any:
    """Depthwise separable convolutions (Howard et al. 2017, "MobileNets"), each with a batch norm, a mean over the picture, a dense layer.

    `spreads` are mean and deviation per channel, by input, for data that is not near 0 and 1.
    """
    answers = _answers(asked, "picture")
    taken, spread = asked.inputs[0], (spreads or {}).get(asked.inputs[0].name)
    drawing = Drawing(seed)
    last = drawing.floats(taken, spread, {"NCHW": 1, "NHWC": -1}.get(asked.layout, 0))
    if asked.layout == "NHWC":
        last = drawing.node("Transpose", "channels_first", [last], perm=[0, 3, 1, 2])
    if asked.layout == "NHW":
        last = drawing.node("Unsqueeze", "one_channel", [last, drawing.weight("one_channel.axis", np.array([1], np.int64))])
    side = asked.side or _UNKNOWN_SIDE
    first = 2 if side >= _SMALL_SIDE else 1
    halvings = max(1, min(5, round(math.log2(side / _LAST_SIDE)))) - (first - 1)
    layers = max(1, round(_LAYERS * depth))
    made = _channels(_STEM * width)
    last = drawing.convolved("stem", last, asked.channels, made, kernel=3, stride=first)
    for stage in range(halvings + 1):
        for layer in range(layers if stage else 1):
            channels, made = made, min(_channels(_STEM * width * 2 ** (stage + 1)), _channels(_MOST * width))
            name = f"stage{stage}.{layer}"
            stride = 2 if stage and not layer else 1
            last = drawing.convolved(f"{name}.depthwise", last, channels, channels, kernel=3, stride=stride, groups=channels)
            last = drawing.convolved(f"{name}.pointwise", last, channels, made, kernel=1)
    last = drawing.node("GlobalAveragePool", "mean", [last])
    drawing.dense("logits", drawing.node("Flatten", "features", [last], axis=1), made, answers)
    return drawing.finished(asked)


def mlp(asked: Asked, *, width: float = 1.0, depth: float = 1.0, seed: int = 0, spreads: Mapping[str, Spread] | None = None) -> Any:
    """Dense layers with ReLU over all inputs side by side."""
    if not asked.answers or not asked.numbers or asked.outputs > 1:
        raise _unfit(asked, "flat")
    drawing = Drawing(seed)
    parts = []
    for one in asked.inputs:
        last = drawing.floats(one, (spreads or {}).get(one.name), -1)
        parts.append(last if len(one.shape or ()) == 2 else drawing.node("Flatten", f"{one.name}.flat", [last], axis=1))
    last = parts[0] if len(parts) == 1 else drawing.node("Concat", "side_by_side", parts, axis=1)
    return _headed(drawing, asked, last, asked.numbers, max(1, round(_LAYERS * depth)), max(4, round(_UNITS * width)))


def bag(asked: Asked, *, width: float = 1.0, depth: float = 1.0, seed: int = 0, spreads: Mapping[str, Spread] | None = None) -> Any:
    """The mean of a learned vector per token, and dense layers on it (Iyyer et al. 2015, "Deep Unordered Composition").

    An input whose name has `mask` says which tokens count; others, such as those of types, are not looked at.
    """
    _answers(asked, "tokens")
    drawing = Drawing(seed)
    masks = [one for one in asked.inputs if "mask" in one.name]
    made = _channels(_VECTOR * width)
    # Each mean has a variance near one whatever the number of tokens, for words that recur.
    table = drawing.he("vectors", (asked.vocabulary, made), 2)
    last = drawing.node("Gather", "look_up", [table, asked.tokens])
    if not masks:
        last = drawing.node("ReduceMean", "mean", [last], axes=[1], keepdims=0)
        return _headed(drawing, asked, last, made, max(1, round(depth)), made)
    axis = drawing.weight("tokens.axis", np.array([1], np.int64))
    counts = drawing.node("Cast", "counts", [masks[0].name], to=1)
    last_axis = drawing.weight("counts.axis", np.array([2], np.int64))
    last = drawing.node("Mul", "kept", [last, drawing.node("Unsqueeze", "counts.column", [counts, last_axis])])
    summed = drawing.node("ReduceSum", "sum", [last, axis], keepdims=0)
    total = drawing.node("ReduceSum", "counts.sum", [counts, axis], keepdims=1)
    least = drawing.weight("one", np.array([1], np.float32))
    last = drawing.node("Div", "mean", [summed, drawing.node("Max", "counts.least", [total, least])])
    return _headed(drawing, asked, last, made, max(1, round(depth)), made)


def _headed(drawing: Drawing, asked: Asked, last: str, size: int, layers: int, units: int) -> Any:
    for layer in range(layers):
        last = drawing.node("Relu", f"relu{layer}", [drawing.dense(f"dense{layer}", last, size, units)])
        size = units
    drawing.dense("logits", last, size, asked.answers or 1)
    return drawing.finished(asked)


def _channels(count: float) -> int:
    return max(_VECTORS, round(count / _VECTORS) * _VECTORS)


def _answers(asked: Asked, form: str) -> int:
    if asked.form != form or not asked.answers:
        raise _unfit(asked, form)
    return asked.answers


def _unfit(asked: Asked, form: str) -> PassFailed:
    words = {
        "picture": "one input that is a picture",
        "flat": "inputs of fixed sizes",
        "tokens": "inputs that are tokens, looked up in a table",
    }
    took = ", ".join(f"{one.name} {one.dtype}{list(one.shape or ())}" for one in asked.inputs)
    answered = f"{asked.output.name} {asked.output.dtype}{list(asked.output.shape or ())}"
    return PassFailed(
        f"This student needs {words[form]}, and one output with a number per class or target. "
        f"The version has {took} and answers {answered}.",
        hint="A narrowed student keeps the version's own architecture.",
    )
