"""The matrix as JSON, as a Markdown page, as plots and as the READMEs' table. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import plots
from figures import Figures
from goals import Verdict
from matrix import GRPC, HTTP
from models import CNN, MLP
from report import dateline, verdict_table
from standings import TOWLINE, Standing, lags

SCHEMA = "towline.bench-peers/1"
PEERS_START = "<!-- peers: written by make bench-peers -->"
PEERS_END = "<!-- end of peers -->"
TITLES = {
    (MLP, HTTP): "Tiny MLP, JSON over HTTP",
    (MLP, GRPC): "Tiny MLP, Open Inference over gRPC",
    (CNN, HTTP): "MobileNetV2, 600 KB image over HTTP",
}
FLOORS = {
    (MLP, HTTP): "the bare server",
    (MLP, GRPC): "grpc.aio with a plain handler",
    (CNN, HTTP): "`session.run` alone, with no server",
}
README_CLIENTS = (1, 8, 64)
README_PLOTS = ("cpu-mlp-http-64.svg", "rate-mlp-http.svg")


@dataclass(frozen=True)
class Run:
    """One run of the matrix."""

    machine: Mapping[str, Any]
    standings: Sequence[Standing]

    def table(self, model: str, protocol: str) -> list[Standing]:
        return [one for one in self.standings if (one.model, one.protocol) == (model, protocol)]


def as_json(run: Run, found: Sequence[Verdict]) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "machine": dict(run.machine),
        "rows": [{**asdict(one), "measured": bool(one.load)} for one in run.standings],
        "behind": [asdict(lag) for lag in lags(run.standings)],
        "verdicts": [{**asdict(verdict.goal), "figure": verdict.figure, "verdict": verdict.word} for verdict in found],
    }


def as_markdown(run: Run, found: Sequence[Verdict]) -> str:
    machine = run.machine
    blocks = [
        "# Towline and its peers",
        f"Measured {machine['date']} on {machine['cpu']}, {machine['cores']} cores: each server alone on one core, the load generator on "
        f"another, all in turn in one run; {machine['rounds']}. One worker process with one thread where a server has such settings; "
        "batching: at most 32 rows (8 images) and 2 ms of waiting.",
        "CPU is processor time per answered request of all processes of the server, the least of the rounds; in brackets its ratio to "
        "Towline's in the same round. Rates and latencies are medians, from a closed loop. What the tables leave out is in peers.json.",
    ]
    for (model, protocol), title in TITLES.items():
        if table := run.table(model, protocol):
            blocks += [f"## {title}", *_section(table, FLOORS[model, protocol])]
    blocks += ["## Where Towline does not lead", "\n".join(_behind(run.standings)), "## Goals", "\n".join(verdict_table(found))]
    return "\n\n".join(blocks) + "\n"


def _section(table: Sequence[Standing], floor: str) -> Iterator[str]:
    clients = sorted({count for one in table for count in one.load})
    measured = [one for one in table if one.load]
    if measured:
        yield "CPU per request:\n\n" + _by_clients(measured, clients, _cpu)
        yield f"Ratio of CPU to {floor}, median (lowest to highest of the rounds):\n\n" + _by_clients(measured, clients, _floor_ratio)
        yield "Requests/s:\n\n" + _by_clients(measured, clients, lambda one, count: f"{one.load[count].requests_per_s:,.0f}")
        yield "Latency, p50 / p99 in ms:\n\n" + _by_clients(measured, clients, lambda one, count: _latency(one.load[count]))
        yield "At rest:\n\n" + "\n".join(_at_rest(measured))
    if missing := [one for one in table if not one.load]:
        yield "\n".join(f"- **{one.name}** was not measured: {one.problem}" for one in missing)
    if failed := [
        f"{one.name}: {sum(seen.failed for seen in one.load.values())}" for one in measured if any(s.failed for s in one.load.values())
    ]:
        yield "Requests that failed: " + ", ".join(failed) + "."


def _by_clients(table: Sequence[Standing], clients: Sequence[int], cell: Callable[[Standing, int], str]) -> str:
    lines = ["| server | " + " | ".join(_clients(count) for count in clients) + " |", "|---|" + "--:|" * len(clients)]
    for one in table:
        cells = [cell(one, count) if count in one.load else "-" for count in clients]
        lines.append(f"| {_bold(one)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cpu(one: Standing, clients: int) -> str:
    ratio = one.to_towline.get(clients)
    return f"{_duration(one.load[clients].cpu_us)}" + (f" ({_times(ratio)})" if ratio else "")


def _floor_ratio(one: Standing, clients: int) -> str:
    seen = one.load[clients]
    if seen.ratio is None or seen.ratio_low is None or seen.ratio_high is None:
        return "-"
    return f"{_times(seen.ratio)} ({_times(seen.ratio_low)} to {_times(seen.ratio_high)})"


def _at_rest(table: Sequence[Standing]) -> Iterator[str]:
    yield "| server | start | memory (RSS) | shared pages once (PSS) | processes | installation | versions | |"
    yield "|---|--:|--:|--:|--:|--:|---|---|"
    for one in table:
        versions = ", ".join(f"{name} {version}" for name, version in sorted(one.versions.items()))
        sizes = " | ".join([_megabytes(one.rss_bytes), _megabytes(one.pss_bytes), str(one.processes), _megabytes(one.install_bytes)])
        yield f"| {_bold(one)} | {one.start_s:.1f} s | {sizes} | {versions} | {one.note} |"


def _behind(found: Sequence[Standing]) -> Iterator[str]:
    listed = lags(found)
    if not listed:
        yield "Nowhere: it leads every column."
        return
    yield "Less is better in each; differences below 5 % are left out."
    yield ""
    yield "| table | column | ahead | by |"
    yield "|---|---|---|--:|"
    for lag in listed:
        yield f"| {TITLES[lag.model, lag.protocol]} | {lag.column} | {lag.leader} | {lag.factor:.2f}x |"


def readme_block(run: Run, folder: str) -> str:
    """The table, the plots and the page that lie in `folder`, and when and where it was measured; the same in every language."""
    pictures = [f"![{name}]({folder}/{name})" for name in README_PLOTS]
    return "\n\n".join([readme_table(run), *pictures, f"{dateline(run.machine)} · [peers.md]({folder}/peers.md)"])


def readme_table(run: Run) -> str:
    """Ratios to Towline, which change less from machine to machine than times do. The cheapest at 64 clients first."""
    table = sorted((one for one in run.table(MLP, HTTP) if not one.is_floor), key=_cost_at_most_clients)
    ours = next(one for one in table if one.peer == TOWLINE)
    lines = [
        "| | CPU, 1 client | 8 | 64 | requests/s, 64 | p50, 1 client | start | memory | installation |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for one in table:
        lines.append(f"| {_bold(one)} | " + " | ".join(_readme_cells(one, ours)) + " |")
    return "\n".join(lines)


def _readme_cells(one: Standing, ours: Standing) -> list[str]:
    if not one.load:
        return ["-"] * 8
    most = max(README_CLIENTS)
    return [
        *(_times(one.to_towline[count]) for count in README_CLIENTS),
        _times(one.load[most].requests_per_s / ours.load[most].requests_per_s),
        _times(one.load[1].p50_us / ours.load[1].p50_us),
        _times(one.start_s / ours.start_s),
        _times(one.pss_bytes / ours.pss_bytes),
        _times(one.install_bytes / ours.install_bytes),
    ]


def _cost_at_most_clients(one: Standing) -> float:
    return one.load[max(one.load)].cpu_us if one.load else float("inf")


def as_plots(run: Run) -> dict[str, str]:
    """SVG by file name."""
    found = {}
    for (model, protocol), title in TITLES.items():
        measured = [one for one in run.table(model, protocol) if one.load]
        for clients in sorted({count for one in measured for count in one.load}):
            wanted = [plots.Bar(one.name, one.load[clients].cpu_us, _kind(one)) for one in measured if clients in one.load]
            name = f"cpu-{model}-{protocol.lower()}-{clients}.svg"
            found[name] = plots.bars(f"{title}: processor time per request, {_clients(clients)}", "µs", wanted)
        if measured:
            found[f"rate-{model}-{protocol.lower()}.svg"] = _rates(title, measured)
    return found


def _rates(title: str, measured: Sequence[Standing]) -> str:
    clients = sorted({count for one in measured for count in one.load})
    wanted = []
    for one in measured:
        points = [(clients.index(count), seen.requests_per_s) for count, seen in sorted(one.load.items()) if seen.requests_per_s]
        if points:
            wanted.append(plots.Line(one.name, points, _kind(one)))
    return plots.lines(f"{title}: requests per second", "concurrent clients", [str(count) for count in clients], wanted)


def _kind(one: Standing) -> str:
    return "ours" if one.is_ours else "floor" if one.is_floor else "peer"


def _bold(one: Standing) -> str:
    return f"**{one.name}**" if one.is_ours else one.name


def _clients(count: int) -> str:
    return "1 client" if count == 1 else f"{count} clients"


def _times(ratio: float) -> str:
    return f"{ratio:.0f}x" if ratio >= 9.95 else f"{ratio:.1f}x" if ratio >= 1.95 else f"{ratio:.2f}x"


def _duration(us: float) -> str:
    return f"{us / 1e3:.2f} ms" if us >= 1000 else f"{us:.0f} µs"


def _latency(seen: Figures) -> str:
    return f"{seen.p50_us / 1e3:.2f} / {seen.p99_us / 1e3:.2f}"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.0f} MB"
