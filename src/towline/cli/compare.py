"""`towline compare`: two versions on the same rows, and whether the second may take over."""

from __future__ import annotations

import click

from towline.cli import exits
from towline.cli.judged_words import bar, compared_lines
from towline.cli.output import emit, emit_json, printable, say, say_next
from towline.cli.pages import page_options, page_place, write_page
from towline.cli.params import RefParam, answer_option, home_option, json_option, label_option, limit_option, metric_option
from towline.core.refs import Ref


@click.command("compare")
@click.argument("first", type=RefParam())
@click.argument("second", type=RefParam())
@click.option("--data", required=True, metavar="PATH", help="Rows, best with labels: .npz, .csv, .parquet, .jsonl, a folder of pictures.")
@click.option("--gates", metavar="FILE", help='TOML with bounds: [gates] drop = "<= 0.5pt". A figure beyond its bound: exit code 3.')
@label_option
@answer_option
@metric_option
@limit_option
@click.option("--speed/--no-speed", default=True, help="Time them as well, turn by turn.")
@page_options
@home_option
@json_option
def command(
    first: Ref,
    second: Ref,
    data: str,
    gates: str | None,
    label: str,
    output: str,
    metric: str,
    limit: int | None,
    speed: bool,
    html: str | None,
    language: str,
    home: str | None,
    as_json: bool,
) -> None:
    """Run the same rows through two versions, and say what differs and how surely.

    Gates know the figures of SECOND and what only two have: drop and drop_sure (of the metric, or gained in error), worst_class_drop,
    agreement, speedup, throughput_ratio, size_ratio. Where SECOND was made of FIRST and answers otherwise, the layers that move the most
    are named, and the command that may help.
    """
    place = page_place(html)
    from towline.app.judging.compare import compare
    from towline.app.judging.judge import Options

    options = Options(label, output, limit or 0, metric, speed=speed)
    with bar("rows") as progress:
        found = compare(
            first,
            second,
            data,
            gates=gates or (),
            options=options,
            home=home,
            say=lambda text: say(f"  {printable(text)}"),
            progress=progress,
        )
    if place is not None:
        from towline.app.judging.pages import page_of_comparison

        write_page(place, page_of_comparison(found, language))
    if as_json:
        emit_json("towline.compare/1", found.as_json())
    else:
        for line in compared_lines(found):
            emit(printable(line))
        say_next(f"towline events {found.second.name}", *([found.remedy] if found.remedy else []))
    if not found.passed:
        raise SystemExit(exits.GATE)
