"""Turn what was measured into figures, a JSON document and a Markdown page. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from commands import StartTimes
from figures import Figures
from goals import Verdict
from image_load import ImageFigures

SCHEMA = "towline.bench/2"
BARE, TOWLINE, FASTAPI, FLASK = "bare server", "Towline", "FastAPI + uvicorn", "Flask + gunicorn"
SHOWN = (BARE, TOWLINE, FASTAPI, FLASK)
GRPC_FLOOR, GRPC_NATIVE = "grpc.aio, plain handler", "Towline, --grpc native"
FIGURES_START = "<!-- figures: written by make bench -->"
FIGURES_END = "<!-- end of figures -->"


@dataclass(frozen=True)
class Measured:
    """One run of the bench. `load` and `grpc` are {clients: {server: figures}}; what was not measured is empty."""

    machine: Mapping[str, Any]
    load: Mapping[int, Mapping[str, Figures]] = field(default_factory=dict)
    # Microseconds per run of the bare `session.run` loop, one per round.
    floor_us: Sequence[float] = ()
    grpc: Mapping[int, Mapping[str, Figures]] = field(default_factory=dict)
    image: ImageFigures | None = None
    start: StartTimes | None = None
    commands: Mapping[str, float] = field(default_factory=dict)
    overload: Mapping[str, float] = field(default_factory=dict)
    bystander: Mapping[str, float] = field(default_factory=dict)


def figures_of(measured: Measured) -> dict[str, float]:
    """The figures that goals are about, by their keys; what was not measured is absent."""
    found = {**measured.commands, **measured.overload, **measured.bystander}
    for clients, servers in measured.load.items():
        ours, fastapi, flask = servers[TOWLINE], servers[FASTAPI], servers[FLASK]
        found[f"cpu_ratio_{clients}"] = ours.cpu_us / servers[BARE].cpu_us if ours.ratio is None else ours.ratio
        found[f"fastapi_cpu_{clients}"] = fastapi.cpu_us / ours.cpu_us
        found[f"flask_cpu_{clients}"] = flask.cpu_us / ours.cpu_us
        found[f"best_peer_rate_{clients}"] = ours.requests_per_s / max(fastapi.requests_per_s, flask.requests_per_s)
        found[f"p50_us_{clients}"] = ours.p50_us
    for clients, servers in measured.grpc.items():
        found[f"grpc_cpu_{clients}"] = servers[TOWLINE].cpu_us / servers[GRPC_FLOOR].cpu_us
        if GRPC_NATIVE in servers:
            found[f"grpc_native_{clients}"] = servers[GRPC_FLOOR].cpu_us / servers[GRPC_NATIVE].cpu_us
    if measured.image:
        found["image_rate"], found["image_cpu"] = measured.image.rate, measured.image.cpu
    failed = [
        one.failed
        for load in (measured.load, measured.grpc)
        for servers in load.values()
        for name, one in servers.items()
        if _is_ours(name)
    ]
    if measured.image:
        failed.append(measured.image.failed)
    if failed:
        found["failed"] = sum(failed)
    if measured.start:
        found["first_answer_ratio"] = measured.start.ratio
    return found


def as_json(measured: Measured, found: Sequence[Verdict]) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "machine": dict(measured.machine),
        "raw_loop_us": list(measured.floor_us),
        "load": _load_json(measured.load),
        "grpc": _load_json(measured.grpc),
        "image": asdict(measured.image) if measured.image else None,
        "start": asdict(measured.start) if measured.start else None,
        "commands": dict(measured.commands),
        "overload": dict(measured.overload),
        "bystander": dict(measured.bystander),
        "figures": figures_of(measured),
        "verdicts": [{**asdict(verdict.goal), "figure": verdict.figure, "verdict": verdict.word} for verdict in found],
    }


def as_markdown(measured: Measured, found: Sequence[Verdict]) -> str:
    machine = measured.machine
    where = f"{machine['cpu']}, {machine['cores']} cores: the servers pinned to one, wrk to another"
    blocks = [[f"Measured {machine['date']} on {where}; {machine['rounds']}."]]
    if measured.load:
        blocks += [list(_load_table(measured.load)), _load_notes(measured)]
    if measured.grpc:
        blocks += [["The same over Open Inference gRPC; the ratio is to grpc.aio with a plain handler:"], list(_load_table(measured.grpc))]
    if measured.image:
        blocks += [_image_notes(measured.image)]
    if measured.start:
        blocks += [_start_notes(measured.start)]
    blocks += [list(verdict_table(found))]
    return "\n\n".join("\n".join(block) for block in blocks) + "\n"


def readme_table(measured: Measured) -> str:
    """The ratios of processor time, which do not change with the machine's speed; the same in every language."""
    lines = ["| clients | session.run | bare server | **Towline** | FastAPI + uvicorn | Flask + gunicorn |", "|--:|--:|--:|--:|--:|--:|"]
    for clients, servers in sorted(measured.load.items()):
        floor = min(measured.floor_us) / servers[BARE].cpu_us
        ratios = " | ".join(f"**{_times(servers[name])}**" if name == TOWLINE else _times(servers[name]) for name in SHOWN)
        lines.append(f"| {clients} | {floor:.1f}x | {ratios} |")
    return "\n".join([*lines, "", dateline(measured.machine)])


def dateline(machine: Mapping[str, Any]) -> str:
    """When and where, in no language."""
    return f"{machine['date']} · {machine['cpu']}, {machine['cores']} × CPU · Towline {machine['packages']['towline']}"


def with_figures(page: str, table: str, start: str = FIGURES_START, end: str = FIGURES_END) -> str:
    """A README with the table between two marks replaced."""
    before, found_start, rest = page.partition(start)
    _, found_end, after = rest.partition(end)
    if not found_start or not found_end:
        raise ValueError(f"the page lacks its marks {start!r} and {end!r}")
    return f"{before}{start}\n{table}\n{end}{after}"


def _is_ours(name: str) -> bool:
    return name.startswith(TOWLINE)


def _times(figures: Figures) -> str:
    return "-" if figures.ratio is None else f"{figures.ratio:.1f}x"


def _load_json(load: Mapping[int, Mapping[str, Figures]]) -> dict[str, Any]:
    return {str(clients): {name: asdict(one) for name, one in servers.items()} for clients, servers in load.items()}


def _load_table(load: Mapping[int, Mapping[str, Figures]]) -> Iterator[str]:
    yield "| clients | server | CPU per request | ratio | requests/s | p50 | p99 | failed |"
    yield "|--:|---|--:|--:|--:|--:|--:|--:|"
    for clients, servers in sorted(load.items()):
        for name, one in servers.items():
            ratio = "-" if one.ratio is None else f"{one.ratio:.2f}x ({one.ratio_low:.2f} to {one.ratio_high:.2f})"
            times = f"{one.p50_us / 1e3:.2f} ms | {one.p99_us / 1e3:.2f} ms"
            shown = f"**{name}**" if _is_ours(name) else name
            yield f"| {clients} | {shown} | {one.cpu_us:.1f} µs | {ratio} | {one.requests_per_s:,.0f} | {times} | {one.failed} |"


def _load_notes(measured: Measured) -> list[str]:
    return [
        "CPU is processor time per answered request, of all processes of the server; the least of the rounds.",
        "The ratio is to the bare server in the same round: median (lowest to highest).",
        f"A `session.run` loop with no server at all: {min(measured.floor_us):.1f} µs per run.",
    ]


def _image_notes(image: ImageFigures) -> list[str]:
    rate = f"{image.rate:.2f}x ({image.rate_low:.2f} to {image.rate_high:.2f})"
    cpu = f"{image.cpu:.2f}x ({image.cpu_low:.2f} to {image.cpu_high:.2f})"
    return [
        "MobileNetV2 with a 600 KB binary tensor, 8 clients, server and load on all cores:",
        f"{image.requests_per_s:.1f} requests/s, {rate} the {image.raw_per_s:.1f} runs/s of a `session.run` loop with a thread per core;",
        f"{image.cpu_us / 1e3:.2f} ms of processor time per request, {cpu} the loop's {image.raw_cpu_us / 1e3:.2f} ms;",
        f"p50 {image.p50_us / 1e3:.1f} ms, p99 {image.p99_us / 1e3:.1f} ms.",
        f"A bare server that does nothing but read the tensor and run the model in a thread per core: {image.bare_per_s:.1f} requests/s,",
        f"{image.bare_cpu_us / 1e3:.2f} ms; Towline gives {image.rate_of_bare:.2f}x that rate for {image.cpu_of_bare:.2f}x that time.",
    ]


def _start_notes(start: StartTimes) -> list[str]:
    return [
        f"`towline serve model.onnx` to the first right answer: {start.towline_s:.2f} s,",
        f"{start.ratio:.1f}x ({start.ratio_low:.1f} to {start.ratio_high:.1f}) the {start.plain_s:.2f} s of a Python that imports",
        "onnxruntime and runs the model once.",
    ]


def verdict_table(found: Sequence[Verdict]) -> Iterator[str]:
    yield "| goal | to reach | figure | verdict |"
    yield "|---|--:|--:|---|"
    for verdict in found:
        sign = "≤" if verdict.goal.direction == "<=" else "≥"
        figure = "-" if verdict.figure is None else f"{verdict.figure:.4g} {verdict.goal.unit}"
        yield f"| {verdict.goal.what} | {sign} {verdict.goal.limit:g} {verdict.goal.unit} | {figure} | {verdict.word} |"
