"""What both judges show on a page: gates, figures, confusion, latency. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from towline.verify.gates import Verdict
from towline.verify.pace import Pace
from towline.verify.pages.bars import matrix
from towline.verify.pages.document import figure, section, table, text
from towline.verify.pages.lines import Axis, Line, chart, logarithmic
from towline.verify.pages.words import Say

MOST_CLASSES = 20
STYLE = """
th:first-child, td:first-child { text-align: left } tr.fail td { font-weight: 600 }
td img { display: block; min-width: 48px; max-width: 96px; image-rendering: pixelated }
.verdict { font-size: 1.1rem; font-weight: 600; overflow-wrap: anywhere } .squares { max-width: 40rem }
"""


def gates(found: Sequence[Verdict], say: Say) -> str:
    rows = [
        (
            one.gate.figure,
            say("not measured") if one.value is None else number(one.value),
            f"{one.gate.compare} {one.gate.limit:g}",
            say("pass") if one.passed else say("FAIL"),
        )
        for one in found
    ]
    heads = [say(head) for head in ("Figure", "Value", "Wanted", "Verdict")]
    marks = ["" if one.passed else "fail" for one in found]
    return section(say("Gates"), table(heads, rows, name=say("Gates"), marked=marks)) if rows else ""


def confusion(heading: str, told: str, counts: np.ndarray, labels: Sequence[str], say: Say) -> str:
    """A matrix of rows by class, or of their difference; of many classes those that are confused most."""
    chosen = most_confused(counts)
    names = [label(labels, int(place)) for place in chosen]
    cells = counts[np.ix_(chosen, chosen)].tolist()
    more = say("The {shown} of {all} classes that are confused most, by rows of the data.").format(shown=len(chosen), all=len(counts))
    words = f"{say(told)} {more if len(chosen) < len(counts) else ''}"
    drawn = matrix(say(heading), names, cells, down=say("true class"), across=say("answered class"))
    return section(say(heading), f"<p>{text(words)}</p>", f'<figure class="squares">{drawn}</figure>')


def most_confused(counts: np.ndarray, most: int = MOST_CLASSES) -> np.ndarray:
    """The numbers of the classes with the most off the diagonal, in their own order. Pure."""
    off = np.abs(counts - np.diag(np.diag(counts)))
    wrong = off.sum(axis=0) + off.sum(axis=1)
    return np.sort(np.argsort(-wrong, kind="stable")[:most])


def latency(paces: Sequence[tuple[str, Pace]], say: Say) -> str:
    """How the times of single rows are spread, each version a line."""
    told = [(name, one) for name, one in paces if one.cdf]
    if not told:
        return ""
    title = say("Share of single rows answered within a time")
    across = logarithmic(say("latency, ms"), [ms for _, one in told for ms, _ in one.cdf])
    up = Axis(say("share of requests no slower"), 0.0, 1.0, (0.0, 0.25, 0.5, 0.75, 0.9, 1.0), words=lambda share: f"{100 * share:g} %")
    drawn = chart(title, [Line(name, one.cdf) for name, one in told], across, up)
    return section(say("Latency"), figure(drawn))


def figures(found: Mapping[str, float], say: Say) -> str:
    rows = [(name, number(value)) for name, value in found.items()]
    return section(say("Figures"), table((say("Figure"), say("Value")), rows, name=say("Figures")))


def number(value: float) -> str:
    return "–" if not math.isfinite(value) else f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.5g}"


def label(labels: Sequence[str], place: int) -> str:
    return labels[place] if place < len(labels) else str(place)
