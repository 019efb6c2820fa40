"""What tests and comparisons found, as lines for people. Pure, but for the bar."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from towline.cli.output import table

if TYPE_CHECKING:
    from towline.app.judging.comparison import Comparison
    from towline.app.judging.judge import Tested
    from towline.verify.gates import Verdict

_SHARES = ("accuracy", "top3", "top5", "precision", "recall", "f1", "worst_recall")
_MOST_CLASSES, _MOST_LOST = 5, 3


@contextmanager
def bar(label: str) -> Iterator[Callable[[int, int], None] | None]:
    """A progress bar on a terminal, nothing elsewhere. Yields what is told how many of how many are done."""
    if not sys.stderr.isatty():
        yield None
        return
    with click.progressbar(length=1, label=label, file=sys.stderr) as shown:

        def progress(done: int, total: int) -> None:
            shown.length = total
            shown.update(done - shown.pos)

        yield progress


def tested_lines(tested: Tested) -> list[str]:
    figures = tested.figures
    lines = [f"{tested.version} on {tested.rows:,} rows"]
    lines += [f"  {name:<15} {_share(figures[name])}" for name in _SHARES if name in figures]
    lines += [f"  {name:<15} {figures[name]:.6g}" for name in figures if name not in _told_apart(tested)]
    if tested.pace is not None:
        paced = tested.pace
        lines.append(f"  one row         p50 {paced.p50_ms:.3g} ms, p90 {paced.p90_ms:.3g} ms, p99 {paced.p99_ms:.3g} ms")
        lines.append(f"  throughput      {paced.rows_per_s:,.0f} rows/s")
    lines.append(f"  memory          {figures['memory_mb']:.1f} MB at most, {figures['size_mb']:.1f} MB on disk")
    lines.append(f"  repeatable      {'yes' if figures['repeats'] else 'no: equal inputs gave different answers'}")
    if figures["not_finite_rows"]:
        lines.append(f"  NaN, infinity   in {figures['not_finite_rows']:,.0f} rows")
    if tested.robustness:
        by = "" if tested.metric is None or tested.metric.name == "accuracy" else f"by {tested.metric.name}: "
        lines.append(f"  robustness      {by}" + ", ".join(f"{name} {value:.4g}" for name, value in tested.robustness.items()))
    return [*lines, *_worst_classes(tested), *(f"  note: {note}" for note in tested.notes)]


def _told_apart(tested: Tested) -> set[str]:
    """Figures that have a line of another kind."""
    paced = tested.pace.figures() if tested.pace is not None else ()
    disturbed = {f"{tested.metric.name}_{name}" for name in tested.robustness} if tested.metric is not None else set[str]()
    return {*_SHARES, "repeats", "memory_mb", "size_mb", "not_finite_rows", *paced, *disturbed}


def verdict_lines(found: Sequence[Verdict]) -> list[str]:
    return [f"  {'pass' if one.passed else 'FAIL'}  {one.words()}" for one in found]


def compared_lines(found: Comparison) -> list[str]:
    rows = [
        (
            name,
            f"{one.first:.5g}",
            f"{one.second:.5g}",
            f"{one.difference:+.3g}",
            f"{one.low:+.3g} … {one.high:+.3g}" if one.is_paired else "",
        )
        for name, one in found.figures.items()
    ]
    headers = ("figure", str(found.first), str(found.second), "difference", "95 %")
    lines = table(headers, rows, right=headers[1:4]).splitlines()
    lines.append("")
    if found.agreement is not None:
        lines.append(f"first class agrees in {_share(found.agreement)} of {found.rows:,} rows")
    if found.mcnemar is not None:
        lines.append(
            f"only the first is right in {found.mcnemar.only_first:,} rows, only the second in {found.mcnemar.only_second:,} "
            f"(McNemar p = {found.mcnemar.p:.3g})"
        )
    if found.speedup is not None:
        lines.append(f"the second is {found.speedup:.2f}x as fast for one row, {found.throughput_ratio:.2f}x in batches")
    lines += _lost_classes(found)
    lines += [f"  {name}: {told}" for name, told in found.worst]
    lines += [f"  moves the most: {one.words()}" for one in found.guilty]
    return [*lines, *verdict_lines(found.verdicts), found.verdict]


def _lost_classes(found: Comparison) -> list[str]:
    """Those that lost the most, as surely as their rows can tell."""
    lines = []
    for one in [one for one in found.classes if one.difference < 0][:_MOST_LOST]:
        label = found.labels[one.place] if one.place < len(found.labels) else str(one.place)
        sure = f"95 % {100 * one.low:+.2f} … {100 * one.high:+.2f} pt"
        lines.append(
            f"  class {label}: recall {_share(one.recall[0])} became {_share(one.recall[1])} of {one.support:,} rows "
            f"({one.lost:,} lost, {one.won:,} won, {sure}), F1 {one.f1[0]:.4g} became {one.f1[1]:.4g}"
        )
    return lines


def _worst_classes(tested: Tested) -> list[str]:
    """The classes with the least recall, where not all are right."""
    from towline.app.judging.judge import classes_json

    classes = [one for one in classes_json(tested.found, tested.labels) if one["support"] and one["recall"] != 1.0]
    classes.sort(key=lambda one: one["recall"] or 0.0)  # type: ignore[arg-type, return-value]
    shown = [f"{one['label']} {_share(float(one['recall'] or 0.0))}" for one in classes[:_MOST_CLASSES]]  # type: ignore[arg-type]
    return [f"  least recall    {', '.join(shown)}"] if shown else []


def _share(value: float) -> str:
    return f"{100 * value:.2f} %"
