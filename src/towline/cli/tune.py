"""`towline tune`: find how a version runs best on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from towline.cli.output import emit, emit_json, printable, say, say_next, say_step, table
from towline.cli.params import RefParam, TimeParam, home_option, json_option
from towline.core.refs import Ref

if TYPE_CHECKING:
    from towline.app.tuning.tune import Reading, Tuned


class ClientsParam(click.ParamType):  # type: ignore[type-arg]  # generic only since click 8.3
    """`8` or `1,8,32`."""

    name = "clients"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        words = str(value).split(",")
        if not all(word.isascii() and word.isdigit() and 1 <= int(word[:6]) <= 4096 for word in words) or len(words) > 8:
            self.fail(f"'{str(value)[:32]}' is not written like 8 or 1,8,32: up to eight numbers from 1 to 4096.", param, ctx)
        return tuple(map(int, words))


@click.command("tune")
@click.argument("ref", type=RefParam())
@click.option("--data", metavar="PATH", help="Rows to ask for. Default: the version's own golden requests.")
@click.option(
    "--for",
    "objective",
    type=click.Choice(["throughput", "latency"]),
    default="throughput",
    show_default=True,
    help="The most rows a second, or the shortest answer to a client that asks alone.",
)
@click.option("--max-p99", "max_p99_ms", type=click.FloatRange(0, min_open=True), metavar="MS", help="What 99 of 100 requests may take.")
@click.option("--clients", type=ClientsParam(), default="1,8,32", show_default=True, help="How many ask at a time; one alone always does.")
@click.option("--engine", "engines", multiple=True, metavar="NAME", help="Try openvino or litert as well. May be repeated.")
@click.option("--publish", is_flag=True, help="If openvino is best: publish the version as a new one that it runs.")
@click.option("--budget", "budget_s", type=TimeParam(), default="60s", show_default=True, help="When to stop.")
@home_option
@json_option
def command(
    ref: Ref,
    data: str | None,
    objective: str,
    max_p99_ms: float | None,
    clients: tuple[int, ...],
    engines: tuple[str, ...],
    publish: bool,
    budget_s: float,
    home: str | None,
    as_json: bool,
) -> None:
    """Find how the version REF runs best on this machine: threads of a run, runs and workers at a time, rows that share a run.

    Each way is measured through the data plane that answers in service, the best of them side by side. What is surely better than
    the server's own way is recorded, and `towline serve` runs the version by it on machines of this kind.
    """
    from towline.app.tuning.tune import Aim, tune

    aim = Aim("latency" if objective == "latency" else "throughput", max_p99_ms, clients, budget_s, engines)
    found = tune(ref, data=data, aim=aim, publish=publish, home=home, say=say_step)
    if as_json:
        content = {"name": found.version.name, "version": found.version.number, "digest": found.version.digest}
        emit_json("towline.tune/1", {**content, **found.as_json()})
        return
    emit(table(("setting", "clients", "rows/s", "p50 ms", "p99 ms", "CPU us", "MiB", "turns"), map(_row, found.readings), right=_NUMBERS))
    for setting, because in found.refused:
        say_step(f"{setting.words()}: {because}")
    if found.is_disturbed:
        said = f"{found.others_cores:.1f} of {found.machine['cores']} cores"
        say_step(f"Others used {said} meanwhile: this says how to share the machine. Tune again when it is quiet.")
    if found.stopped:
        say_step(found.stopped)
    for name, one in (("throughput", found.throughput), ("latency", found.latency)):
        emit(f"{name:<11} {one.setting.words()}  ({printable(one.because)})")
    _say_use(found)


_HOW_TO_MOVE = {
    "openvino": "The same with --publish makes a version of it.",
    "litert": "First: towline export {} --to tflite --out FILE.tflite, then: towline import FILE.tflite",
}
_NUMBERS = ("clients", "rows/s", "p50 ms", "p99 ms", "CPU us", "MiB", "turns")


def _row(one: Reading) -> tuple[str, ...]:
    figures = (f"{one.rows_per_s:,.0f}", f"{one.p50_ms:.3g}", f"{one.p99_ms:.3g}", f"{one.cpu_us:,.1f}")
    return (one.setting.words(), str(one.clients), *figures, f"{one.memory_bytes / (1 << 20):,.0f}", str(len(one.turns_rows_per_s)))


def _say_use(found: Tuned) -> None:
    version, engine = found.version, found.chosen.setting.engine
    if found.published is not None:
        emit(f"{found.published} is {version} under {engine}, and runs with {found.chosen.setting.words()}.")
        say_next(
            f"towline show {found.published}", f"towline serve {found.published}", f"towline compare {version} {found.published} --data D"
        )
        return
    if not found.use:
        if engine:
            say_step(f"Under {engine} it is better. {_HOW_TO_MOVE[engine].format(version)}")
        emit(f"{version} goes on as the server decides.")
        say_next(f"towline events {version.name}")
        return
    emit(f"{version} runs with {found.chosen.setting.words()} on machines of this kind, from its next load on.")
    say(
        f"  the same for all versions, in towline.toml:  {'; '.join(f'{name} = {value}' for name, value in found.as_json()['use'].items())}"
    )
    say_next(f"towline events {version.name}", f"towline serve {version}", f"towline bench {version}")
