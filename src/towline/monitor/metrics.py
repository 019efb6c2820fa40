"""Count what the server does, cheaply on the request path, and print it in Prometheus' text format. Pure: no clock, no network.

Label sets are resolved once, when a version starts to serve; a request then costs two additions and a number in a list.
All of it belongs to one thread (the front's event loop): nothing here locks.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Generic, Protocol, TypeVar

from towline.monitor.process import ProcessSample

# What a client names but nobody serves: its text never becomes a label.
UNKNOWN = "_unknown"
# Where label sets beyond the bound are counted together.
OTHER = "_other"
MAX_LABEL_SETS = 1000
MAX_CODES = 64
# Values that a histogram keeps before it sorts them into its buckets.
MAX_NOTED = 128

DURATION_BOUNDS_S = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
)  # fmt: skip
PADDING_BOUNDS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5)
BATCH_BOUNDS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0)


class Histogram:
    """Counts per bucket; `bounds` are inclusive upper bounds in ascending order, the last bucket holds what is above them.

    Values are noted as they come, and sorted into buckets many at a time: when somebody asks, or MAX_NOTED are there.
    """

    __slots__ = ("_counts", "_total", "bounds", "noted")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        # For those who add to it by themselves, and `sort` it then.
        self.noted: list[float] = []
        self._counts = [0] * (len(bounds) + 1)
        self._total = 0.0

    @property
    def counts(self) -> list[int]:
        self.sort()
        return self._counts

    @property
    def total(self) -> float:
        self.sort()
        return self._total

    def observe(self, value: float) -> None:
        self.observe_all((value,))

    def observe_all(self, values: Iterable[float]) -> None:
        self.noted += values
        if len(self.noted) >= MAX_NOTED:
            self.sort()

    def add(self, other: Histogram) -> None:
        """All that another of the same bounds has seen."""
        self._counts = [mine + its for mine, its in zip(self.counts, other.counts, strict=True)]
        self._total += other.total

    def sort(self) -> None:
        """Into buckets: of sorted values each bound is looked up once."""
        noted, before = sorted(self.noted), 0
        if not noted:
            return
        self.noted.clear()
        for place, bound in enumerate(self.bounds):
            upto = bisect_right(noted, bound, before)
            self._counts[place] += upto - before
            before = upto
        self._counts[-1] += len(noted) - before
        self._total += sum(noted)


class RequestMetrics:
    """Requests of one (model, version, track, protocol). `inflight` is the caller's to raise and lower."""

    __slots__ = ("codes", "durations", "failed_s", "inflight", "labels")

    def __init__(self, labels: str) -> None:
        self.labels = labels
        self.codes: dict[str, int] = {}
        self.durations = Histogram(DURATION_BOUNDS_S)
        # The part of the durations that ended in another code than OK.
        self.failed_s = 0.0
        self.inflight = 0

    def observe(self, code: str, duration_s: float) -> None:
        """One answered request. `code` is the protocol's own status ("200", "NOT_FOUND"), `duration_s` from first byte to answer."""
        self.observe_all(code, (duration_s,))

    def observe_all(self, code: str, durations_s: Sequence[float]) -> None:
        """Several requests that were answered at once."""
        noted = self.durations.noted
        noted += durations_s
        if len(noted) >= MAX_NOTED:
            self.durations.sort()
        if code == "OK" and code in self.codes:
            self.codes[code] += len(durations_s)
            return
        if code != "OK":
            self.failed_s += sum(durations_s)
        self._count(code, len(durations_s))

    def count(self, code: str) -> None:
        """One refused before there was anything to measure."""
        self._count(code, 1)

    def _count(self, code: str, number: int) -> None:
        try:
            self.codes[code] += number
        except KeyError:
            # A status nobody foresaw may not become a series without end.
            code = code if len(self.codes) < MAX_CODES else OTHER
            self.codes[code] = self.codes.get(code, 0) + number


class BatchMetrics:
    """Batches of one (model, version, track)."""

    __slots__ = ("compute", "labels", "padding", "queue", "rows")

    def __init__(self, labels: str) -> None:
        self.labels = labels
        self.queue = Histogram(DURATION_BOUNDS_S)
        self.compute = Histogram(DURATION_BOUNDS_S)
        self.rows = Histogram(BATCH_BOUNDS)
        # Of a version that is never padded there is nothing to show.
        self.padding: Histogram | None = None

    def observe(self, rows: int, queue_s: float, compute_s: float) -> None:
        """One batch that ran: how many rows, how long its oldest request waited, how long the engine took (seconds)."""
        noted = self.rows.noted
        noted.append(rows)
        self.queue.noted.append(queue_s)
        self.compute.noted.append(compute_s)
        if len(noted) >= MAX_NOTED:
            for histogram in (self.rows, self.queue, self.compute):
                histogram.sort()

    def observe_padding(self, share: float) -> None:
        """One batch that was made of rows that may be padded: which part of it is padding, from 0 to 1."""
        if self.padding is None:
            self.padding = Histogram(PADDING_BOUNDS)
        self.padding.observe(share)


class Value:
    """One number of one (model, version)."""

    __slots__ = ("labels", "value")

    def __init__(self, labels: str) -> None:
        self.labels = labels
        self.value = 0


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
        self._overflow = make(_labels(names, (OTHER, *[""] * (len(names) - 1))))
        self.dropped = 0

    def of(self, *values: str) -> T:
        """The member with these label values; beyond the bound, the one member that all others share."""
        member = self._members.get(values)
        if member is None:
            if len(self._members) >= self._max_members:
                self.dropped += 1
                return self._overflow
            member = self._members[values] = self._make(_labels(self._names, values))
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
        for family in (self._requests, self._batches, self._restarts, self._quarantined, self._ready):
            family.forget(model, str(version))

    def render(self, processes: Iterable[ProcessSample] = ()) -> bytes:
        """The text of `/metrics`, in Prometheus' exposition format 0.0.4."""
        return "".join(f"{line}\n" for line in self._lines(tuple(processes))).encode()

    def _lines(self, processes: tuple[ProcessSample, ...]) -> Iterator[str]:
        yield from _head("towline_requests_total", "counter", "Requests answered, by status code.")
        for one in self._requests:
            for code, count in one.codes.items():
                yield f'towline_requests_total{{{one.labels},code="{escape_label(code)}"}} {count}'
        durations = ((one.labels, one.durations) for one in self._requests)
        yield from _histograms("towline_request_duration_seconds", "From the first byte of a request to its answer.", durations)
        yield from _head("towline_inflight_requests", "gauge", "Requests received and not yet answered.")
        yield from (f"towline_inflight_requests{{{one.labels}}} {one.inflight}" for one in self._requests)
        queue = ((batch.labels, batch.queue) for batch in self._batches)
        yield from _histograms("towline_queue_duration_seconds", "Wait of the oldest request of a batch.", queue)
        compute = ((batch.labels, batch.compute) for batch in self._batches)
        yield from _histograms("towline_compute_duration_seconds", "The engine's time for one batch.", compute)
        rows = ((batch.labels, batch.rows) for batch in self._batches)
        yield from _histograms("towline_batch_size", "Rows in one batch.", rows)
        padding = ((batch.labels, batch.padding) for batch in self._batches if batch.padding is not None)
        yield from _histograms("towline_batch_padding_ratio", "Part of one batch that is padding.", padding)
        yield from _values("towline_worker_restarts_total", "counter", "Workers started again after a death.", self._restarts)
        yield from _values("towline_quarantined_total", "counter", "Requests that killed their worker alone.", self._quarantined)
        yield from _values("towline_model_ready", "gauge", "1 while the version answers.", self._ready)
        yield from _processes(processes)
        yield from _head("towline_metrics_dropped_total", "counter", "Times a label set beyond the bound was counted under _other.")
        families = (self._requests, self._batches, self._restarts, self._quarantined, self._ready)
        yield f"towline_metrics_dropped_total {sum(family.dropped for family in families)}"


def escape_label(value: str) -> str:
    """A label's value as the format wants it between quotes. Lone surrogates cannot be UTF-8 and are replaced."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return escaped.encode("utf-8", "replace").decode()


def _labels(names: tuple[str, ...], values: tuple[str, ...]) -> str:
    return ",".join(f'{name}="{escape_label(value)}"' for name, value in zip(names, values, strict=True))


def _head(name: str, kind: str, help_text: str) -> tuple[str, str]:
    return f"# HELP {name} {help_text}", f"# TYPE {name} {kind}"


def _values(name: str, kind: str, help_text: str, family: Family[Value]) -> Iterator[str]:
    yield from _head(name, kind, help_text)
    yield from (f"{name}{{{member.labels}}} {member.value}" for member in family)


def _histograms(name: str, help_text: str, members: Iterable[tuple[str, Histogram]]) -> Iterator[str]:
    yield from _head(name, "histogram", help_text)
    for labels, histogram in members:
        seen = 0
        for bound, count in zip(histogram.bounds, histogram.counts, strict=False):
            seen += count
            yield f'{name}_bucket{{{labels},le="{bound}"}} {seen}'
        seen += histogram.counts[-1]
        yield f'{name}_bucket{{{labels},le="+Inf"}} {seen}'
        yield f"{name}_sum{{{labels}}} {histogram.total}"
        yield f"{name}_count{{{labels}}} {seen}"


def _processes(samples: tuple[ProcessSample, ...]) -> Iterator[str]:
    yield from _head("towline_process_resident_memory_bytes", "gauge", "Resident memory of each of the server's processes.")
    yield from (f"towline_process_resident_memory_bytes{{{_process_labels(one)}}} {one.resident_bytes}" for one in samples)
    yield from _head("towline_process_cpu_seconds_total", "counter", "User and system time of each of the server's processes.")
    yield from (f"towline_process_cpu_seconds_total{{{_process_labels(one)}}} {one.cpu_s}" for one in samples)


def _process_labels(sample: ProcessSample) -> str:
    # The pid keeps a restarted worker's counter from running backwards.
    return _labels(("role", "model", "version", "pid"), (sample.role, sample.model, sample.version, str(sample.pid)))
