"""Everything that `/metrics` shows, by label sets of a bounded number. Pure: no clock, no network.

Label sets are resolved once, when a version starts to serve: a request finds its counters at hand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Generic, Protocol, TypeVar

from towline.monitor import exposition
from towline.monitor.counters import OTHER, BatchMetrics, RequestMetrics, Value
from towline.monitor.process import ProcessSample

# What a client names but nobody serves: its text never becomes a label.
UNKNOWN = "_unknown"
MAX_LABEL_SETS = 1000


class _Labelled(Protocol):
    labels: str


T = TypeVar("T", bound=_Labelled)


class Family(Generic[T]):
    """Members by label values, at most `max_members` of them; the first two labels are always model and version."""

    def __init__(self, names: tuple[str, ...], make: Callable[[str], T], max_members: int) -> None:
        self._names = names
        self._make = make
        self._max_members = max_members
        self._members: dict[tuple[str, ...], T] = {}
        self._overflow = make(exposition.labels(names, (OTHER, *[""] * (len(names) - 1))))
        self.dropped = 0

    def of(self, *values: str) -> T:
        """The member with these label values; beyond the bound, the one member that all others share."""
        member = self._members.get(values)
        if member is None:
            if len(self._members) >= self._max_members:
                self.dropped += 1
                return self._overflow
            member = self._members[values] = self._make(exposition.labels(self._names, values))
        return member

    def forget(self, model: str, version: str) -> None:
        self._members = {values: kept for values, kept in self._members.items() if values[:2] != (model, version)}

    def items(self) -> Iterable[tuple[tuple[str, ...], T]]:
        return self._members.items()

    def __iter__(self) -> Iterator[T]:
        yield from self._members.values()
        if self.dropped:
            yield self._overflow


class ServingMetrics:
    """Everything `/metrics` shows. Ask `of` and `batches` once per version and keep what they return."""

    def __init__(self, *, max_label_sets: int = MAX_LABEL_SETS) -> None:
        identity = ("model", "version")
        self._requests = Family((*identity, "track", "protocol"), RequestMetrics, max_label_sets)
        self._batches = Family((*identity, "track"), BatchMetrics, max_label_sets)
        self._restarts = Family(identity, Value, max_label_sets)
        self._quarantined = Family(identity, Value, max_label_sets)
        self._ready = Family(identity, Value, max_label_sets)
        self._families = (self._requests, self._batches, self._restarts, self._quarantined, self._ready)

    def of(self, model: str | None, version: int | str = "", track: str = "", protocol: str = "") -> RequestMetrics:
        """The counters of one label set. `model` None: the client named something that is not served."""
        return self._requests.of(model or UNKNOWN, str(version) if model else "", track, protocol)

    def requests_of(self, model: str, version: int | str) -> list[RequestMetrics]:
        """The counters of one version, over each protocol."""
        return [one for values, one in self._requests.items() if values[:2] == (model, str(version))]

    def batches(self, model: str, version: int | str, track: str = "") -> BatchMetrics:
        return self._batches.of(model, str(version), track)

    def worker_restarted(self, model: str, version: int | str) -> None:
        self._restarts.of(model, str(version)).value += 1

    def quarantined(self, model: str, version: int | str) -> None:
        """One request was found to kill its worker alone, and will not run again."""
        self._quarantined.of(model, str(version)).value += 1

    def set_ready(self, model: str, version: int | str, is_ready: bool) -> None:
        self._ready.of(model, str(version)).value = int(is_ready)

    def forget(self, model: str, version: int | str) -> None:
        """Drop every series of a version that is no longer loaded, which makes room for others."""
        for family in self._families:
            family.forget(model, str(version))

    def render(self, processes: Iterable[ProcessSample] = ()) -> bytes:
        """The text of `/metrics`, in Prometheus' exposition format 0.0.4."""
        return "".join(f"{line}\n" for line in self._lines(tuple(processes))).encode()

    def _lines(self, processes: Sequence[ProcessSample]) -> Iterator[str]:
        requests, batches = list(self._requests), list(self._batches)
        codes = ((f"{one.labels},{exposition.labels(('code',), (code,))}", count) for one in requests for code, count in one.codes.items())
        yield from exposition.numbers("towline_requests_total", "counter", "Requests answered, by status code.", codes)
        durations = ((one.labels, one.durations) for one in requests)
        yield from exposition.histograms("towline_request_duration_seconds", "From the first byte of a request to its answer.", durations)
        inflight = ((one.labels, one.inflight) for one in requests)
        yield from exposition.numbers("towline_inflight_requests", "gauge", "Requests received and not yet answered.", inflight)
        queue = ((batch.labels, batch.queue) for batch in batches)
        yield from exposition.histograms("towline_queue_duration_seconds", "Wait of the oldest request of a batch.", queue)
        compute = ((batch.labels, batch.compute) for batch in batches)
        yield from exposition.histograms("towline_compute_duration_seconds", "The engine's time for one batch.", compute)
        rows = ((batch.labels, batch.rows) for batch in batches)
        yield from exposition.histograms("towline_batch_size", "Rows in one batch.", rows)
        padding = ((batch.labels, batch.padding) for batch in batches if batch.padding is not None)
        yield from exposition.histograms("towline_batch_padding_ratio", "Part of one batch that is padding.", padding)
        yield from _values("towline_worker_restarts_total", "counter", "Workers started again after a death.", self._restarts)
        yield from _values("towline_quarantined_total", "counter", "Requests that killed their worker alone.", self._quarantined)
        yield from _values("towline_model_ready", "gauge", "1 while the version answers.", self._ready)
        yield from exposition.processes(processes)
        dropped = sum(family.dropped for family in self._families)
        help_text = "Times a label set beyond the bound was counted under _other."
        yield from exposition.numbers("towline_metrics_dropped_total", "counter", help_text, [("", dropped)])


def _values(name: str, kind: str, help_text: str, family: Family[Value]) -> Iterator[str]:
    return exposition.numbers(name, kind, help_text, ((member.labels, member.value) for member in family))
