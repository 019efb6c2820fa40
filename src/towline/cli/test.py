"""`towline test`: measure a version on data, and judge it by gates."""

from __future__ import annotations

import shlex

import click

from towline.cli import exits
from towline.cli.judged_words import bar, tested_lines, verdict_lines
from towline.cli.output import emit, emit_json, printable, say_next, say_step
from towline.cli.pages import page_options, page_place, write_page
from towline.cli.params import RefParam, answer_option, home_option, json_option, label_option, limit_option, metric_option
from towline.core.refs import Ref


@click.command("test")
@click.argument("ref", type=RefParam())
@click.option("--data", required=True, metavar="PATH", help="Rows with labels: .npz, .csv, .parquet, .jsonl, or a folder of pictures.")
@click.option("--gates", metavar="FILE", help='TOML with bounds: [gates] accuracy = ">= 0.97". A figure beyond its bound: exit code 3.')
@label_option
@answer_option
@metric_option
@limit_option
@click.option("--speed/--no-speed", default=True, help="Time it as well.")
@click.option("--robustness/--no-robustness", default=True, help="Try noise, blur, brightness and JPEG as well.")
@click.option(
    "--adversarial",
    type=click.FloatRange(0, 1),
    default=0.0,
    metavar="SHARE",
    help="Also move rows by the model's gradients (FGSM, PGD), at most this share of their range. Needs: towline env create torch.",
)
@page_options
@home_option
@json_option
def command(
    ref: Ref,
    data: str,
    gates: str | None,
    label: str,
    output: str,
    metric: str,
    limit: int | None,
    speed: bool,
    robustness: bool,
    adversarial: float,
    html: str | None,
    language: str,
    home: str | None,
    as_json: bool,
) -> None:
    """Measure the version REF on labelled data, record it as evidence, and judge it by gates.

    Figures of a classifier: accuracy, top-k, precision, recall, F1, ROC-AUC, calibration; of a regressor: errors and R². Of either:
    latency, throughput, memory, repeatability, and what noise, blur, light and compression do to it.
    """
    place = page_place(html)
    from towline.app.judging.judge import Options, measure_version

    options = Options(label, output, limit or 0, metric, speed=speed, robustness=robustness, adversarial=adversarial)
    with bar("rows") as progress:
        tested = measure_version(ref, data, gates=gates or (), options=options, home=home, say=say_step, progress=progress)
    if place is not None:
        from towline.app.judging.pages import page_of_test

        write_page(place, page_of_test(tested, language))
    if as_json:
        content = {"name": tested.version.name, "version": tested.version.number, "digest": tested.version.digest}
        emit_json("towline.test/1", {**content, **tested.as_json()})
    else:
        for line in [*tested_lines(tested), *verdict_lines(tested.verdicts)]:
            emit(printable(line))
        say_next(f"towline events {tested.version.name}", shlex.join(["towline", "compare", str(tested.version), "OTHER", "--data", data]))
    if not tested.passed:
        raise SystemExit(exits.GATE)
