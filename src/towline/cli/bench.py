"""`towline bench`: measure a version or a running server under load."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from towline.cli import exits
from towline.cli.bench_words import closing, heading, level_line, load_words, table_of
from towline.cli.output import emit, emit_json, printable, say
from towline.cli.pages import page_place
from towline.cli.params import home_option, json_option, read_key, refuse_secrets
from towline.core.errors import UsageError

if TYPE_CHECKING:
    from towline.app.benching.bench import Progress
    from towline.verify.latency.report import Report

MAX_LEVELS = 64
MAX_CLIENTS = 10_000
MAX_RATE = 1_000_000.0
FORMATS = ("table", "json", "csv", "perf-analyzer")
PROTOCOLS = ("v2", "v2-grpc", "tfserving", "predict")


class Loads(click.ParamType):  # type: ignore[type-arg]  # generic only since click 8.3
    """`8`, `1,8,32`, or perf_analyzer's `START:END[:STEP]`, END included."""

    name = "loads"

    def __init__(self, *, whole: bool, most: float) -> None:
        self._whole, self._most = whole, most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        if isinstance(value, tuple):
            return value
        try:
            found = tuple(sorted({load for part in str(value).split(",") for load in self._part(part)}))
        except ValueError:
            self.fail(f"{str(value)[:64]!r}: expected numbers such as 1,8,32, or START:END[:STEP].", param, ctx)
        if not found or not all(0 < load <= self._most for load in found) or len(found) > MAX_LEVELS:
            self.fail(f"{str(value)[:64]!r}: expected at most {MAX_LEVELS} numbers, each above 0 and at most {self._most:g}.", param, ctx)
        return found

    def _part(self, part: str) -> list[float]:
        words = part.split(":")
        start, *more = (float(int(word)) if self._whole else float(word) for word in words)
        if not more:
            return [start]
        end, step = more if len(more) == 2 else (*more, 1.0)
        if not step > 0 or not start <= end or (end - start) / step > MAX_LEVELS:
            raise ValueError
        return [start + step * number for number in range(int((end - start) / step + 1e-9) + 1)]


@click.command("bench")
@click.argument("target", metavar="REF|FILE|URL")
@click.option(
    "--concurrency",
    "-c",
    type=Loads(whole=True, most=MAX_CLIENTS),
    metavar="N,…",
    help="Clients that each wait for their answer: 1,8,32 or 1:8:2. Default: 1,2,4,8,16,32.",
)
@click.option(
    "--rate",
    "-r",
    type=Loads(whole=False, most=MAX_RATE),
    metavar="N,…",
    help="Instead: requests per second, sent whatever the server does.",
)
@click.option(
    "--arrivals",
    type=click.Choice(["constant", "poisson"]),
    default="constant",
    show_default=True,
    help="How a rate's requests are spread.",
)
@click.option(
    "--connections", type=click.IntRange(1, MAX_CLIENTS), default=128, show_default=True, metavar="N", help="Most connections of a rate."
)
@click.option("--protocol", type=click.Choice(PROTOCOLS), help="Default: what the URL or the server tells; v2 for a version.")
@click.option("--model", default="", metavar="NAME", help="The model, where the URL names none and the server has several.")
@click.option(
    "--data", metavar="FILE", help="A request's body (.json), sent as it is, or its arrays (.npy, .npz). Default: made for the model."
)
@click.option("--batch", type=click.IntRange(1, 65536), default=1, show_default=True, metavar="N", help="Rows in a made request.")
@click.option("--binary", is_flag=True, help="v2 over HTTP: binary tensors instead of JSON.")
@click.option(
    "--warmup",
    "warmup_s",
    type=click.FloatRange(0, 3600),
    default=1.0,
    show_default=True,
    metavar="S",
    help="Seconds of each load that do not count.",
)
@click.option(
    "--window", "window_s", type=click.FloatRange(0.05, 3600), default=1.0, show_default=True, metavar="S", help="Seconds of a window."
)
@click.option(
    "--stability",
    "steadiness_percent",
    type=click.FloatRange(0.1, 1000),
    default=10.0,
    show_default=True,
    metavar="PERCENT",
    help="A load is steady when its last 3 windows agree so well.",
)
@click.option(
    "--max-windows",
    type=click.IntRange(3, 1000),
    default=10,
    show_default=True,
    metavar="N",
    help="Windows after which an unsteady load is given up.",
)
@click.option(
    "--slo-ms", type=click.FloatRange(0.001, 3.6e6), metavar="MS", help="Objective for the 99th percentile; exit 3 when no load keeps it."
)
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(0.001, 3600),
    default=30.0,
    show_default=True,
    metavar="S",
    help="Seconds after which a request has failed.",
)
@click.option(
    "--processes",
    type=click.IntRange(0, 64),
    default=0,
    metavar="N",
    help="Processes of the load generator. Default: by cores and clients.",
)
@click.option("--seed", type=click.IntRange(0), default=0, metavar="N", help="Of made inputs and random arrivals. Default: 0.")
@click.option("--format", "form", type=click.Choice(FORMATS), default="table", show_default=True, help="Of what is printed.")
@click.option("--html", metavar="FILE", help="Also write a report with charts: one page that needs no network.")
@click.option("--allow-remote", is_flag=True, help="Allow a server that is not this machine.")
@click.option("--key-file", metavar="FILE", help="File with the server's key. TOWLINE_KEY works too.")
@home_option
@json_option
def command(target: str, form: str, html: str | None, key_file: str | None, home: str | None, as_json: bool, **given: Any) -> int:
    """Measure throughput and latency of a version, a model file, or a server (Towline, Triton, TF Serving and the like).

    A version is served on this machine for as long as it is measured. URL is http://HOST:PORT, with or without a model's path,
    or grpc://HOST:PORT/MODEL. Ctrl-C ends it early and prints what was measured.
    """
    refuse_secrets(target)
    if as_json and form not in ("table", "json"):
        raise UsageError(f"--json and --format {form} exclude each other.")
    if given["concurrency"] and given["rate"]:
        raise UsageError("--concurrency and --rate exclude each other: clients that wait, or requests at a rate.")
    place = page_place(html)
    from towline.app.benching.bench import CONCURRENCY, BenchOptions, bench, rendered
    from towline.app.benching.target import Asked

    asked = Asked(given.pop("protocol") or "", given.pop("model"), read_key(key_file), given.pop("timeout_s"), given.pop("allow_remote"))
    concurrency, rates, data = given.pop("concurrency"), given.pop("rate"), given.pop("data")
    options = BenchOptions(
        loads=rates or concurrency or CONCURRENCY, rates=bool(rates), data=Path(data) if data else None, asked=asked, home=home, **given
    )
    with Teller(len(options.loads), options.max_windows, options.rates) as teller:
        report = bench(target, options, teller.show)
    _print(report, "json" if as_json else form)
    if place is not None:
        place.write_text(rendered(report, "html"), encoding="utf-8")
        say(f"Written to {printable(place)}.")
    if report.interrupted:
        return exits.INTERRUPTED
    if not any(level.answered for level in report.levels):
        return exits.FAILED
    return exits.GATE if report.slo_ms is not None and report.best_load is None else exits.OK


class Teller:
    """Tells what happens meanwhile: a bar on a terminal, one line per load elsewhere. Both on stderr."""

    def __init__(self, loads: int, max_windows: int, is_open: bool) -> None:
        self._max_windows, self._is_open = max_windows, is_open
        is_terminal = sys.stderr is not None and sys.stderr.isatty()
        self._bar = click.progressbar(length=loads * max_windows, label="bench", file=sys.stderr, show_eta=False) if is_terminal else None

    def __enter__(self) -> Teller:
        if self._bar is not None:
            self._bar.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        if self._bar is not None:
            self._bar.__exit__(*error)

    def show(self, progress: Progress) -> None:
        if self._bar is None:
            if progress.level is not None:
                say(level_line(progress.level))
            return
        done = (progress.number + 1) * self._max_windows if progress.level else progress.number * self._max_windows + progress.window
        self._bar.label = f"{load_words(progress.load, self._is_open)}: {progress.requests_per_s:,.0f}/s"
        self._bar.update(done - self._bar.pos)


def _print(report: Report, form: str) -> None:
    if form == "table":
        say(heading(report))
        emit(table_of(report))
        for line in closing(report):
            say(line)
        return
    from towline.app.benching.bench import as_json, rendered

    if form == "json":
        emit_json("towline.bench/1", as_json(report))
    else:
        emit(rendered(report, form).rstrip("\n"))
        for note in report.notes:
            say(f"note: {note}")
