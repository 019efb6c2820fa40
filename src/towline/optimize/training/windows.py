"""Operators that slide a window over an image, and those that change its size: padding as ONNX says it, which is not always even."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from towline.optimize.base import PassFailed
from towline.optimize.training.reading import Node

_CONV = (F.conv1d, F.conv2d, F.conv3d)
_CONV_BACK = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)
_MAX = (F.max_pool1d, F.max_pool2d, F.max_pool3d)
_AVERAGE = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)
_MODES = {b"constant": "constant", b"reflect": "reflect", b"edge": "replicate"}


def words(attributes: Mapping[str, Any], axes: int) -> tuple[list[int], list[int]]:
    """Strides and dilations, one per spatial axis."""
    return [*attributes.get("strides", [1] * axes)], [*attributes.get("dilations", [1] * axes)]


def pads(attributes: Mapping[str, Any], sizes: Sequence[int], kernel: Sequence[int]) -> list[tuple[int, int]]:
    """Before and after, per spatial axis, for an input of these sizes."""
    axes = len(kernel)
    auto = bytes(attributes.get("auto_pad", b"NOTSET"))
    if auto in (b"NOTSET", b""):
        flat = [*attributes.get("pads", [0] * 2 * axes)]
        return [(flat[axis], flat[axis + axes]) for axis in range(axes)]
    if auto == b"VALID":
        return [(0, 0)] * axes
    strides, dilations = words(attributes, axes)
    found = []
    for size, stride, dilation, width in zip(sizes, strides, dilations, kernel, strict=True):
        missing = max((-(-size // stride) - 1) * stride + dilation * (width - 1) + 1 - size, 0)
        small, large = missing // 2, missing - missing // 2
        found.append((small, large) if auto == b"SAME_UPPER" else (large, small))
    return found


def widened(x: Tensor, around: Sequence[tuple[int, int]], value: float = 0.0, mode: str = "constant") -> Tensor:
    """`x` with that much around its last axes."""
    flat = [width for pair in reversed(around) for width in pair]
    return F.pad(x, flat, mode=mode, value=value) if mode == "constant" else F.pad(x, flat, mode=mode)


def even(around: Sequence[tuple[int, int]]) -> bool:
    return all(before == after for before, after in around)


def padded_input(node: Node, x: Tensor, kernel: Sequence[int]) -> tuple[Tensor, list[int]]:
    """The input, padded where its two sides differ, and the padding that is left to the operator."""
    around = pads(node.attributes, x.shape[2:], kernel)
    if even(around):
        return x, [before for before, _ in around]
    return widened(x, around), [0] * len(around)


def convolved(node: Node, values: Sequence[Any]) -> Tensor:
    x, weight, *bias = values
    kernel = weight.shape[2:]
    strides, dilations = words(node.attributes, len(kernel))
    x, padding = padded_input(node, x, kernel)
    groups = int(node.attributes.get("group", 1))
    return _CONV[len(kernel) - 1](x, weight, bias[0] if bias else None, strides, padding, dilations, groups)


def convolved_back(node: Node, values: Sequence[Any]) -> Tensor:
    x, weight, *bias = values
    kernel = weight.shape[2:]
    axes = len(kernel)
    strides, dilations = words(node.attributes, axes)
    if "output_shape" in node.attributes or bytes(node.attributes.get("auto_pad", b"NOTSET")) not in (b"NOTSET", b"VALID", b""):
        raise PassFailed(f"'{node.name}' is a ConvTranspose that says the shape of its output, which cannot be trained.")
    around = pads(node.attributes, x.shape[2:], kernel)
    more = [*node.attributes.get("output_padding", [0] * axes)]
    groups = int(node.attributes.get("group", 1))
    whole = _CONV_BACK[axes - 1](x, weight, bias[0] if bias else None, strides, 0, more, groups, dilations)
    for axis, (before, after) in enumerate(around):
        whole = whole.narrow(axis + 2, before, whole.shape[axis + 2] - before - after)
    return whole


def maximum(node: Node, values: Sequence[Any]) -> Tensor:
    if len([name for name in node.outputs if name]) > 1:
        raise PassFailed(f"'{node.name}' is a MaxPool whose places are asked for, which cannot be trained.")
    x, kernel = values[0], [*node.attributes["kernel_shape"]]
    strides, dilations = words(node.attributes, len(kernel))
    around = _rounded(node, x, kernel, pads(node.attributes, x.shape[2:], kernel))
    # What lies beyond an edge is no maximum.
    small = even(around) and all(before * 2 <= width for (before, _), width in zip(around, kernel, strict=True))
    x = x if small else widened(x, around, float("-inf"))
    return _MAX[len(kernel) - 1](x, kernel, strides, [before for before, _ in around] if small else 0, dilations)


def averaged(node: Node, values: Sequence[Any]) -> Tensor:
    x, kernel = values[0], [*node.attributes["kernel_shape"]]
    strides, _ = words(node.attributes, len(kernel))
    around = pads(node.attributes, x.shape[2:], kernel)
    wide = _rounded(node, x, kernel, around)
    pool = _AVERAGE[len(kernel) - 1]
    if wide == around and not any(width for pair in around for width in pair):
        return pool(x, kernel, strides)
    within = torch.ones_like(x[:1, :1])
    counted = widened(within, around, 1.0 if node.attributes.get("count_include_pad") else 0.0)
    counted = widened(counted, [(0, b[1] - a[1]) for a, b in zip(around, wide, strict=True)])
    return pool(widened(x, wide), kernel, strides) / pool(counted, kernel, strides)


def _rounded(node: Node, x: Tensor, kernel: Sequence[int], around: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """With ceil_mode a last window may reach beyond the padding."""
    if not node.attributes.get("ceil_mode"):
        return [*around]
    strides, dilations = words(node.attributes, len(kernel))
    found = []
    for axis, (before, after) in enumerate(around):
        size, stride = x.shape[axis + 2], strides[axis]
        reach = dilations[axis] * (kernel[axis] - 1) + 1
        steps = -(-(size + before + after - reach) // stride)
        # A window that would begin in the padding behind is left out, as ONNX Runtime does.
        steps -= steps * stride >= size + before
        found.append((before, max(after, steps * stride + reach - size - before)))
    return found


def padded(node: Node, values: Sequence[Any]) -> Tensor:
    x = values[0]
    flat = [int(one) for one in (values[1].tolist() if len(values) > 1 else node.attributes["pads"])]
    value = float(values[2]) if len(values) > 2 and values[2] is not None else float(node.attributes.get("value", 0.0))
    axes = [int(one) % x.dim() for one in values[3].tolist()] if len(values) > 3 and values[3] is not None else [*range(x.dim())]
    around = [(0, 0)] * x.dim()
    for place, axis in enumerate(axes):
        around[axis] = (flat[place], flat[place + len(axes)])
    mode = bytes(node.attributes.get("mode", b"constant"))
    if mode not in _MODES:
        raise PassFailed(f"'{node.name}' pads by '{mode.decode()}', which cannot be trained.")
    if mode != b"constant":
        # PyTorch pads the last axes only, and takes no mention of those before.
        around = around[2:]
    return widened(x, around, value, _MODES[mode])


def resized(node: Node, values: Sequence[Any]) -> Tensor:
    x = values[0]
    mode = bytes(node.attributes.get("mode", b"nearest"))
    place = bytes(node.attributes.get("coordinate_transformation_mode", b"half_pixel"))
    rounding = bytes(node.attributes.get("nearest_mode", b"round_prefer_floor"))
    sizes = _resized_to(x, [*values])
    if node.opset < 11:
        place, rounding = b"asymmetric", b"floor"
    # Enlarged by a whole factor, pixels' middles fall into the pixel that they come from, whichever way a tie is rounded.
    middles = place in (b"half_pixel", b"pytorch_half_pixel") and rounding.startswith(b"round") and _whole(x, sizes)
    if mode == b"nearest" and (middles or (place, rounding) == (b"asymmetric", b"floor")):
        return F.interpolate(x, size=sizes, mode="nearest")
    if mode == b"linear" and place in (b"half_pixel", b"pytorch_half_pixel", b"align_corners"):
        kind = ("linear", "bilinear", "trilinear")[len(sizes) - 1]
        return F.interpolate(x, size=sizes, mode=kind, align_corners=place == b"align_corners")
    raise PassFailed(f"'{node.name}' resizes by '{mode.decode()}' with '{place.decode()}', which cannot be trained.")


def _resized_to(x: Tensor, values: list[Any]) -> list[int]:
    if len(values) > 3 and values[3] is not None:
        return [int(one) for one in values[3].tolist()][2:]
    scales = values[2] if len(values) > 2 else values[1]
    return [int(size * scale) for size, scale in zip(x.shape[2:], scales.tolist()[2:], strict=True)]


def _whole(x: Tensor, sizes: Sequence[int]) -> bool:
    return all(size % old == 0 for size, old in zip(sizes, x.shape[2:], strict=True))
