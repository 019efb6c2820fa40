"""Manifests of versions that import has shown to bear padding."""

from __future__ import annotations

import msgspec
from slot_scene import MANIFEST

from towline.core.manifest import CutOutput, Manifest, PaddedInput, Padding, Signature, TensorSpec


def encoder(*, shortest: int = 1, longest: int = 512) -> Manifest:
    """ids int64 [N, T] and features float32 [N, 3] -> y float32 [N, T]."""
    inputs = (TensorSpec("ids", "int64", ("N", "T")), TensorSpec("features", "float32", ("N", 3)))
    padding = Padding("T", (PaddedInput("ids", 1, 0),), (CutOutput("y", 1),), shortest, longest, 0.0)
    signature = Signature(inputs, (TensorSpec("y", "float32", ("N", "T")),))
    return msgspec.structs.replace(MANIFEST, signatures={"serving_default": signature}, padding=(padding,))


def pictures() -> Manifest:
    """x float32 [N, H, W]: two dims that are padded."""
    padding = tuple(Padding(dim, (PaddedInput("x", axis, 0),), (), 1, 512, 0.0) for axis, dim in ((1, "H"), (2, "W")))
    signature = Signature((TensorSpec("x", "float32", ("N", "H", "W")),), (TensorSpec("y", "float32", ("N",)),))
    return msgspec.structs.replace(MANIFEST, signatures={"serving_default": signature}, padding=padding)
