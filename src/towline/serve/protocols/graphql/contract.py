"""What GraphQL needs of the server beside its data plane."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from towline.serve.contract import DataPlane
from towline.serve.router import WantedModel


class Catalogue(DataPlane, Protocol):
    def deployments(self) -> Sequence[WantedModel]:
        """What is to be served, by name."""
        ...


# Model and version -> what was counted for it: requests, errors, inflight, p50Ms, p99Ms.
FiguresOf = Callable[[str, int], dict[str, Any]]
