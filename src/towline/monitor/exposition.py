"""Prometheus' text format 0.0.4, line by line. Pure: of counters, what a scraper reads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from towline.monitor.counters import Histogram
from towline.monitor.process import ProcessSample


def labels(names: tuple[str, ...], values: tuple[str, ...]) -> str:
    return ",".join(f'{name}="{_escape(value)}"' for name, value in zip(names, values, strict=True))


def numbers(name: str, kind: str, help_text: str, members: Iterable[tuple[str, float]]) -> Iterator[str]:
    """One number for each label set; `kind` is counter or gauge. Without labels the label set is empty."""
    yield from _head(name, kind, help_text)
    yield from (f"{name}{{{labels}}} {number}" if labels else f"{name} {number}" for labels, number in members)


def histograms(name: str, help_text: str, members: Iterable[tuple[str, Histogram]]) -> Iterator[str]:
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


def processes(samples: Sequence[ProcessSample]) -> Iterator[str]:
    memory = ((_labels_of_process(one), one.resident_bytes) for one in samples)
    yield from numbers("towline_process_resident_memory_bytes", "gauge", "Resident memory of each of the server's processes.", memory)
    cpu = ((_labels_of_process(one), one.cpu_s) for one in samples)
    yield from numbers("towline_process_cpu_seconds_total", "counter", "User and system time of each of the server's processes.", cpu)


def _head(name: str, kind: str, help_text: str) -> tuple[str, str]:
    return f"# HELP {name} {help_text}", f"# TYPE {name} {kind}"


def _labels_of_process(sample: ProcessSample) -> str:
    # The pid keeps a restarted worker's counter from running backwards.
    return labels(("role", "model", "version", "pid"), (sample.role, sample.model, sample.version, str(sample.pid)))


def _escape(value: str) -> str:
    """A label's value as the format wants it between quotes. Lone surrogates cannot be UTF-8 and are replaced."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return escaped.encode("utf-8", "replace").decode()
