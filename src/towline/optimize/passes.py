"""The passes there are, by the name of their class: ours, and those of entry points in the group `towline.optimizers`."""

from __future__ import annotations

import importlib
import importlib.metadata
from typing import Any, cast

import msgspec

from towline.core.errors import MissingExtra
from towline.optimize.base import Pass

GROUP = "towline.optimizers"

# Where each class is; imported where it is run or planned, so that a process loads no more than it needs.
BUILT_IN = {
    "Attack": "towline.optimize.attack",
    "Slim": "towline.optimize.graph",
    "Half": "towline.optimize.graph",
    "Equalise": "towline.optimize.equalise",
    "Round": "towline.optimize.rounding",
    "Int8": "towline.optimize.quantize",
    "DynamicInt8": "towline.optimize.quantize",
    "Finetune": "towline.optimize.train",
    "Sparse": "towline.optimize.train",
    "Qat": "towline.optimize.qat",
    "Fuse": "towline.optimize.fusion",
    "WeightOnly": "towline.optimize.weight_only",
    "FixShape": "towline.optimize.shapes",
    "Stored": "towline.optimize.stored",
    "Offline": "towline.optimize.offline",
    "Distill": "towline.optimize.distill",
    "Prune": "towline.optimize.prune",
}


def kind_of(chosen: Pass) -> str:
    return type(chosen).__name__


def class_of(kind: str) -> type[Any]:
    """Raises MissingExtra for a name that nobody has."""
    if kind in BUILT_IN:
        return cast("type[Any]", getattr(importlib.import_module(BUILT_IN[kind]), kind))
    for found in importlib.metadata.entry_points(group=GROUP):
        if found.name == kind:
            return cast("type[Any]", found.load())
    raise MissingExtra(f"No pass named '{kind}' is installed.", hint=f"There is: {', '.join(BUILT_IN)}.")


def pass_of(kind: str, settings: dict[str, Any]) -> Pass:
    """The pass that these words mean (optimize/base.py: settings_of)."""
    return cast("Pass", msgspec.convert(settings, class_of(kind), strict=False))
