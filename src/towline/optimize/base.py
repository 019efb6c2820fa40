"""The contract of a pass: a model in, a model out, with its settings as a frozen value."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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


def _silent(sentence: str) -> None:
    """Nobody asked for progress."""


@dataclass(frozen=True)
class Judge:
    """What tells how good a training is, where the loss shall not: `of` gives a figure of the graph's answers to the rows held back, NaN
    where they have none. `identity` tells it from every other."""

    name: str
    is_higher_better: bool
    identity: str
    of: Callable[[np.ndarray], float]


@dataclass(frozen=True)
class Material:
    """What a pass may learn from, and where it says how it goes.

    `calibration` are batches of the graph's inputs. `rows` is a folder of rows to train on (optimize/rows.py), None where none were
    given. `keep` is a folder that outlives a kill: what lies there when a pass is run again is what it wrote when it was stopped. `judge`
    tells when a training has gone far enough; None: its loss does.
    """

    calibration: Sequence[Arrays] = ()
    rows: Path | None = None
    keep: Path | None = None
    say: Callable[[str], None] = _silent
    judge: Judge | None = None


@dataclass(frozen=True)
class Passed:
    """What a pass wrote: `model` relative to the folder it was given. `notes` are sentences for the report, `curves` what was measured
    on the way, such as a loss per epoch."""

    model: str
    notes: tuple[str, ...] = ()
    curves: Mapping[str, tuple[float, ...]] = field(default_factory=dict)


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

    @property
    def environment(self) -> str:
        """Whose Python runs it: empty for our own, else the name of an environment (core/environments.py)."""
        ...

    def run(self, model: Path, into: Path, material: Material) -> Passed:
        """Write the changed model into the empty folder `into`. Called in a process of its own (optimize/host.py). Raises PassFailed."""
        ...


@dataclass(frozen=True)
class Chain:
    """Passes one after another: what a search tries, judges and may hand over."""

    passes: tuple[Pass, ...]

    @property
    def name(self) -> str:
        return " + ".join(one.name for one in self.passes)

    @property
    def settings(self) -> str:
        return "; ".join(one.settings for one in self.passes)

    @property
    def last(self) -> Pass:
        return self.passes[-1]

    def then(self, one: Pass) -> Chain:
        return Chain((*self.passes, one))


def settings_of(chosen: Pass) -> dict[str, Any]:
    """The fields of a pass, as JSON can hold them."""
    return asdict(cast("Any", chosen))
