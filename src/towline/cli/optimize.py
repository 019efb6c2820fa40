"""`towline optimize`: find a version that is smaller or faster on this machine and still right."""

from __future__ import annotations

import math
import re
import shlex
from typing import TYPE_CHECKING

import click

from towline.cli.output import emit, emit_json, printable, say, say_next, table
from towline.cli.pages import page_options, page_place, write_page
from towline.cli.params import RefParam, TimeParam, answer_option, home_option, json_option, label_option, limit_option, metric_option
from towline.core.errors import UsageError
from towline.core.refs import Ref

if TYPE_CHECKING:
    from towline.app.optimizing.optimize import Metric, Optimized, Training, Tried

_SHARE = re.compile(r"([0-9.]+(?:[eE][-+]?[0-9]+)?)\s*(pt|%)?")


def _amount(text: str) -> float:
    """Of what is written `0.5pt`, `0.5%` or `0.005`; NaN for anything else."""
    found = _SHARE.fullmatch(text)
    try:
        return float(found[1]) * (0.01 if found[2] else 1.0) if found else math.nan
    except ValueError:
        return math.nan


class ShareParam(click.ParamType):  # type: ignore[type-arg]  # generic only since click 8.3
    """`0.5pt`, `0.5%` or `0.005`."""

    name = "share"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        share = _amount(str(value))
        if not 0 <= share <= 1:
            self.fail(f"'{str(value)[:32]}' is not written like 0.5pt, 0.5% or 0.005.", param, ctx)
        return share


class DropParam(click.ParamType):  # type: ignore[type-arg]  # generic only since click 8.3
    """A share, or how much of an error, in its own unit: `2.5`."""

    name = "drop"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        drop = _amount(str(value))
        if not 0 <= drop < math.inf:
            self.fail(f"'{str(value)[:32]}' is not written like 0.5pt, 0.5% or 0.005, nor like 2.5 of an error's own unit.", param, ctx)
        return drop


class TrainingParam(click.ParamType):  # type: ignore[type-arg]  # generic only since click 8.3
    """`epochs=3,rate=0.01`: fields of optimize/training/settings.py: Training; those of a list are joined by +."""

    name = "training"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Training:
        from towline.app.optimizing.training_words import training_of

        try:
            return training_of(str(value))
        except UsageError as error:
            self.fail(error.message, param, ctx)


@click.command("optimize")
@click.argument("ref", type=RefParam())
@click.option("--data", required=True, metavar="PATH", help="Rows, best with labels: the first calibrate, the others judge.")
@click.option(
    "--train", default="", metavar="PATH", help="Rows with labels to train on: channels are pruned, students taught, int8 trained for."
)
@click.option("--unlabelled", default="", metavar="PATH", help="Rows without labels, which the teacher answers.")
@click.option("--teacher", default="", metavar="REF|URL", help="Who teaches: a version, or one that is served. Default: REF itself.")
@click.option("--student", default="", metavar="FILE", help="An .onnx file to be taught, beside the students that are derived.")
@click.option(
    "--training", type=TrainingParam(), default="", metavar="KEY=VALUE,…", help="How it is trained: epochs=3,optimizer=adamw,rate=1e-3, …."
)
@click.option("--only", multiple=True, metavar="PASS", help="Try only passes of this name (prune, int8, …). May be repeated.")
@click.option(
    "--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True, metavar="N", help="Equal seeds propose and train the same."
)
@metric_option
@click.option(
    "--max-drop", type=DropParam(), help="How much of the metric may be lost, errors in their own unit. Default: 0.5pt of what is a share."
)
@click.option("--min-agreement", type=ShareParam(), default="0", help="The least share of rows whose first class stays.")
@click.option(
    "--max-p99",
    "max_p99_ms",
    type=click.FloatRange(0),
    default=0.0,
    metavar="MS",
    help="What 99 of 100 rows may take, asked one at a time.",
)
@click.option("--max-size", "max_size_mb", type=click.FloatRange(0), default=0.0, metavar="MB", help="The most bytes on disk.")
@click.option(
    "--budget", "budget_s", type=TimeParam(), default="10m", show_default=True, help="When to stop; what was tried is remembered."
)
@label_option
@answer_option
@limit_option
@page_options
@home_option
@json_option
def command(
    ref: Ref,
    data: str,
    train: str,
    unlabelled: str,
    teacher: str,
    student: str,
    training: Training,
    only: tuple[str, ...],
    seed: int,
    metric: str,
    max_drop: float | None,
    min_agreement: float,
    max_p99_ms: float,
    max_size_mb: float,
    budget_s: float,
    label: str,
    output: str,
    limit: int | None,
    html: str | None,
    language: str,
    home: str | None,
    as_json: bool,
) -> None:
    """Try what may make the version REF smaller or faster on this machine, judge each beside it, and publish the best that is still right.

    What is slower or worse here is never handed over; it is kept in the record, with the reason.
    """
    place = page_place(html)
    from towline.app.judging.judge import Options
    from towline.app.optimizing.optimize import Lessons, Limits, optimize

    found = optimize(
        ref,
        data,
        lessons=Lessons(train, unlabelled, teacher, student),
        only=only,
        limits=Limits(max_drop, min_agreement, max_p99_ms, max_size_mb),
        training=training,
        budget_s=budget_s,
        options=Options(label, output, limit or 0, metric, seed=seed),
        home=home,
        say=lambda text: say(f"  {printable(text)}"),
    )
    if place is not None:
        from towline.app.judging.pages import page_of_search

        write_page(place, page_of_search(found, language))
    if as_json:
        emit_json("towline.optimize/1", found.as_json())
        return
    _print(found, shlex.join(["--data", data, *(["--metric", metric] if metric else [])]))


def _print(found: Optimized, judged: str) -> None:
    """`judged` are the words of a command line that say by what."""
    rows = [_row(one, found.metric) for one in found.tried]
    drop = "drop" if found.metric is None or found.metric.name == "accuracy" else f"drop of {found.metric.name}"
    emit(table(("pass", "settings", "speed", "size", drop, "verdict"), rows, right=("speed", "size", drop)))
    for guilty in sorted(found.guilty, key=lambda one: one.sqnr_db)[:5]:
        lost = f", {guilty.loss.words()}" if guilty.loss is not None else ""
        say(f"  loses most: {printable(guilty.operator)} ({printable(guilty.kind)}), {guilty.sqnr_db:.1f} dB{lost}")
    for note in found.notes:
        say(f"  {printable(note)}")
    if found.stopped:
        say(f"  {found.stopped} The same command goes on where it was.")
    if found.result is None or found.best is None:
        emit(f"{found.version} stays: nothing tried was faster, or smaller and as fast, and still right.")
        say_next("", f"towline events {found.version.name}")
        return
    made = found.result.version
    emit(f"{made} {found.best.speedup:.2f}x as fast, {found.best.size_ratio:.2f}x the size  {made.digest}")
    say_next(f"towline show {made}", f"towline compare {found.version} {made} {judged}", f"towline alias {made} challenger")


def _row(one: Tried, metric: Metric | None) -> tuple[str, ...]:
    return (
        one.tried.name,
        one.tried.settings,
        _times(one.speedup),
        _times(one.size_ratio),
        _drop(one.drop, is_share=metric is None or metric.is_share) if one.speedup else "-",
        one.because or "fits",
    )


def _drop(lost: float, *, is_share: bool) -> str:
    """Without a minus before nothing."""
    return f"{round(100 * lost, 2) + 0.0:+.2f} pt" if is_share else f"{lost + 0.0:+.4g}"


def _times(ratio: float) -> str:
    return f"{ratio:.2f}x" if ratio else "-"
