"""A whole measurement, and its forms for programs: JSON, CSV, and the CSV of Triton's perf_analyzer. Pure."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from towline.verify.latency.knee import Knee
from towline.verify.latency.levels import PERCENTILES, STEADY_WINDOWS, Level


@dataclass(frozen=True)
class Report:
    """Everything that was measured of one target, and how. `sent` says what requests hold, `notes` what a reader must know."""

    target: str
    url: str
    protocol: str
    model: str
    sent: str
    batch: int
    arrivals: str
    window_s: float
    warmup_s: float
    steadiness_percent: float
    slo_ms: float | None
    connections: int
    processes: int
    machine: str
    towline: str
    began_s: float
    levels: tuple[Level, ...]
    knee: Knee
    best_load: float | None
    interrupted: bool
    notes: tuple[str, ...] = ()

    @property
    def is_open(self) -> bool:
        return bool(self.arrivals)


def notes_on(levels: Sequence[Level], *, is_open: bool, has_server_time: bool, has_cost: bool, interrupted: bool) -> tuple[str, ...]:
    """What the figures do not say by themselves."""
    found = []
    if interrupted:
        found.append("Interrupted: these are the loads, and the windows of the last one, that were measured until then.")
    if bound := [words(level.load) for level in levels if level.is_generator_bound]:
        found.append(
            f"Generator-bound at {', '.join(bound)}: the load generator had no processor time left, the server may be faster. "
            "Try --processes, fewer clients, or another machine for one of the two."
        )
    if unsteady := [words(level.load) for level in levels if not level.is_steady]:
        found.append(f"Not steady at {', '.join(unsteady)}: the last {STEADY_WINDOWS} windows do not agree. Try a longer --window.")
    if any(level.failed for level in levels):
        found.append("Requests that failed are counted as errors, and are in no latency and no throughput.")
    if is_open:
        found.append("Open loop: a latency counts from when its request was due, so a stall is seen by all who would have met it.")
    else:
        found.append("Closed loop: a slow answer delays the next request, so a stall is seen once per client. --rate shows what users see.")
    if not has_server_time:
        found.append("The server tells no queue and compute times: it has neither v2 statistics nor Towline's /metrics.")
    if not has_cost:
        found.append("The server's processes are not on this machine, or not ours to see: no processor time and memory of it.")
    return tuple(found)


def words(load: float) -> str:
    return f"{load:g}"


def as_json(report: Report) -> dict[str, Any]:
    """What `towline.bench/1` describes. Milliseconds; a figure that is not known is null."""
    return {
        "target": report.target,
        "url": report.url,
        "protocol": report.protocol,
        "model": report.model,
        "sent": report.sent,
        "batch": report.batch,
        "loop": "open" if report.is_open else "closed",
        "arrivals": report.arrivals or None,
        "connections": report.connections,
        "processes": report.processes,
        "window_s": report.window_s,
        "warmup_s": report.warmup_s,
        "steadiness_percent": report.steadiness_percent,
        "slo_ms": report.slo_ms,
        "machine": report.machine,
        "towline": report.towline,
        "began_s": report.began_s,
        "interrupted": report.interrupted,
        "levels": [_level_json(level, report.batch) for level in report.levels],
        "knee": {"load": report.knee.load, "why": report.knee.why},
        "best_load": report.best_load,
        "notes": list(report.notes),
    }


def _level_json(level: Level, batch: int) -> dict[str, Any]:
    time, cost = level.server_time, level.cost
    return {
        "load": level.load,
        "seconds": level.seconds,
        "answered": level.answered,
        "failed": level.failed,
        "errors": level.errors,
        "unfinished": level.unfinished,
        "requests_per_s": level.requests_per_s,
        "inferences_per_s": level.requests_per_s * batch,
        "latency_ms": {
            "mean": _known(level.mean_ms),
            "max": _known(level.max_ms),
            **{f"p{words(percent)}": _known(level.percentiles_ms[percent]) for percent in PERCENTILES},
        },
        "windows": level.windows,
        "steady": level.is_steady,
        "spread_percent": _known(level.spread_percent),
        "client": {"cpu_us": _known(level.client_cpu_us), "busy": level.client_busy, "generator_bound": level.is_generator_bound},
        "server_time": time
        and {
            "source": time.source,
            "queue_ms": time.queue_ms,
            "input_ms": time.input_ms,
            "compute_ms": time.compute_ms,
            "output_ms": time.output_ms,
            "batch": time.batch,
        },
        "server": cost and {"cpu_us": cost.cpu_us, "resident_bytes": cost.resident_bytes, "processes": cost.processes},
    }


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


def as_csv(report: Report) -> str:
    """One row per load, in the order they ran; a figure that is not known is empty."""
    heads = ["loop", "load", "requests_per_s", "inferences_per_s", "answered", "failed", "unfinished", "mean_ms"]
    heads += [*(f"p{words(percent)}_ms" for percent in PERCENTILES), "max_ms", "queue_ms", "compute_ms", "batch"]
    heads += ["client_cpu_us", "server_cpu_us", "server_resident_bytes", "steady", "generator_bound"]
    rows = []
    for level in report.levels:
        time, cost = level.server_time, level.cost
        row: list[Any] = ["open" if level.is_open else "closed", words(level.load), level.requests_per_s]
        row += [level.requests_per_s * report.batch, level.answered, level.failed, level.unfinished, level.mean_ms]
        row += [*(level.percentiles_ms[percent] for percent in PERCENTILES), level.max_ms]
        row += [time.queue_ms, time.compute_ms, time.batch] if time else [None] * 3
        row += [level.client_cpu_us, *([cost.cpu_us, cost.resident_bytes] if cost else [None] * 2)]
        row += ["yes" if level.is_steady else "no", "yes" if level.is_generator_bound else "no"]
        rows.append([_cell(value) for value in row])
    return _written([heads, *rows])


def _cell(value: Any) -> Any:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    return f"{value:.6g}" if isinstance(value, float) else value


# Of perf_analyzer's report, in its order (Triton's client, report_writer.cc).
_SERVER_COLUMNS = ["Network+Server Send/Recv", "Server Queue", "Server Compute Input", "Server Compute Infer", "Server Compute Output"]
_SHOWN = (50.0, 90.0, 95.0, 99.0)


def as_perf_analyzer(report: Report) -> str:
    """perf_analyzer's own columns: whole microseconds, rows by rising throughput.

    The server's columns are left out when the server tells no times, as perf_analyzer does. Sending and receiving are not
    told apart from waiting here: both columns are 0, and their time is in `Network+Server Send/Recv`.
    """
    known = bool(report.levels) and all(level.server_time for level in report.levels)
    heads = ["Request Rate" if report.is_open else "Concurrency", "Inferences/Second", "Client Send"]
    heads += [*(_SERVER_COLUMNS if known else []), "Client Recv", *(f"p{words(percent)} latency" for percent in _SHOWN)]
    rows: list[list[Any]] = []
    for level in sorted(report.levels, key=lambda level: level.requests_per_s):
        row: list[Any] = [words(level.load), f"{level.requests_per_s * report.batch:.6g}", 0]
        if known:
            row += _server_us(level)
        row += [0, *(_us(level.percentiles_ms[percent]) for percent in _SHOWN)]
        rows.append(row)
    return _written([heads, *rows])


def _server_us(level: Level) -> list[int]:
    time = level.server_time
    assert time is not None, "asked only for levels that have it"
    network_ms = max(0.0, level.mean_ms - time.total_ms)
    parts_ms = (network_ms, time.queue_ms, time.input_ms, time.compute_ms, time.output_ms)
    return [_us(part_ms) for part_ms in parts_ms]


def _us(milliseconds: float) -> int:
    return int(milliseconds * 1e3) if math.isfinite(milliseconds) else 0


def _written(rows: Sequence[Sequence[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
