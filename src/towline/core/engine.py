"""The contract between Towline and whatever runs a version."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from towline.core.manifest import Manifest, Signature


@dataclass(frozen=True)
class EngineOptions:
    """How to load. `device` is `cpu`, `cuda:0`, …; `provider_options` go to the engine as they are.

    `threads_per_run` is the number of threads one run may use; `concurrent_runs` how many runs may be asked for at once.
    An answer that comes in parts may come to `max_answer_bytes` where it is given whole.
    """

    device: str = "cpu"
    threads_per_run: int = 1
    max_answer_bytes: int = 256 << 20
    provider_options: Mapping[str, str] = field(default_factory=dict)


class Session(Protocol):
    """A loaded version. `run` may be called from several threads at once."""

    def run(self, inputs: Mapping[str, np.ndarray], *, slot: int = 0, signature: str = "") -> Sequence[np.ndarray]:
        """Outputs in the signature's order. Inputs passed the signature check. Raises EngineError; never returns wrong shapes silently.

        `slot` names the run, so that `terminate` can find it. `signature` is only given when it is not the version's default one.
        """
        ...

    def terminate(self, slot: int) -> None:
        """Ask the run in `slot` to stop soon; it then raises EngineError. Called from another thread; may have no effect.

        The run may just have ended; the next one in its slot begins only when this has returned.
        """
        ...


class StreamingSession(Session, Protocol):
    """A session that can answer in parts. Its `run` gives them all at once, joined along their first dims."""

    def stream(self, inputs: Mapping[str, np.ndarray], *, slot: int = 0) -> Generator[Sequence[np.ndarray], None, None]:
        """The parts, each as `run` would give it. Closed early when nobody wants the rest; asked to, it ends with EngineError."""
        ...


class Engine(Protocol):
    """Loads versions. Its module may import its framework at the top: it is only ever imported in a worker, or on purpose."""

    name: str

    def load(self, folder: Path, manifest: Manifest, options: EngineOptions) -> Session: ...

    def describe(self, folder: Path, model_file: str) -> Signature:
        """The signature the engine itself sees in a model file; used by import. Raises EngineError."""
        ...

    def devices(self) -> tuple[str, ...]:
        """The devices this engine could load on here."""
        ...
