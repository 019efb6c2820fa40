"""Other ways to give the same input, as people do by mistake: a conversion that agrees on one of them expects that. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from towline.core.manifest import Signature, TensorSpec

_MEAN, _SPREAD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
_COLOURS = 3


def variants(signature: Signature, request: Mapping[str, np.ndarray]) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """What the conversion would be expecting, as a sentence without a full stop, and the request given so. All fit the signature."""
    for spec in signature.inputs:
        array = request[spec.name]
        if array.dtype.kind != "f":
            continue
        for said, changed in _of_one(spec, array):
            if changed.shape == array.shape:
                yield f"The conversion {said} in input '{spec.name}'", {**request, spec.name: np.ascontiguousarray(changed, array.dtype)}
    yield from _swapped(signature, request)


def _of_one(spec: TensorSpec, array: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    for axis in _channel_axes(spec, array):
        yield "expects the channels in the other order (RGB against BGR)", np.flip(array, axis)
        shape = [1] * array.ndim
        shape[axis] = _COLOURS
        mean, spread = _MEAN.reshape(shape), _SPREAD.reshape(shape)
        yield "normalises by ImageNet's mean and spread itself", array * spread + mean
        yield "does not normalise by ImageNet's mean and spread, which the source does", (array - mean) / spread
    yield "expects values 255 times as large", array * 255.0
    yield "expects values 255 times as small", array / 255.0
    yield "expects -1 to 1 where the source expects 0 to 1", array * 2.0 - 1.0
    yield "expects 0 to 1 where the source expects -1 to 1", array * 0.5 + 0.5
    if array.ndim == 4:
        for axes in ((2, 3), (1, 2)):
            yield "swaps height and width", np.swapaxes(array, *axes)


def _channel_axes(spec: TensorSpec, array: np.ndarray) -> list[int]:
    return [axis for axis in dict.fromkeys((1, array.ndim - 1)) if array.ndim >= 3 and array.shape[axis] == _COLOURS]


def _swapped(signature: Signature, request: Mapping[str, np.ndarray]) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """Two inputs that look alike, each given as the other."""
    for place, one in enumerate(signature.inputs):
        for other in signature.inputs[place + 1 :]:
            if one.dtype == other.dtype and request[one.name].shape == request[other.name].shape:
                changed = {**request, one.name: request[other.name], other.name: request[one.name]}
                yield f"The conversion takes the inputs '{one.name}' and '{other.name}' for each other", changed
