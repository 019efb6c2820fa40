"""What a search tried, on its page: the table, the plots of what was gained and lost, and how training went. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from towline.verify.metrics.named import NAMED, Metric
from towline.verify.pages.document import figure, heading, notes, section, table, text
from towline.verify.pages.lines import Axis, Line, chart, linear, spanning
from towline.verify.pages.points import Mark, Point, points
from towline.verify.pages.words import Say

_MOST_CURVES = 12
USUAL = NAMED["accuracy"]
_LEGEND: tuple[tuple[Mark, str], ...] = (
    ("base", "where it began"),
    ("kept", "handed over"),
    ("good", "right enough"),
    ("refused", "refused"),
)


@dataclass(frozen=True)
class Trial:
    """What was tried. `speedup` and `size_ratio` are against the version it came from, 0 where it never ran; `drop` is in the unit of
    what judged, `agreement` a share, `because` is why it was refused. `floats` is how many operators stayed in float, None where none were
    quantised; of one `family` are those that differ in nothing else."""

    name: str
    settings: str
    fits: bool
    speedup: float
    size_ratio: float
    drop: float
    because: str
    is_kept: bool = False
    agreement: float | None = None
    floats: int | None = None
    family: str = ""
    notes: Sequence[str] = ()
    curves: Mapping[str, Sequence[float]] = field(default_factory=dict)

    @property
    def ran(self) -> bool:
        return self.speedup > 0 and math.isfinite(self.drop)

    @property
    def mark(self) -> Mark:
        return "kept" if self.is_kept else "good" if self.fits and not self.because else "refused"

    @property
    def called(self) -> str:
        return f"{self.name} {self.settings}".strip()


def drop_words(metric: Metric, say: Say, share: str, own: str) -> str:
    """How a page calls a drop: of accuracy as ever, of others by name, of what is no share without points."""
    if metric == USUAL:
        return say(share)
    return say(own).format(figure=metric.name) + (say(", pt") if metric.is_share else "")


def tried_table(tried: Sequence[Trial], say: Say, metric: Metric = USUAL) -> str:
    """In the order of trying, by the numbers that the plots have; below it what passes noted."""
    told = {"kept": say("handed over"), "good": say("fits")}
    rows = [
        (
            str(number),
            one.name,
            one.settings,
            _times(one.speedup),
            _times(one.size_ratio),
            _dropped(one.drop, metric) if one.ran else "–",
            _percent(one.agreement),
            say(one.because) or told[one.mark],
        )
        for number, one in enumerate(tried, 1)
    ]
    drop = drop_words(metric, say, "Drop, pt", "Drop of {figure}")
    heads = [*map(say, ("No.", "Pass", "Settings", "Speed", "Size")), drop, *map(say, ("Agreement", "Verdict"))]
    name = say("What was tried")
    noted = [f"{number}: {say(note)}" for number, one in enumerate(tried, 1) for note in one.notes]
    marks = ["kept" if one.is_kept else "" for one in tried]
    return section(name, table(heads, rows, name=name, marked=marks, kind="tried"), notes(noted)) if rows else ""


def pareto(base: str, tried: Sequence[Trial], say: Say, max_drop: float | None = None, metric: Metric = USUAL) -> str:
    """What ran, beside the version it all came from."""
    ran = [(number, one) for number, one in enumerate(tried, 1) if one.ran]
    if not ran:
        return ""
    unit = 100.0 if metric.is_share else 1.0
    shown = [Point(f"{number}: {one.called}", str(number), one.speedup, unit * one.drop, one.size_ratio, one.mark) for number, one in ran]
    shown.append(Point(base, base, 1.0, 0.0, 1.0, "base"))
    across = linear(say("times as fast, in batches"), [one.x for one in shown])
    up = spanning(drop_words(metric, say, "drop, pt", "drop of {figure}"), [one.y for one in shown])
    title = say("Drop against speed")
    told = say("Area: size on disk. The numbers are those of the table; a line joins what nothing beats both ways: faster, and lost less.")
    most = "At most {share} pt may be lost." if metric.is_share else "At most {share} may be lost."
    limit = "" if max_drop is None else say(most).format(share=f"{unit * max_drop:.3g}")
    drawn = points(title, shown, across, up, [(mark, say(said)) for mark, said in _LEGEND])
    return section(title, f"<p>{text(f'{told} {limit}'.strip())}</p>", figure(drawn))


def int8_frontier(tried: Sequence[Trial], say: Say) -> str:
    """What operators in float cost and save: agreement against speed, of settings that differ in nothing else."""
    families: dict[str, list[tuple[int, Trial]]] = {}
    for number, one in enumerate(tried, 1):
        if one.ran and one.floats is not None and one.agreement is not None:
            families.setdefault(one.family, []).append((number, one))
    lines = [_frontier_line(sorted(of, key=lambda one: one[1].floats or 0), say) for of in families.values() if len(of) > 1]
    if not lines:
        return ""
    title = say("Operators in float: agreement against speed")
    told = say("The number at a point is how many of the guiltiest operators stay in float.")
    across = spanning(say("times as fast, in batches"), [x for line in lines for x, _ in line.points])
    up = spanning(say("agreement, %"), [y for line in lines for _, y in line.points], most=100.0)
    return section(title, f"<p>{text(told)}</p>", figure(chart(title, lines, across, up)))


def training(tried: Sequence[Trial], say: Say) -> str:
    """A chart of losses, and one of shares, per pass that trained: what was handed over first."""
    trained = sorted((one for one in enumerate(tried, 1) if any(one[1].curves.values())), key=lambda one: not one[1].is_kept)
    parts = []
    for number, one in trained[:_MOST_CURVES]:
        parts.append(heading(f"{number}: {one.called}"))
        parts += [figure(_curves(f"{number}: {say(title)}", of, say)) for title, of in _alike(one.curves).items()]
    return section(say("How training went"), *parts)


def _alike(curves: Mapping[str, Sequence[float]]) -> dict[str, dict[str, Sequence[float]]]:
    """What may share a chart: losses, shares, and each other metric by itself."""
    charts: dict[str, dict[str, Sequence[float]]] = {"loss": {}, "share": {}}
    for name, curve in curves.items():
        which = name.rpartition(" ")[2]
        is_share = which == "agreement" or (which in NAMED and NAMED[which].is_share)
        charts.setdefault("share" if is_share else name if name.startswith("validation ") else "loss", {})[name] = curve
    return charts


def _curves(title: str, curves: Mapping[str, Sequence[float]], say: Say) -> str:
    """By epoch; an epoch that was not finite is left out, which shows as a straight line."""
    lines = [
        Line(say(name), [(place, value) for place, value in enumerate(curve, 1) if math.isfinite(value)]) for name, curve in curves.items()
    ]
    values = [value for line in lines for _, value in line.points]
    if not values:
        return ""
    epochs = max(len(curve) for curve in curves.values())
    return chart(title, lines, epoch_axis(say("epoch"), epochs), spanning(title.partition(": ")[2], values))


def epoch_axis(title: str, epochs: int) -> Axis:
    """From 1 to the last, with at most some ten whole ticks."""
    step = math.ceil(epochs / 10)
    return Axis(title, 1, max(2, epochs), tuple(range(1, epochs + 1, step)), words="{:.0f}".format)


def _frontier_line(of: Sequence[tuple[int, Trial]], say: Say) -> Line:
    at = [(one.speedup, 100 * (one.agreement or 0.0)) for _, one in of]
    dots = [f"{number}: {one.called}, {one.speedup:.2f}×, {_percent(one.agreement)}" for number, one in of]
    name = f"{say('No.')} {', '.join(str(number) for number, _ in of)}"
    return Line(name, at, dots, [str(one.floats) for _, one in of])


def _dropped(drop: float, metric: Metric) -> str:
    """Without a minus before nothing."""
    return f"{round(100 * drop, 2) + 0.0:+.2f}" if metric.is_share else f"{drop + 0.0:+.4g}"


def _percent(share: float | None) -> str:
    return "–" if share is None or not math.isfinite(share) else f"{100 * share:.2f} %"


def _times(ratio: float) -> str:
    return f"{ratio:.2f}×" if ratio else "–"
