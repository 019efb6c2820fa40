"""The contract of a pass: a model in, a model out, with its settings as a frozen value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np

from towline.core.errors import Kind, TowlineError

Arrays = Mapping[str, np.ndarray]


class PassFailed(TowlineError):
    """A pass cannot change this model. The message is one sentence."""

    kind = Kind.INVALID
    code = "PASS_FAILED"


@dataclass(frozen=True)
class Passed:
    """What a pass wrote: `model` relative to the folder it was given. `notes` are sentences for the report."""

    model: str
    notes: tuple[str, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)


@runtime_checkable
class Pass(Protocol):
    """A frozen dataclass. Its fields are its settings; two equal passes give equal models on one machine."""

    @property
    def name(self) -> str:
        """A word for reports and lineage: `int8`, `graph`."""
        ...

    @property
    def settings(self) -> str:
        """The settings in one line, for people."""
        ...

    def run(self, model: Path, into: Path, calibration: Sequence[Arrays]) -> Passed:
        """Write the changed model into the empty folder `into`. `calibration` are batches of the graph's inputs, for passes that
        measure ranges. Called in a process of its own (optimize/host.py). Raises PassFailed."""
        ...


def settings_of(chosen: Pass) -> dict[str, Any]:
    """The fields of a pass, as JSON can hold them."""
    return asdict(cast("Any", chosen))
