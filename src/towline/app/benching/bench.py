"""`towline bench`: press a server with loads, one after the other, until each is steady, and report what it gave."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

from towline import __version__
from towline.app.benching.requests import ready_requests, words_for
from towline.app.benching.server import serving
from towline.app.benching.target import PROTOCOLS, V2_GRPC, Aim, Asked, aim_at, is_url
from towline.app.benching.watch import Moment, Watch
from towline.core.cpu import cpu_kind
from towline.core.errors import UsageError
from towline.verify.latency.knee import best, knee
from towline.verify.latency.levels import STEADY_WINDOWS, Level, level_of, steadiness
from towline.verify.latency.report import Report, as_csv, as_json, as_perf_analyzer, notes_on
from towline.verify.latency.server_cost import cost_between
from towline.verify.latency.server_time import between
from towline.verify.load.job import CONSTANT, Job, Pace, Window
from towline.verify.load.processes import RunningLoad

__all__ = ["BenchOptions", "Progress", "as_json", "bench", "rendered"]

CONCURRENCY = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
# So many clients to a process of the generator before another one pays.
CLIENTS_PER_PROCESS = 16


@dataclass(frozen=True)
class BenchOptions:
    """One `towline bench`. `loads` are clients, or with `rates` requests a second. Times in seconds, an objective in milliseconds.

    `connections` bounds an open loop's; `processes` 0 lets the machine's cores decide. `data` is a request's body (.json) or
    its arrays (.npy, .npz); without it inputs are made for the model's signature.
    """

    loads: tuple[float, ...] = CONCURRENCY
    rates: bool = False
    arrivals: str = CONSTANT
    connections: int = 128
    window_s: float = 1.0
    warmup_s: float = 1.0
    steadiness_percent: float = 10.0
    max_windows: int = 10
    batch: int = 1
    binary: bool = False
    data: Path | None = None
    seed: int = 0
    slo_ms: float | None = None
    processes: int = 0
    asked: Asked = field(default_factory=Asked)
    home: str | Path | None = None


@dataclass(frozen=True)
class Progress:
    """A window has ended: number `window` (from 1) of the load `load`, which is number `number` (from 0) of `loads`."""

    number: int
    loads: int
    load: float
    window: int
    requests_per_s: float
    level: Level | None = None


def bench(target: str, options: BenchOptions, show: Callable[[Progress], None] = lambda progress: None) -> Report:
    """Measure a version of the store, a model file, or a server by its URL. `show` is called after each window and each load.

    Ctrl-C ends it early: the report has what was measured until then, if anything was; else KeyboardInterrupt goes on.
    """
    _check(options)
    with _address(target, options) as (url, base):
        aim = aim_at(url, replace(options.asked, base=base))
        # Before a server is pressed, it is asked once: what it refuses or takes too long for is told as that.
        requests = ready_requests(aim, options.asked, data=options.data, batch=options.batch, binary=options.binary, seed=options.seed)
        return _report(target, aim, options, *_measure(aim, requests, options, show))


def rendered(report: Report, form: str) -> str:
    """A report as `csv`, `perf-analyzer` or `html`."""
    if form == "html":
        from towline.verify.latency.page import page

        return page(report)
    return {"csv": as_csv, "perf-analyzer": as_perf_analyzer}[form](report)


def _check(options: BenchOptions) -> None:
    if options.asked.protocol not in ("", *PROTOCOLS):
        raise UsageError(f"There is no protocol '{options.asked.protocol[:32]}'.", hint=f"There are: {', '.join(PROTOCOLS)}.")
    if options.binary and options.asked.protocol not in ("", "v2"):
        raise UsageError(f"--binary goes with v2, not with {options.asked.protocol}.")


def _address(target: str, options: BenchOptions) -> AbstractContextManager[tuple[str, str]]:
    return nullcontext((target, "")) if is_url(target) else serving(target, options.asked.protocol, options.home)


def _measure(
    aim: Aim, requests: tuple[bytes, ...], options: BenchOptions, show: Callable[[Progress], None]
) -> tuple[list[Level], bool, float]:
    """Levels in the order of the loads, whether Ctrl-C ended it, and when it began."""
    levels: list[Level] = []
    began_s = time.time()
    watch = Watch(aim, options.asked)
    interrupted = False
    try:
        for number in range(len(options.loads)):
            level, interrupted = _level(watch, requests, options, number, show)
            if level is not None:
                levels.append(level)
            if interrupted:
                break
    except KeyboardInterrupt:
        interrupted = True
    if interrupted and not levels:
        raise KeyboardInterrupt
    return levels, interrupted, began_s


def _level(
    watch: Watch, requests: tuple[bytes, ...], options: BenchOptions, number: int, show: Callable[[Progress], None]
) -> tuple[Level | None, bool]:
    """One load until it is steady, or may take no longer; and whether Ctrl-C ended it, in which case its windows still count."""
    load, interrupted = options.loads[number], False
    windows: list[Window] = []
    watched: list[Moment] = []
    try:
        with RunningLoad(_job(watch.aim, requests, options, load), processes=processes_for(options, load)) as running:
            time.sleep(options.warmup_s)
            watched.append(watch.look())
            for window in running.windows():
                windows.append(window)
                watched.append(watch.look())
                show(Progress(number, len(options.loads), load, len(windows), len(window.latencies_ns) / window.seconds))
                if len(windows) >= options.max_windows or steadiness(windows, options.steadiness_percent).is_steady:
                    break
    except KeyboardInterrupt:
        interrupted = True
    if not windows:
        return None, interrupted
    level = _level_of(load, windows, watched, options)
    show(Progress(number, len(options.loads), load, len(windows), level.requests_per_s, level))
    return level, interrupted


def _level_of(load: float, windows: list[Window], watched: list[Moment], options: BenchOptions) -> Level:
    """The last windows, with what the server's counters and processes did between the moments around them."""
    last = windows[-STEADY_WINDOWS:]
    ended = len(windows) if len(watched) > len(windows) else len(watched) - 1
    before, after = watched[max(0, len(windows) - len(last))], watched[ended]
    answered = _answered_between(before.at_s, after.at_s, last)
    return level_of(
        load,
        windows,
        is_open=options.rates,
        steadiness_percent=options.steadiness_percent,
        server_time=between(before.counters, after.counters),
        cost=cost_between(before.usage, after.usage, answered),
    )


def _answered_between(began_s: float, ended_s: float, windows: list[Window]) -> int:
    """Requests answered between two moments that lie close to the edges of `windows`: their rate, times the time between."""
    seconds = sum(window.seconds for window in windows)
    return round(sum(len(window.latencies_ns) for window in windows) / seconds * (ended_s - began_s))


def _job(aim: Aim, requests: tuple[bytes, ...], options: BenchOptions, load: float) -> Job:
    clients = options.connections if options.rates else int(load)
    pace = Pace(clients, load if options.rates else 0.0, options.arrivals, options.seed)
    return Job(aim.endpoint, pace, requests, options.asked.timeout_s, options.warmup_s, options.window_s)


def processes_for(options: BenchOptions, load: float) -> int:
    """How many processes make a load: what the caller said, else few enough to leave the server half of the cores."""
    if options.processes:
        return options.processes
    clients = options.connections if options.rates else int(load)
    cores = len(os.sched_getaffinity(0))
    return max(1, min(cores // 2, clients // CLIENTS_PER_PROCESS, 8))


def _report(target: str, aim: Aim, options: BenchOptions, levels: list[Level], interrupted: bool, began_s: float) -> Report:
    fittest = best(levels, options.slo_ms)
    scheme = ("grpc" if aim.protocol == V2_GRPC else "http") + ("s" if aim.endpoint.is_tls else "")
    return Report(
        target=target,
        url=f"{scheme}://{aim.endpoint.authority}{aim.path or f'/{aim.model}'}",
        protocol=aim.protocol,
        model=aim.model,
        sent=words_for(aim, binary=options.binary, data=options.data),
        batch=options.batch,
        arrivals=options.arrivals if options.rates else "",
        window_s=options.window_s,
        warmup_s=options.warmup_s,
        steadiness_percent=options.steadiness_percent,
        slo_ms=options.slo_ms,
        connections=options.connections if options.rates else int(max(options.loads)),
        processes=max(processes_for(options, load) for load in options.loads),
        machine=f"{cpu_kind()}, {len(os.sched_getaffinity(0))} cores",
        towline=__version__,
        began_s=began_s,
        levels=tuple(levels),
        knee=knee(levels, options.slo_ms),
        best_load=fittest.load if fittest is not None else None,
        interrupted=interrupted,
        notes=notes_on(
            levels,
            is_open=options.rates,
            has_server_time=all(level.server_time for level in levels),
            has_cost=all(level.cost for level in levels),
            interrupted=interrupted,
        ),
    )
