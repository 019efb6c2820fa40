"""What `towline bench` says of a measurement: its heading, a line per load, the table, the end. Pure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from towline.cli.output import printable, size_words, table

if TYPE_CHECKING:
    from towline.verify.latency.levels import Level
    from towline.verify.latency.report import Report

_UNKNOWN = "-"


def heading(report: Report) -> str:
    loop = f"open loop, {report.arrivals} arrivals, up to {report.connections} connections" if report.is_open else "closed loop"
    batch = f", batch {report.batch}" if report.batch > 1 else ""
    windows = (
        f"windows of {report.window_s:g} s until 3 agree within {report.steadiness_percent:g} %, after {report.warmup_s:g} s of warm-up"
    )
    return f"{printable(report.url)}: {loop}, {report.protocol}, {printable(report.sent)}{batch}; {windows}"


def level_line(level: Level) -> str:
    """One load that is done, for a log."""
    steady = f"steady after {level.windows} windows" if level.is_steady else f"not steady in {level.windows} windows"
    failed = f", {level.failed} failed" if level.failed else ""
    p50, p99 = _ms(level.percentiles_ms[50.0]), _ms(level.p99_ms)
    return f"{load_words(level.load, level.is_open)}: {level.requests_per_s:,.0f} requests/s, p50 {p50} ms, p99 {p99} ms{failed} ({steady})"


def table_of(report: Report) -> str:
    """One row per load; latencies in milliseconds, processor time per request in microseconds."""
    heads = ["", "RATE" if report.is_open else "CLIENTS", "REQ/S", "P50", "P90", "P95", "P99", "MAX", "QUEUE", "COMPUTE", "BATCH"]
    heads += ["FAILED", "CLIENT-CPU", "SERVER-CPU", "SERVER-RSS", "STEADY"]
    rows = [_row(level, is_knee=level.load == report.knee.load) for level in report.levels]
    return table(heads, rows, right=[head for head in heads if head not in ("", "STEADY")])


def _row(level: Level, *, is_knee: bool) -> list[str]:
    time, cost = level.server_time, level.cost
    told = [_ms(time.queue_ms), _ms(time.compute_ms), f"{time.batch:.2f}"] if time else [_UNKNOWN] * 3
    return [
        ">" if is_knee else "",
        f"{level.load:g}",
        f"{level.requests_per_s:,.1f}",
        *(_ms(level.percentiles_ms[percent]) for percent in (50.0, 90.0, 95.0, 99.0)),
        _ms(level.max_ms),
        *told,
        str(level.failed),
        _us(level.client_cpu_us) + ("!" if level.is_generator_bound else ""),
        _us(cost.cpu_us) if cost else _UNKNOWN,
        size_words(cost.resident_bytes) if cost else _UNKNOWN,
        "yes" if level.is_steady else "no",
    ]


def closing(report: Report) -> list[str]:
    """The knee, the best load, what failed and how, and what the figures do not say by themselves."""
    at = f"at {load_words(report.knee.load, report.is_open)}, " if report.knee.load is not None else "none: "
    lines = [f"Knee: {at}{report.knee.why}."]
    objective = f" with p99 <= {report.slo_ms:g} ms" if report.slo_ms is not None else ""
    found = next((level for level in report.levels if level.load == report.best_load), None)
    if found is not None:
        at = load_words(found.load, found.is_open)
        lines.append(f"Best{objective}: {found.requests_per_s:,.1f} requests/s at {at}, p99 {_ms(found.p99_ms)} ms.")
    elif objective:
        lines.append(f"No load was answered{objective}.")
    for level in report.levels:
        lines += [f"At {load_words(level.load, level.is_open)}: {count} x {printable(kind)}" for kind, count in level.errors.items()]
    return [*lines, *(f"note: {note}" for note in report.notes)]


def load_words(load: float, is_open: bool) -> str:
    return f"{load:g} requests/s wanted" if is_open else f"{load:g} client" + ("s" if load != 1 else "")


def _ms(value: float) -> str:
    return (f"{value:.3f}" if value < 10 else f"{value:,.1f}") if math.isfinite(value) else _UNKNOWN


def _us(value: float) -> str:
    return f"{value:,.0f}us" if math.isfinite(value) else _UNKNOWN
