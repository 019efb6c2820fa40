"""One HTML page of a measurement: charts, table, how it was done. Opens without a network and prints. Pure."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

from towline.verify.latency.levels import Level
from towline.verify.latency.report import Report, words
from towline.verify.pages.document import document, facts, notes, table
from towline.verify.pages.document import text as _text
from towline.verify.pages.lines import Axis, Line, chart, linear, logarithmic

# More lines than these cannot be told apart.
_MOST_LINES = 12
_STYLE = "tr.knee { font-weight: 600 }"


def page(report: Report) -> str:
    """A whole document. What came from outside is escaped."""
    title = f"towline bench {report.target}"
    body = [
        f"<p>{_text(_summary(report))}</p>",
        "<h2>Throughput and latency</h2>",
        _curve(report),
        "<h2>Share of requests by latency</h2>",
        _distribution(report),
        "<h2>Figures</h2>",
        _table(report),
        _errors(report),
        "<h2>How to read this</h2>",
        notes(report.notes),
        "<h2>How it was measured</h2>",
        _conditions(report),
    ]
    return document(title, body, style=_STYLE)


def _summary(report: Report) -> str:
    at = f"Knee at {_load(report.knee.load, report)}: " if report.knee.load is not None else "No knee: "
    found = next((level for level in report.levels if level.load == report.best_load), None)
    best = f" Best: {found.requests_per_s:,.1f} requests/s at {_load(found.load, report)}, p99 {_ms(found.p99_ms)} ms." if found else ""
    objective = f" Objective: p99 up to {report.slo_ms:g} ms." if report.slo_ms is not None else ""
    return f"{at}{report.knee.why}.{best}{objective}"


def _curve(report: Report) -> str:
    levels = [level for level in report.levels if level.answered]
    said = [_load(level.load, report) for level in levels]
    lines = [
        Line(name, [(level.requests_per_s, level.percentiles_ms[percent]) for level in levels], dots=said)
        for name, percent in (("p50", 50.0), ("p95", 95.0), ("p99", 99.0))
    ]
    if report.slo_ms is not None and levels:
        lines.append(
            Line(f"objective {report.slo_ms:g} ms", [(0.0, report.slo_ms), (max(level.requests_per_s for level in levels), report.slo_ms)])
        )
    across = linear("requests answered per second", [level.requests_per_s for level in levels])
    up = logarithmic("latency, ms", [y for line in lines for _, y in line.points])
    return f"<figure>{chart('Latency by throughput, one point per load', lines, across, up)}</figure>"


def _distribution(report: Report) -> str:
    """Each load's latencies, with the tail drawn out: 90, 99, 99.9 % lie equally far apart."""
    levels = [level for level in report.levels if level.cdf][:_MOST_LINES]
    lines = [Line(_load(level.load, report), [(ms, _nines(share)) for ms, share in level.cdf]) for level in levels]
    across = logarithmic("latency, ms", [ms for level in levels for ms, _ in level.cdf])
    shares = (0.0, 0.5, 0.9, 0.99, 0.999, 0.9999)
    up = Axis("share of requests no slower", 0.0, 4.0, tuple(map(_nines, shares)), words=lambda nines: f"{100 * (1 - 10.0**-nines):.4g} %")
    return f"<figure>{chart('Share of requests by latency', lines, across, up)}</figure>"


def _nines(share: float) -> float:
    """0.9 is 1, 0.99 is 2: how a share is spread on an axis that shows tails."""
    return -math.log10(max(1 - share, 1e-4))


def _table(report: Report) -> str:
    heads = ["requests/s" if report.is_open else "clients", "answered/s", "p50 ms", "p90", "p95", "p99", "p99.9", "max", "queue ms"]
    heads += ["compute ms", "batch", "failed", "client CPU µs", "server CPU µs", "server MiB", "steady"]
    marks = ["knee" if level.load == report.knee.load else "" for level in report.levels]
    return table(heads, [_row(level) for level in report.levels], name="Figures", marked=marks)


def _row(level: Level) -> list[str]:
    told, cost = level.server_time, level.cost
    cells = [
        words(level.load),
        f"{level.requests_per_s:,.1f}",
        *(_ms(level.percentiles_ms[percent]) for percent in sorted(level.percentiles_ms)),
    ]
    cells += [_ms(level.max_ms), *([_ms(told.queue_ms), _ms(told.compute_ms), f"{told.batch:.2f}"] if told else ["–"] * 3)]
    cells += [f"{level.failed:,}", f"{level.client_cpu_us:,.0f}" + (" (bound)" if level.is_generator_bound else "")]
    cells += [f"{cost.cpu_us:,.0f}", f"{cost.resident_bytes / (1 << 20):,.0f}"] if cost else ["–"] * 2
    cells.append("yes" if level.is_steady else "no")
    return cells


def _errors(report: Report) -> str:
    found = [f"{words(level.load)}: {count:,} × {kind}" for level in report.levels for kind, count in level.errors.items()]
    return f"<h2>Errors</h2>{notes(found)}" if found else ""


def _conditions(report: Report) -> str:
    loop = f"open loop, {report.arrivals} arrivals, up to {report.connections} connections" if report.is_open else "closed loop"
    windows = (
        f"{report.window_s:g} s each, after {report.warmup_s:g} s of warm-up, until three agree within {report.steadiness_percent:g} %"
    )
    told: Sequence[tuple[str, str]] = (
        ("Target", report.target),
        ("Address", report.url),
        ("Protocol", f"{report.protocol}, {report.sent}, batch {report.batch}"),
        ("Load", f"{loop}, from {report.processes} process" + ("es" if report.processes > 1 else "")),
        ("Windows", windows),
        ("Machine of the load generator", report.machine),
        ("Begun", time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(report.began_s))),
        ("Towline", report.towline),
    )
    return facts(told)


def _load(load: float, report: Report) -> str:
    return f"{words(load)}/s" if report.is_open else f"{words(load)} client" + ("s" if load != 1 else "")


def _ms(value: float) -> str:
    return (f"{value:.3f}" if value < 10 else f"{value:,.1f}") if math.isfinite(value) else "–"
