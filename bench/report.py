"""Turn what was measured into figures, a JSON document and a Markdown page. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from commands import StartTimes
from goals import Verdict
from http_load import BARE, FASTAPI, FLASK, TOWLINE, Figures

SCHEMA = "towline.bench/1"
SHOWN = (BARE, TOWLINE, FASTAPI, FLASK)
FIGURES_START = "<!-- figures: written by make bench -->"
FIGURES_END = "<!-- end of figures -->"


@dataclass(frozen=True)
class Measured:
    """One run of the bench. `load` is {clients: {server: figures}}; what was not measured is empty."""

    machine: Mapping[str, Any]
    load: Mapping[int, Mapping[str, Figures]] = field(default_factory=dict)
    # Microseconds per run of the bare `session.run` loop, one per round.
    floor_us: Sequence[float] = ()
    start: StartTimes | None = None
    commands: Mapping[str, float] = field(default_factory=dict)


def figures_of(measured: Measured) -> dict[str, float]:
    """The figures that goals are about, by their keys; what was not measured is absent."""
    found = dict(measured.commands)
    for clients, servers in measured.load.items():
        ours, fastapi, flask = servers[TOWLINE], servers[FASTAPI], servers[FLASK]
        found[f"cpu_ratio_{clients}"] = ours.ratio
        found[f"fastapi_cpu_{clients}"] = fastapi.cpu_us / ours.cpu_us
        found[f"flask_cpu_{clients}"] = flask.cpu_us / ours.cpu_us
        found[f"best_peer_rate_{clients}"] = ours.requests_per_s / max(fastapi.requests_per_s, flask.requests_per_s)
        found[f"p50_us_{clients}"] = ours.p50_us
    if measured.load:
        found["failed"] = sum(servers[TOWLINE].failed for servers in measured.load.values())
    if measured.start:
        found["first_answer_ratio"] = measured.start.ratio
    return found


def as_json(measured: Measured, found: Sequence[Verdict]) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "machine": dict(measured.machine),
        "raw_loop_us": list(measured.floor_us),
        "load": {str(clients): {name: asdict(one) for name, one in servers.items()} for clients, servers in measured.load.items()},
        "start": asdict(measured.start) if measured.start else None,
        "commands": dict(measured.commands),
        "figures": figures_of(measured),
        "verdicts": [{**asdict(verdict.goal), "figure": verdict.figure, "verdict": verdict.word} for verdict in found],
    }


def as_markdown(measured: Measured, found: Sequence[Verdict]) -> str:
    machine = measured.machine
    where = f"{machine['cpu']}, {machine['cores']} cores: the servers pinned to one, wrk to another"
    blocks = [[f"Measured {machine['date']} on {where}; {machine['rounds']}."]]
    if measured.load:
        blocks += [list(_load_table(measured)), _load_notes(measured)]
    if measured.start:
        blocks += [_start_notes(measured.start)]
    blocks += [list(_verdict_table(found))]
    return "\n\n".join("\n".join(block) for block in blocks) + "\n"


def readme_table(measured: Measured) -> str:
    """The ratios of processor time, which do not change with the machine's speed; the same in every language."""
    lines = ["| clients | session.run | bare server | **Towline** | FastAPI + uvicorn | Flask + gunicorn |", "|--:|--:|--:|--:|--:|--:|"]
    for clients, servers in sorted(measured.load.items()):
        floor = min(measured.floor_us) / servers[BARE].cpu_us
        ratios = " | ".join(f"**{servers[name].ratio:.1f}x**" if name == TOWLINE else f"{servers[name].ratio:.1f}x" for name in SHOWN)
        lines.append(f"| {clients} | {floor:.1f}x | {ratios} |")
    return "\n".join(lines)


def with_figures(page: str, table: str) -> str:
    """A README with the table between its two marks replaced."""
    before, start, rest = page.partition(FIGURES_START)
    _, end, after = rest.partition(FIGURES_END)
    if not start or not end:
        raise ValueError(f"the page lacks its marks {FIGURES_START!r} and {FIGURES_END!r}")
    return f"{before}{start}\n{table}\n{end}{after}"


def _load_table(measured: Measured) -> Iterator[str]:
    yield "| clients | server | CPU per request | ratio | requests/s | p50 | p99 | failed |"
    yield "|--:|---|--:|--:|--:|--:|--:|--:|"
    for clients, servers in sorted(measured.load.items()):
        for name in SHOWN:
            one = servers[name]
            ratio = f"{one.ratio:.2f}x ({one.ratio_low:.2f} to {one.ratio_high:.2f})"
            times = f"{one.p50_us / 1e3:.2f} ms | {one.p99_us / 1e3:.2f} ms"
            shown = f"**{name}**" if name == TOWLINE else name
            yield f"| {clients} | {shown} | {one.cpu_us:.1f} µs | {ratio} | {one.requests_per_s:,.0f} | {times} | {one.failed} |"


def _load_notes(measured: Measured) -> list[str]:
    return [
        "CPU is processor time per answered request, of all processes of the server; the least of the rounds.",
        "The ratio is to the bare server in the same round: median (lowest to highest).",
        f"A `session.run` loop with no server at all: {min(measured.floor_us):.1f} µs per run.",
    ]


def _start_notes(start: StartTimes) -> list[str]:
    return [
        f"`towline serve model.onnx` to the first right answer: {start.towline_s:.2f} s,",
        f"{start.ratio:.1f}x ({start.ratio_low:.1f} to {start.ratio_high:.1f}) the {start.plain_s:.2f} s of a Python that imports",
        "onnxruntime and runs the model once.",
    ]


def _verdict_table(found: Sequence[Verdict]) -> Iterator[str]:
    yield "| goal | to reach | figure | verdict |"
    yield "|---|--:|--:|---|"
    for verdict in found:
        sign = "≤" if verdict.goal.direction == "<=" else "≥"
        figure = "-" if verdict.figure is None else f"{verdict.figure:.4g} {verdict.goal.unit}"
        yield f"| {verdict.goal.what} | {sign} {verdict.goal.limit:g} {verdict.goal.unit} | {figure} | {verdict.word} |"
