"""What a slot is given by its server: bounds, where to count, who makes and ends workers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from towline.core.config import Settings
from towline.serve.lanes import Lanes


class Meter(Protocol):
    """Counts one version's requests over one protocol."""

    inflight: int
    codes: Mapping[str, int]
    failed_s: float

    @property
    def durations(self) -> Any:
        """Has `total`, in seconds, of all that `observe` was told."""
        ...

    def observe(self, code: str, duration_s: float) -> None: ...

    def observe_all(self, code: str, durations_s: Sequence[float]) -> None: ...


class BatchMeter(Protocol):
    """Counts one version's batches."""

    def observe(self, rows: int, queue_s: float, compute_s: float) -> None: ...

    def observe_padding(self, share: float) -> None: ...


class Meters(Protocol):
    """Where slots report (monitor/metrics.py)."""

    def of(self, model: str | None, version: int | str = "", track: str = "", protocol: str = "") -> Any: ...

    def batches(self, model: str, version: int | str, track: str = "") -> BatchMeter: ...

    def worker_restarted(self, model: str, version: int | str) -> None: ...

    def quarantined(self, model: str, version: int | str) -> None: ...

    def set_ready(self, model: str, version: int | str, is_ready: bool) -> None: ...

    def forget(self, model: str, version: int | str) -> None: ...


@dataclass(frozen=True)
class SlotLimits:
    max_waiting_requests: int
    max_waiting_bytes: int
    timeout_s: float
    max_batch: int
    # What 95 of 100 requests shall take at most, waiting included; 0 for no objective.
    latency_slo_ms: float = 0.0
    # Workers that one version runs in at a time.
    instances: int = 1
    max_waiting_s: float = 8.0
    # Whether rows of unlike length may share a run, where that was shown to change no answer.
    padding: bool = True

    @classmethod
    def of(cls, settings: Settings) -> SlotLimits:
        """What the settings of a server allow each of its slots."""
        return cls(
            settings.max_waiting_requests,
            settings.max_waiting_bytes,
            settings.request_timeout_s,
            settings.max_batch,
            settings.latency_slo_ms,
            settings.instances,
            settings.max_waiting_s,
            settings.padding,
        )


@dataclass(frozen=True)
class Surroundings:
    """What every slot of a server shares."""

    loop: asyncio.AbstractEventLoop
    clock: Callable[[], float]
    lanes: Lanes
    meters: Meters
    kill: Callable[[int], None]
    exit_of: Callable[[int], Any]
    available_memory_bytes: Callable[[], int | None]
    tell: Callable[..., None]
    force: bool = False
