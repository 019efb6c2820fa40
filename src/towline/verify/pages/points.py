"""Draw points of unlike size and kind as SVG, with the line of those that nothing beats both ways. Pure."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from towline.verify.pages.lines import COLOURS, WIDTH, Axis, frame, grid, place

# Told apart by shape as well as by colour: on paper, and by those who see few colours.
Mark = Literal["base", "kept", "good", "refused"]
_RIGHT = 150
_LETTER, _LINE = 7.0, 14.0
_MOST_LABEL = 18
# Around what was handed over.
_RING = 4

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Point:
    """A point of a plot; `size` is its area against that of the others, `name` what it says when pointed at, `label` what stands by it."""

    name: str
    label: str
    x: float
    y: float
    size: float
    mark: Mark


def points(title: str, shown: Sequence[Point], across: Axis, up: Axis, legend: Sequence[tuple[Mark, str]]) -> str:
    """All points, the great ones behind; a line joins the frontier. `legend` says what the marks mean."""
    if not shown:
        return ""
    most = max(one.size for one in shown) or 1.0
    parts = grid(across, up)
    joined = " ".join("{:.1f},{:.1f}".format(*place(across, up, one.x, one.y)) for one in frontier(shown))
    parts.append(f'<polyline points="{joined}" fill="none" stroke="{COLOURS[0]}" stroke-width="1.5" stroke-dasharray="6 3"/>')
    placed = [(one, *place(across, up, one.x, one.y), _radius(one.size, most)) for one in sorted(shown, key=lambda one: -one.size)]
    for one, x, y, radius in placed:
        parts.append(f"<g>{_drawn(one.mark, x, y, radius)}<title>{html.escape(one.name)}</title></g>")
    # Those on the frontier, and the others that matter, find room for their labels first.
    first = sorted(placed, key=lambda one: (one[0].mark == "refused", one[0].mark == "good", one[1]))
    parts += labels([(one.label, x, y, radius + (_RING if one.mark == "kept" else 0)) for one, x, y, radius in first])
    return frame(title, [*parts, *_legend(legend)])


def frontier(shown: Sequence[Point]) -> list[Point]:
    """The points not refused that none of them beats both ways, further right and lower, from left to right. Pure."""
    best: list[Point] = []
    for one in sorted((one for one in shown if one.mark != "refused"), key=lambda point: (-point.x, point.y)):
        if not best or one.y < best[-1].y:
            best.append(one)
    return best[::-1]


def labels(wanted: Sequence[tuple[str, float, float, float]]) -> list[str]:
    """Words beside (x, y, radius): right, left, above or below, best where no mark is; none where each would lie on another word."""
    marks: list[Box] = [(x - radius, y - radius, 2 * radius, 2 * radius) for _, x, y, radius in wanted]
    taken: list[Box] = []
    parts = []
    for word, x, y, radius in wanted:
        said = word if len(word) <= _MOST_LABEL else f"{word[: _MOST_LABEL - 1]}…"
        wide = _LETTER * len(said)
        boxes: list[Box] = [
            (x + radius + 3, y - _LINE / 2, wide, _LINE),
            (x - radius - 3 - wide, y - _LINE / 2, wide, _LINE),
            (x - wide / 2, y - radius - 2 - _LINE, wide, _LINE),
            (x - wide / 2, y + radius + 2, wide, _LINE),
        ]
        free = [box for box in boxes if not any(_meet(box, other) for other in taken)]
        clear = [box for box in free if not any(_meet(box, mark) for mark in marks)]
        if said and free:
            box = (clear or free)[0]
            taken.append(box)
            parts.append(f'<text x="{box[0]:.1f}" y="{box[1] + _LINE - 3:.1f}">{html.escape(said)}</text>')
    return parts


def _meet(one: Box, other: Box) -> bool:
    return one[0] < other[0] + other[2] and other[0] < one[0] + one[2] and one[1] < other[1] + other[3] and other[1] < one[1] + one[3]


def _radius(size: float, most: float) -> float:
    return max(5.0, 16.0 * math.sqrt(max(size, 0.0) / most))


def _drawn(mark: Mark, x: float, y: float, radius: float) -> str:
    if mark == "base":
        return (
            f'<rect class="ink" x="{x - radius:.1f}" y="{y - radius:.1f}" width="{2 * radius:.1f}" height="{2 * radius:.1f}" fill="none"/>'
        )
    at = f'cx="{x:.1f}" cy="{y:.1f}"'
    if mark == "refused":
        arm = radius * 0.7
        cross = f"M{x - arm:.1f} {y - arm:.1f}L{x + arm:.1f} {y + arm:.1f}M{x - arm:.1f} {y + arm:.1f}L{x + arm:.1f} {y - arm:.1f}"
        stroke = f'fill="none" stroke="{COLOURS[1]}" stroke-width="1.5"'
        return f'<circle {at} r="{radius:.1f}" {stroke}/><path d="{cross}" {stroke}/>'
    filled = f'<circle {at} r="{radius:.1f}" fill="{COLOURS[0]}" fill-opacity="0.6"/>'
    ring = f'<circle class="ink" {at} r="{radius + _RING:.1f}" fill="none"/>'
    return filled + ring if mark == "kept" else filled


def _legend(legend: Sequence[tuple[Mark, str]]) -> list[str]:
    left = WIDTH - _RIGHT + 18
    parts = []
    for number, (mark, said) in enumerate(legend):
        y = 26 + 26 * number
        parts.append(f'<g>{_drawn(mark, left, y, 5)}</g><text x="{left + 16}" y="{y + 4}">{html.escape(said)}</text>')
    return parts
