"""The contract of an importer: what reads a foreign model with its own framework, answers with it, and converts it.

An importer lives in the converter process (convert/foreign/host.py), which runs in the environment of its framework and behind the walls
of the sandbox. It may use everything there; nothing of it is ever imported by the command line, the controller or a server.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from towline.convert.feature_defaults import Defaults
from towline.core.errors import Kind, TowlineError
from towline.core.manifest import Signature


@dataclass(frozen=True)
class Task:
    """What is to be read. `source` is the file or folder, which may only be read; `scratch` is the one folder that may be written.

    `options` are words that were given with the import, such as {"arch": "model.py:Net", "input": "float32[N,3,224,224]"}; paths among
    them are absolute and lie behind the same walls. An importer refuses options that it does not know.
    `kind` is what the source was recognised as (convert/recognise.py). `trusted`: its owner vouches for code that is in it.
    """

    source: Path
    scratch: Path
    kind: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    trusted: bool = False


@dataclass(frozen=True)
class Layer:
    """One layer of the source, in the order in which it ran, and what came out of it. `kind` is the class, such as BatchNorm2d."""

    name: str
    kind: str
    output: np.ndarray


@dataclass(frozen=True)
class Converted:
    """What a route wrote. `files` names one model file per signature, relative to the folder it was given.

    `engine` runs them: `onnxruntime`, or the source's own framework, in `environment`.
    `layers` tells, for ONNX, which tensor of the graph is the output of which layer of the source; it may be empty or have gaps.
    `notes` are sentences for the report.
    """

    files: Mapping[str, str]
    engine: str = "onnxruntime"
    environment: str = ""
    layers: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class ConversionFailed(TowlineError):
    """A route cannot convert this model; another one may. The message is one sentence, cleaned of paths."""

    kind = Kind.INVALID
    code = "CONVERSION_FAILED"


class Source(Protocol):
    """A foreign model, loaded by its own framework, in inference mode."""

    @property
    def signatures(self) -> Mapping[str, Signature]:
        """By name; `serving_default` where there is one only. Dims that may vary are symbols, that of the batch `N`.

        Names of inputs and outputs are those of the source; every route keeps them.
        """
        ...

    @property
    def facts(self) -> Mapping[str, str]:
        """Names and versions of what took part, for the origin of the version: {"torch": "2.13.0", "architecture": "MobileNetV2"}."""
        ...

    @property
    def parameters(self) -> int: ...

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences for the report."""
        ...

    @property
    def routes(self) -> Sequence[str]:
        """Names of the ways to convert it, in the order in which they are to be tried; a framework's own engine comes last."""
        ...

    def answer(self, inputs: Mapping[str, np.ndarray], *, signature: str) -> dict[str, np.ndarray]:
        """What the source's own framework answers, by output name. Raises EngineError when it refuses this input."""
        ...

    def convert(self, route: str, into: Path) -> Converted:
        """Write the model into the empty folder `into`. Raises ConversionFailed."""
        ...

    def layers(self, inputs: Mapping[str, np.ndarray], *, signature: str) -> Iterable[Layer]:
        """Every layer's output for these inputs, for finding where a conversion departs. Nothing where the framework cannot tell."""
        ...


@runtime_checkable
class Exemplary(Protocol):
    """A source that knows values it was made for: it is tried with those too, where its owner gives no sample."""

    @property
    def examples(self) -> Mapping[str, np.ndarray]:
        """One request of the default signature, of several rows."""
        ...


@runtime_checkable
class Defaulted(Protocol):
    """A source whose signatures parsed tf.Examples, and knew what stands for a feature that one lacks."""

    @property
    def feature_defaults(self) -> Defaults: ...


class Importer(Protocol):
    """Loads the kinds of source that one framework left behind."""

    name: str
    environment: str

    def load(self, task: Task) -> Source:
        """Raises ImportRefused for what is damaged, needs code that was not given, or would run code that nobody vouched for."""
        ...
