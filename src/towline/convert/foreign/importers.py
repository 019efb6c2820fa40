"""Which importer reads a kind of source, where its code is, and the environment it runs in."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from towline.convert.base import Importer, Source
from towline.core.errors import MissingExtra

GROUP = "towline.importers"


@dataclass(frozen=True)
class Entry:
    """`reference` is MODULE:CLASS, imported in the converter process only."""

    name: str
    environment: str
    reference: str


BUILT_IN = {
    "torch": Entry("torch", "torch", "towline.convert.torch.importer:TorchImporter"),
    "tensorflow": Entry("tensorflow", "tensorflow", "towline.convert.tensorflow.importer:TensorFlowImporter"),
    "tflite": Entry("tflite", "litert", "towline.convert.tflite.importer:TfliteImporter"),
    "tflite-onnx": Entry("tflite-onnx", "tensorflow", "towline.convert.tflite.onnx_importer:TfliteOnnxImporter"),
    "tabular": Entry("tabular", "tabular", "towline.convert.tabular.importer:TabularImporter"),
}


# Routes that need another environment than the one that a kind of source is read in otherwise.
_BY_ROUTE = {("tflite", "tf2onnx"): "tflite-onnx"}


def importer_entry(name: str, route: str = "") -> Entry:
    """A built-in, or what an entry point of the group `towline.importers` names; that one runs in our own Python.

    `route` is the one route that was asked for, if any.
    """
    name = _BY_ROUTE.get((name, route), name)
    if name in BUILT_IN:
        return BUILT_IN[name]
    import importlib.metadata

    for found in importlib.metadata.entry_points(group=GROUP):
        if found.name == name:
            return Entry(name, "", found.value)
    raise MissingExtra(f"No importer named '{name}' is installed.", hint=f"There is: {', '.join(BUILT_IN)}.")


# Of models that live in the caller's own process: what makes a source of one, given the model and the options of its import.
LIVE = {
    "torch": "towline.convert.torch.live:source_of",
    "tensorflow": "towline.convert.tensorflow.live:source_of",
    "tabular": "towline.convert.tabular.live:source_of",
}


def live_source(importer: str, model: object, options: Mapping[str, str]) -> Source:
    """Raises ImportRefused."""
    module, _, name = LIVE[importer].partition(":")
    return cast("Source", getattr(importlib.import_module(module), name)(model, options))


def load_importer(reference: str) -> Importer:
    """Import the class and make one. Only ever called in the converter process."""
    module, _, name = reference.partition(":")
    return cast("Importer", getattr(importlib.import_module(module), name)())
