"""Draw bars and matrices as SVG to stand inside a page: no script, no font, no network. Pure."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from towline.verify.pages.lines import COLOURS, frame

_WIDTH, _ROW, _NAMES, _VALUES = 720, 22, 190, 90
_MAX_NAME = 26
# Above this many classes a cell is too small for its number.
_MAX_NUMBERED = 12
_CELLS, _EDGE, _MARGIN_TOP = 480, 130, 110


@dataclass(frozen=True)
class Bar:
    name: str
    value: float
    is_hollow: bool = False


def bars(title: str, rows: Sequence[Bar], *, top: float = 0.0, words: Callable[[float], str] = "{:.4g}".format) -> str:
    """One below the other; `top` is the value that fills the width (0: the greatest). Below 0 counts as 0."""
    if not rows:
        return ""
    most = top or max(one.value for one in rows) or 1.0
    room = _WIDTH - _NAMES - _VALUES
    parts = []
    for number, one in enumerate(rows):
        name, value, y = one.name, one.value, number * _ROW
        wide = room * min(1.0, max(0.0, value / most))
        parts.append(f'<text x="{_NAMES - 8}" y="{y + 15}" text-anchor="end">{html.escape(_short(name))}</text>')
        drawn = f'fill="none" stroke="{COLOURS[0]}" stroke-width="2"' if one.is_hollow else f'fill="{COLOURS[0]}"'
        bar = f'<rect x="{_NAMES}" y="{y + 3}" width="{wide:.1f}" height="{_ROW - 6}" {drawn}>'
        parts.append(f"{bar}<title>{html.escape(name)}: {html.escape(words(value))}</title></rect>")
        parts.append(f'<text x="{_NAMES + wide + 6:.1f}" y="{y + 15}">{html.escape(words(value))}</text>')
    return frame(title, parts, width=_WIDTH, height=len(rows) * _ROW + 4)


@dataclass(frozen=True)
class Span:
    """A value, and the interval that holds it."""

    name: str
    value: float
    low: float
    high: float


def spans(title: str, rows: Sequence[Span], *, words: Callable[[float], str] = "{:+.3g}".format) -> str:
    """One below the other: a dot on its interval, beside a line at 0. One that keeps clear of 0 is filled."""
    if not rows:
        return ""
    low, high = min(0.0, *(one.low for one in rows)), max(0.0, *(one.high for one in rows))
    room = _WIDTH - _NAMES - _VALUES

    def at(value: float) -> float:
        return _NAMES + room * ((value - low) / (high - low) if high > low else 0.5)

    parts = [f'<path class="grid" d="M{at(0):.1f} 0V{len(rows) * _ROW}"/>']
    for number, one in enumerate(rows):
        y = number * _ROW + _ROW / 2
        colour = COLOURS[1] if one.value < 0 else COLOURS[0]
        fill = colour if one.low > 0 or one.high < 0 else "none"
        parts.append(f'<text x="{_NAMES - 8}" y="{y + 4}" text-anchor="end">{html.escape(_short(one.name))}</text>')
        parts.append(f'<path d="M{at(one.low):.1f} {y}H{at(one.high):.1f}" stroke="{colour}" stroke-width="2"/>')
        told = html.escape(f"{one.name}: {words(one.value)} ({words(one.low)} … {words(one.high)})")
        dot = f'<circle cx="{at(one.value):.1f}" cy="{y}" r="5" fill="{fill}" stroke="{colour}" stroke-width="2">'
        parts.append(f"{dot}<title>{told}</title></circle>")
        parts.append(f'<text x="{_WIDTH - _VALUES + 12}" y="{y + 4}">{html.escape(words(one.value))}</text>')
    return frame(title, parts, width=_WIDTH, height=len(rows) * _ROW + 4)


def matrix(title: str, names: Sequence[str], cells: Sequence[Sequence[float]], *, down: str, across: str) -> str:
    """Square cells, `cells[row][column]`: the more, the darker; below 0 in another colour."""
    if not names:
        return ""
    side = _CELLS / len(names)
    most = max((abs(value) for row in cells for value in row), default=0.0) or 1.0
    parts = [
        f'<text x="{_EDGE + _CELLS / 2}" y="14" text-anchor="middle">{html.escape(across)}</text>',
        f'<text x="14" y="{_MARGIN_TOP + _CELLS / 2}" transform="rotate(-90 14 {_MARGIN_TOP + _CELLS / 2})" text-anchor="middle">'
        f"{html.escape(down)}</text>",
    ]
    for row, name in enumerate(names):
        middle = (row + 0.5) * side
        said = html.escape(_short(name, 14))
        parts.append(f'<text x="{_EDGE - 6}" y="{_MARGIN_TOP + middle + 4:.1f}" text-anchor="end">{said}</text>')
        at = f'x="{_EDGE + middle:.1f}" y="{_MARGIN_TOP - 6}"'
        parts.append(f'<text {at} transform="rotate(-60 {_EDGE + middle:.1f} {_MARGIN_TOP - 6})">{said}</text>')
        for column, other in enumerate(names):
            value = cells[row][column]
            x, y = _EDGE + column * side, _MARGIN_TOP + row * side
            # Pale enough for a number in the page's ink to be read on it.
            shade = f'fill="{COLOURS[0] if value >= 0 else COLOURS[1]}" fill-opacity="{0.6 * abs(value) / most:.3f}"'
            told = html.escape(f"{name} → {other}: {value:g}")
            parts.append(
                f'<rect class="grid" x="{x:.1f}" y="{y:.1f}" width="{side:.1f}" height="{side:.1f}" {shade}><title>{told}</title></rect>'
            )
            if len(names) <= _MAX_NUMBERED and value:
                parts.append(f'<text x="{x + side / 2:.1f}" y="{y + side / 2 + 4:.1f}" text-anchor="middle">{value:g}</text>')
    return frame(title, parts, width=_EDGE + _CELLS + 20, height=_MARGIN_TOP + _CELLS + 10)


def _short(name: str, most: int = _MAX_NAME) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"
