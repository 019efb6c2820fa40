"""Draw line charts as SVG to stand inside a page, and the frame of all charts: no script, no font, no network. Pure."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 720, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 80, 150, 16, 44
# Told apart on paper and by the colour-blind (Okabe and Ito's palette).
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a5195", "#808080")
_MOST_BESIDE, _MOST_BELOW = 14, 80
_DASHES = ("", "6 3", "2 2", "8 3 2 3")


@dataclass(frozen=True)
class Line:
    """Points in order, and what they are called. `dots` draws each point, and is what it says when pointed at; `marks` stand beside."""

    name: str
    points: Sequence[tuple[float, float]]
    dots: Sequence[str] = ()
    marks: Sequence[str] = ()


@dataclass(frozen=True)
class Axis:
    """`ticks` in the axis's own unit; logarithmic ones take only what is above 0. `words` writes a tick."""

    title: str
    low: float
    high: float
    ticks: tuple[float, ...]
    is_log: bool = False
    words: Callable[[float], str] = "{:g}".format

    def place(self, value: float) -> float:
        """0 at the low end, 1 at the high one; what lies outside is drawn at the edge."""
        low, high, at = (
            (math.log10(part) for part in (self.low, self.high, max(value, self.low))) if self.is_log else (self.low, self.high, value)
        )
        return min(1.0, max(0.0, (at - low) / (high - low))) if high > low else 0.5


def linear(title: str, values: Sequence[float]) -> Axis:
    """From 0 to a round number above all values."""
    top = max(values, default=0.0) or 1.0
    step = _round_up(top / 5)
    count = math.ceil(top / step - 1e-9)
    return Axis(title, 0.0, step * count, tuple(step * number for number in range(count + 1)), words=_grouped)


def logarithmic(title: str, values: Sequence[float]) -> Axis:
    """Whole decades, with 1, 2 and 5 of each where there are few."""
    positive = [value for value in values if value > 0] or [1.0]
    first, last = math.floor(math.log10(min(positive))), math.ceil(math.log10(max(positive)))
    last = max(last, first + 1)
    parts = (1, 2, 5) if last - first <= 3 else (1,)
    ticks = [part * 10.0**power for power in range(first, last) for part in parts]
    return Axis(title, 10.0**first, 10.0**last, (*ticks, 10.0**last), is_log=True)


def spanning(title: str, values: Sequence[float], *, most: float = math.inf) -> Axis:
    """From a round number below the least value to one above the greatest, or `most`, with a handful of round ticks."""
    low, high = min(values), max(values)
    room = (high - low) * 0.05 or abs(high) * 0.1 or 0.1
    step = _round_up((high - low + 2 * room) / 5)
    first, last = math.floor((low - room) / step), math.ceil((high + room) / step)
    ticks = [step * number for number in range(first, last + 1) if step * number <= most * (1 + 1e-9)]
    return Axis(title, ticks[0], ticks[-1], tuple(ticks), words="{:.6g}".format)


def chart(title: str, lines: Sequence[Line], across: Axis, up: Axis) -> str:
    """One `<svg>`. Its title and every name are escaped."""
    parts = grid(across, up)
    # Names that have no room beside the plot stand below it.
    below = any(len(line.name) > _MOST_BESIDE for line in lines)
    for number, line in enumerate(lines):
        left, y = (_LEFT, HEIGHT + 6 + 17 * number) if below else (WIDTH - _RIGHT + 14, _TOP + 10 + 17 * number)
        parts += [*_drawn(line, number, across, up), *_named(line.name, number, left, y)]
    return frame(title, parts, height=HEIGHT + 17 * len(lines) if below else HEIGHT)


def frame(title: str, parts: Sequence[str], *, width: int = WIDTH, height: int = HEIGHT, colour: str = "") -> str:
    """The `<svg>` around what was drawn, with its title for those who cannot see it."""
    said = html.escape(title)
    drawn_in = f' color="{colour}"' if colour else ""
    head = f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{said}" xmlns="http://www.w3.org/2000/svg"{drawn_in}>'
    return "\n".join([head, f"<title>{said}</title>", *parts, "</svg>"])


def place(across: Axis, up: Axis, x: float, y: float) -> tuple[float, float]:
    """Where a point of these axes lies in the drawing."""
    return _x(across, x), _y(up, y)


def grid(across: Axis, up: Axis) -> list[str]:
    """The lines and words of two axes."""
    right, bottom = WIDTH - _RIGHT, HEIGHT - _BOTTOM
    parts = []
    for tick in across.ticks:
        x = _x(across, tick)
        parts.append(f'<path class="grid" d="M{x:.1f} {_TOP}V{bottom}"/>')
        parts.append(f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{html.escape(across.words(tick))}</text>')
    for tick in up.ticks:
        y = _y(up, tick)
        parts.append(f'<path class="grid" d="M{_LEFT} {y:.1f}H{right}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{html.escape(up.words(tick))}</text>')
    middle = (_LEFT + right) / 2
    parts.append(f'<text x="{middle:.0f}" y="{HEIGHT - 8}" text-anchor="middle">{html.escape(across.title)}</text>')
    halfway = (_TOP + bottom) / 2
    place = f'x="14" y="{halfway:.0f}" transform="rotate(-90 14 {halfway:.0f})"'
    return [*parts, f'<text {place} text-anchor="middle">{html.escape(up.title)}</text>']


def _drawn(line: Line, number: int, across: Axis, up: Axis) -> list[str]:
    colour, dash = COLOURS[number % len(COLOURS)], _DASHES[number // len(COLOURS) % len(_DASHES)]
    places = [place(across, up, x, y) for x, y in line.points]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    parts = [f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"{dashed}/>']
    for (x, y), said in zip(places, line.dots, strict=False):
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"><title>{html.escape(said)}</title></circle>')
    for (x, y), word in zip(places, line.marks, strict=False):
        parts.append(f'<text x="{x + 6:.1f}" y="{y - 5:.1f}">{html.escape(word)}</text>')
    return parts


def _named(name: str, number: int, left: float, y: float) -> list[str]:
    """A piece of the line, and its name."""
    colour, dash = COLOURS[number % len(COLOURS)], _DASHES[number // len(COLOURS) % len(_DASHES)]
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    said = name if len(name) <= _MOST_BELOW else f"{name[: _MOST_BELOW - 1]}…"
    return [
        f'<path d="M{left} {y - 4}h22" stroke="{colour}" stroke-width="2"{dashed}/>',
        f'<text x="{left + 28}" y="{y}">{html.escape(said)}</text>',
    ]


def _x(axis: Axis, value: float) -> float:
    return _LEFT + axis.place(value) * (WIDTH - _RIGHT - _LEFT)


def _y(axis: Axis, value: float) -> float:
    return HEIGHT - _BOTTOM - axis.place(value) * (HEIGHT - _BOTTOM - _TOP)


def _round_up(value: float) -> float:
    """The next of 1, 2, 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(part * power for part in (1, 2, 5, 10) if part * power >= value * (1 - 1e-9))


def _grouped(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:g}"
