"""Draw a proof as SVG to stand inside a page: the converted model's answers against the source's, and how far apart they are. Pure."""

from __future__ import annotations

import html
from collections.abc import Sequence

from towline.verify.pages.lines import COLOURS, frame
from towline.verify.parity.figures import DECADES

_SIDE, _WIDTH, _MARGIN = 240, 360, 40
_INK, _FILL = "currentColor", COLOURS[0]


def scatter(title: str, points: Sequence[Sequence[float]]) -> str:
    """One dot per element, on the diagonal where both agree. Nothing to draw gives an empty string."""
    if not points:
        return ""
    low, high = min(min(point) for point in points), max(max(point) for point in points)
    span = (high - low) or 1.0

    def place(value: float) -> float:
        return _MARGIN + (value - low) / span * (_SIDE - 2 * _MARGIN)

    dot = f'r="2.5" fill="{_FILL}" fill-opacity="0.6"'
    dots = "".join(
        f'<circle cx="{place(x):.1f}" cy="{_SIDE - place(y):.1f}" {dot}><title>{x:g} → {y:g}</title></circle>' for x, y in points
    )
    ends = f"{_MARGIN} {_SIDE - _MARGIN}L{_SIDE - _MARGIN} {_MARGIN}"
    words = [
        f'<text x="{_SIDE / 2}" y="{_SIDE - 8}" text-anchor="middle">source, {low:.3g} to {high:.3g}</text>',
        f'<text x="14" y="{_SIDE / 2}" transform="rotate(-90 14 {_SIDE / 2})" text-anchor="middle">converted</text>',
    ]
    return frame(title, [f'<path d="M{ends}" class="grid" fill="none"/>', dots, *words], width=_SIDE, height=_SIDE, colour=_INK)


def histogram(title: str, counts: Sequence[int]) -> str:
    """Counts of elements: equal, then by decade of their error as a share of the magnitude (figures.py: DECADES)."""
    if not counts or not max(counts):
        return ""
    names = ["=", *(f"<1e{decade}" for decade in DECADES), "≥1"]
    wide, high = (_WIDTH - 2 * _MARGIN) / len(counts), _SIDE - 2 * _MARGIN - 20
    parts = []
    for number, (name, count) in enumerate(zip(names, counts, strict=False)):
        x, tall = _MARGIN + number * wide, high * count / max(counts)
        y = _SIDE - _MARGIN - 20 - tall
        parts.append(
            f'<rect x="{x + 1:.1f}" y="{y:.1f}" width="{wide - 2:.1f}" height="{tall:.1f}" fill="{_FILL}"><title>{count:,}</title></rect>'
        )
        at = f'x="{x + wide / 2:.1f}" y="{_SIDE - _MARGIN - 6}"'
        turned = f'transform="rotate(-45 {x + wide / 2:.1f} {_SIDE - _MARGIN - 6})"'
        parts.append(f'<text {at} {turned} text-anchor="end">{html.escape(name)}</text>')
    parts.append(f'<text x="{_WIDTH / 2}" y="{_SIDE - 4}" text-anchor="middle">error, as a share of the magnitude</text>')
    return frame(title, parts, width=_WIDTH, height=_SIDE, colour=_INK)
