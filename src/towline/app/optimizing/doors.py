"""Whether a candidate takes what its version takes: an open dim that a pass has fixed refuses requests that were answered before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from towline.core.manifest import TENSORS_SIGNATURE, Manifest, Signature, TensorSpec
from towline.optimize.base import Chain, PassFailed
from towline.optimize.shapes import FixShape


def narrowed(manifest: Manifest, has: Signature, chosen: Chain) -> Manifest:
    """The manifest for a graph whose signature is `has` now. Raises PassFailed where it takes less and nobody asked for that."""
    had = manifest.signatures[TENSORS_SIGNATURE] if manifest.processing else manifest.signature
    sizes = fixed_sizes(had, has)
    if not sizes:
        return manifest
    told = ", ".join(f"{symbol} = {size}" for symbol, size in sizes.items())
    if not any(isinstance(one, FixShape) for one in chosen.passes):
        raise PassFailed(f"It would take one size only where the version takes any: {told}.")
    if manifest.processing:
        raise PassFailed(f"Sizes are fixed for versions that take tensors; what reads its requests may give others than {told}.")
    ends = [tuple(_fixed(spec, sizes) for spec in of) for of in (had.inputs, had.outputs)]
    return msgspec.structs.replace(manifest, signatures={**manifest.signatures, manifest.signature_names[0]: Signature(*ends)})


def fixed_sizes(had: Signature, has: Signature) -> dict[str, int]:
    """By symbol of an input before, the one size that it has now. Pure."""
    now = {spec.name: spec.shape for spec in has.inputs}
    both = [(spec.shape, now.get(spec.name)) for spec in had.inputs]
    pairs = [pair for before, after in both if before and after and len(before) == len(after) for pair in zip(before, after, strict=True)]
    return {before: after for before, after in pairs if isinstance(before, str) and isinstance(after, int)}


def fitting(signature: Signature, requests: Sequence[Mapping[str, np.ndarray]]) -> list[Mapping[str, np.ndarray]]:
    """Those of its version's requests that it still takes. Pure."""
    shapes = {spec.name: spec.shape or () for spec in signature.inputs}
    return [one for one in requests if all(_takes(shapes[name], array.shape) for name, array in one.items())]


def _takes(shape: Sequence[int | str], given: Sequence[int]) -> bool:
    # The first axis is the batch, which a request may make smaller.
    return all(isinstance(wanted, str) or wanted == got for wanted, got in list(zip(shape, given, strict=False))[1:])


def _fixed(spec: TensorSpec, sizes: Mapping[str, int]) -> TensorSpec:
    shape = spec.shape and tuple(sizes.get(dim, dim) if isinstance(dim, str) else dim for dim in spec.shape)
    return msgspec.structs.replace(spec, shape=shape)
