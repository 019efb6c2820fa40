"""Bars and lines as SVG, on logarithmic scales, as servers differ by factors of a hundred. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

OURS, PEER, FLOOR, INK, GRID = "#0b7a75", "#9aa8b5", "#d9dee3", "#24303a", "#e8ecef"
FONT = "font-family='system-ui, sans-serif'"
WIDTH, LEFT, RIGHT, TOP = 860, 250, 110, 54
BAR, GAP = 18, 8
LINES_HEIGHT, LABEL_GAP = 520, 16


@dataclass(frozen=True)
class Bar:
    """`kind` is "ours", "peer" or "floor"; `value` is above zero."""

    name: str
    value: float
    kind: str


@dataclass(frozen=True)
class Line:
    """Points are (x, y) with y above zero; x are places on an axis of equal steps."""

    name: str
    points: Sequence[tuple[int, float]]
    kind: str


def bars(title: str, unit: str, wanted: Sequence[Bar]) -> str:
    """Horizontal bars, the shortest first."""
    ordered = sorted(wanted, key=lambda bar: bar.value)
    height = TOP + len(ordered) * (BAR + GAP) + 34
    low, high = _decades([bar.value for bar in ordered])
    parts = [_title(title)]
    bottom = height - 30
    for tick in _ticks(low, high):
        x = _place(tick, low, high, LEFT, WIDTH - RIGHT)
        parts.append(f"<line x1='{x:.1f}' y1='{TOP - 8}' x2='{x:.1f}' y2='{bottom}' stroke='{GRID}'/>")
        parts.append(_text(x, bottom + 18, f"{tick:,g} {unit}", anchor="middle", size=12))
    for number, bar in enumerate(ordered):
        y = TOP + number * (BAR + GAP)
        x = _place(bar.value, low, high, LEFT, WIDTH - RIGHT)
        weight = "600" if bar.kind == "ours" else "400"
        parts.append(_text(LEFT - 10, y + 14, bar.name, anchor="end", weight=weight))
        parts.append(f"<rect x='{LEFT}' y='{y}' width='{x - LEFT:.1f}' height='{BAR}' rx='2' fill='{_colour(bar.kind)}'/>")
        parts.append(_text(x + 6, y + 14, f"{_short(bar.value)} {unit}", weight=weight, size=12))
    return _page(height, parts)


def lines(title: str, unit: str, places: Sequence[str], wanted: Sequence[Line]) -> str:
    """One line per name, named at its right end; `places` are the labels of x = 0, 1, …"""
    low, high = _decades([y for line in wanted for _, y in line.points])
    top, bottom, left, right = TOP, LINES_HEIGHT - 50, 90, WIDTH - 230
    parts = [_title(title)]
    for tick in _ticks(low, high):
        y = _place(tick, low, high, bottom, top)
        parts.append(f"<line x1='{left}' y1='{y:.1f}' x2='{right}' y2='{y:.1f}' stroke='{GRID}'/>")
        parts.append(_text(left - 8, y + 4, f"{tick:,g}", anchor="end", size=12))
    across = [left + (right - left) * number / max(len(places) - 1, 1) for number in range(len(places))]
    parts += [_text(x, bottom + 22, label, anchor="middle", size=12) for x, label in zip(across, places, strict=True)]
    parts.append(_text(left, LINES_HEIGHT - 8, unit, size=12))
    ends = []
    for line in wanted:
        spots = [(across[x], _place(y, low, high, bottom, top)) for x, y in line.points]
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in spots)
        width = 3 if line.kind == "ours" else 1.6
        dashes = " stroke-dasharray='5 4'" if line.kind == "floor" else ""
        colour = PEER if line.kind == "floor" else _colour(line.kind)
        parts.append(f"<polyline points='{points}' fill='none' stroke='{colour}' stroke-width='{width}'{dashes}/>")
        ends.append((spots[-1][1], line))
    parts += [
        _text(right + 10, y + 4, line.name, weight="600" if line.kind == "ours" else "400", size=12)
        for y, line in _apart(sorted(ends, key=lambda end: end[0]))
    ]
    return _page(LINES_HEIGHT, parts)


def _apart(ends: Sequence[tuple[float, Line]]) -> Iterator[tuple[float, Line]]:
    """Labels pushed down until none covers the one above."""
    last = -math.inf
    for y, line in ends:
        last = max(y, last + LABEL_GAP)
        yield last, line


def _decades(values: Sequence[float]) -> tuple[float, float]:
    """Powers of ten, or halves of them, that hold all values."""
    low, high = math.log10(min(values)), math.log10(max(values))
    return math.floor(low * 2 - 0.2) / 2, math.ceil(high * 2 + 0.01) / 2


def _ticks(low: float, high: float) -> list[float]:
    return [10.0**power for power in range(math.ceil(low), math.floor(high) + 1)]


def _place(value: float, low: float, high: float, start: float, end: float) -> float:
    return start + (end - start) * (math.log10(value) - low) / (high - low)


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _colour(kind: str) -> str:
    return {"ours": OURS, "floor": FLOOR}.get(kind, PEER)


def _title(title: str) -> str:
    return _text(16, 28, title, size=17, weight="600") + _text(WIDTH - 16, 28, "logarithmic scale", anchor="end", size=12)


def _text(x: float, y: float, content: str, *, anchor: str = "start", size: int = 13, weight: str = "400") -> str:
    place = f"x='{x:.1f}' y='{y:.1f}' text-anchor='{anchor}'"
    return f"<text {place} {FONT} font-size='{size}' font-weight='{weight}' fill='{INK}'>{escape(content)}</text>"


def _page(height: float, parts: Sequence[str]) -> str:
    head = f"<svg xmlns='http://www.w3.org/2000/svg' width='{WIDTH}' height='{height:g}' viewBox='0 0 {WIDTH} {height:g}' role='img'>"
    return "\n".join([head, "<rect width='100%' height='100%' fill='white'/>", *parts, "</svg>"]) + "\n"
