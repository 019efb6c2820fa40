"""The page of a test: figures, confusion, calibration, classes, latency, robustness, gates. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from towline.verify.gates import Verdict
from towline.verify.metrics.classification import Classified
from towline.verify.metrics.regression import Regressed
from towline.verify.pace import Pace
from towline.verify.pages import judged
from towline.verify.pages.bars import Bar, bars
from towline.verify.pages.document import document, facts, figure, notes, section, text
from towline.verify.pages.lines import Axis, Line, chart
from towline.verify.pages.words import Say, words

_MOST_BARS = 30
_QUARTERS = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class MeasuredPage:
    """What a test found, as plain values: `facts` are (what, value), `yardstick` names the figure that `robustness` is, a share or not."""

    name: str
    facts: Sequence[tuple[str, str]]
    figures: Mapping[str, float]
    found: Classified | Regressed | None
    labels: Sequence[str]
    pace: Pace | None
    robustness: Mapping[str, float]
    yardstick: str
    verdicts: Sequence[Verdict]
    notes: Sequence[str]
    is_share: bool = True


def measured_page(shown: MeasuredPage, language: str = "en") -> str:
    """A whole document; `language` is en or zh. What came from outside is escaped."""
    say = words(language)
    found = shown.found
    body = [
        facts([(say(name), value) for name, value in shown.facts]),
        judged.gates(shown.verdicts, say),
        judged.figures(shown.figures, say),
        *(_classes(found, shown.labels, say) if isinstance(found, Classified) else ()),
        judged.latency([(shown.name, shown.pace)], say) if shown.pace else "",
        _robustness(shown, say),
        section(say("Notes"), notes([say(note) for note in shown.notes])),
    ]
    return document(f"towline {say('test')} {shown.name}", body, style=judged.STYLE, language=language)


def _classes(found: Classified, labels: Sequence[str], say: Say) -> tuple[str, ...]:
    told = "Rows of each class (down), and what was answered (across)."
    return judged.confusion("Confusion", told, found.confusion, labels, say), _calibration(found, say), _recalls(found, labels, say)


def _calibration(found: Classified, say: Say) -> str:
    if not found.calibration:
        return ""
    across, up = (Axis(say(name), 0.0, 1.0, _QUARTERS) for name in ("confidence", "share that is right"))
    dots = [f"{one.rows:,}: {one.confidence:.3f} → {one.right:.3f}" for one in found.calibration]
    lines = [
        Line(say("measured"), [(one.confidence, one.right) for one in found.calibration], dots=dots),
        Line(say("ideal"), [(0.0, 0.0), (1.0, 1.0)]),
    ]
    told = say("Share of right answers by confidence; on the diagonal a confidence is what it says.")
    return section(say("Calibration"), f"<p>{text(told)}</p>", figure(chart(told, lines, across, up)))


def _recalls(found: Classified, labels: Sequence[str], say: Say) -> str:
    """The worst first."""
    known = [(judged.label(labels, place), one.recall) for place, one in enumerate(found.classes) if not math.isnan(one.recall)]
    shown = sorted(known, key=lambda one: one[1])[:_MOST_BARS]
    more = say("The {shown} of {all} classes with the least recall.").format(shown=len(shown), all=len(known))
    title = say("Recall by class")
    drawn = bars(title, [Bar(name, recall) for name, recall in shown], top=1.0, words=lambda share: f"{100 * share:.1f} %")
    return section(title, f"<p>{text(more)}</p>" if len(shown) < len(known) else "", figure(drawn))


def _robustness(shown: MeasuredPage, say: Say) -> str:
    rows = [Bar(say(name), value) for name, value in shown.robustness.items() if math.isfinite(value)]
    title = say("{figure} on the same rows after each change").format(figure=shown.yardstick)
    top = 1.0 if shown.is_share else 0.0
    return section(say("Robustness"), f"<p>{text(title)}</p>", figure(bars(title, rows, top=top))) if rows else ""
