"""A source in this very process, asked as one in a converter process is: the model is the caller's own, whose code runs here already."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from towline.convert.base import ConversionFailed, Converted, Exemplary, Layer, Source
from towline.convert.foreign.converter import Loaded
from towline.convert.wording import sentence
from towline.core.errors import EngineError, TowlineError

_T = TypeVar("_T")
_LAYERS_BYTES = 1 << 30


class LocalConverter:
    """The methods of convert/foreign/converter.py: Converter, without its walls. `scratch` is an empty folder."""

    def __init__(self, source: Source, scratch: Path) -> None:
        self._source = source
        self._scratch = scratch
        self._asked = 0

    def load(self) -> Loaded:
        source = self._source
        examples = dict(source.examples) if isinstance(source, Exemplary) else {}
        # Frameworks tell their releases as types of their own.
        facts = {name: str(value) for name, value in source.facts.items()}
        return Loaded(dict(source.signatures), facts, source.parameters, tuple(source.notes), tuple(source.routes), examples)

    def answer(self, inputs: Mapping[str, np.ndarray], *, signature: str) -> dict[str, np.ndarray]:
        """Raises EngineError when the framework refuses this input."""
        return _said(lambda: self._source.answer(inputs, signature=signature), EngineError)

    def convert(self, route: str) -> tuple[Path, Converted]:
        """The folder that a route wrote, and what it says is in it. Raises ConversionFailed."""
        self._asked += 1
        into = self._scratch / f"route-{self._asked}"
        into.mkdir()
        return into, _said(lambda: self._source.convert(route, into), ConversionFailed)

    def layers(self, inputs: Mapping[str, np.ndarray], *, signature: str) -> list[Layer]:
        """Of as many layers as fit 1 GiB."""
        return _said(lambda: self._some_layers(inputs, signature), EngineError)

    def close(self) -> None:
        """Nothing of the model belongs to us."""

    def _some_layers(self, inputs: Mapping[str, np.ndarray], signature: str) -> list[Layer]:
        kept: list[Layer] = []
        size_bytes = 0
        for layer in self._source.layers(inputs, signature=signature):
            size_bytes += layer.output.nbytes
            if size_bytes > _LAYERS_BYTES:
                break
            kept.append(layer)
        return kept


def _said(do: Callable[[], _T], refusal: Callable[[str], TowlineError]) -> _T:
    try:
        return do()
    except TowlineError:
        raise
    except Exception as error:
        # Whatever a framework raises becomes a refusal, as at the door of the converter process.
        said: Any = f"{type(error).__name__}: {error}"
        raise refusal(f"The model's own framework cannot do this: {sentence(said)}") from error
