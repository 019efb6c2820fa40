"""The page of a search for a smaller or faster version: what was tried, drop against speed, and the guilty operators. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from towline.verify.pages import judged
from towline.verify.pages.bars import Bubble, bars, bubbles
from towline.verify.pages.document import document, facts, figure, section, table, text
from towline.verify.pages.lines import Axis, linear
from towline.verify.pages.words import Say, words

_MOST_BARS = 30
# Of an operator whose noise drowns the output or is none at all, drawn at the edge.
_DB_LIMIT = 120.0


@dataclass(frozen=True)
class Trial:
    """`speedup` and `size_ratio` against the version it came from, 0 where it never ran; `drop` as a share; `because` it was refused."""

    name: str
    settings: str
    fits: bool
    speedup: float
    size_ratio: float
    drop: float
    because: str


@dataclass(frozen=True)
class OptimizedPage:
    """`facts` are (what, value), `guilty` are (operator, dB of the outputs over the noise), `verdict` is one sentence."""

    name: str
    facts: Sequence[tuple[str, str]]
    tried: Sequence[Trial]
    guilty: Sequence[tuple[str, float]]
    verdict: str


def optimized_page(shown: OptimizedPage, language: str = "en") -> str:
    """A whole document; `language` is one of words.LANGUAGES. What came from outside is escaped."""
    say = words(language)
    body = [
        f'<p class="verdict">{text(say(shown.verdict))}</p>',
        facts([(say(name), value) for name, value in shown.facts]),
        _tried(shown.tried, say),
        _frontier(shown, say),
        _guilty(shown.guilty, say),
    ]
    return document(f"towline {say('optimisation')} {shown.name}", body, style=judged.STYLE, language=language)


def _tried(tried: Sequence[Trial], say: Say) -> str:
    rows = [
        (
            one.name,
            one.settings,
            _times(one.speedup),
            _times(one.size_ratio),
            f"{100 * one.drop:+.2f}" if one.speedup else "–",
            say("fits") if one.fits and not one.because else one.because,
        )
        for one in tried
    ]
    heads = [say(head) for head in ("Pass", "Settings", "Speed", "Size", "Drop, pt", "Verdict")]
    return section(say("What was tried"), table(heads, rows, name=say("What was tried"))) if rows else ""


def _frontier(shown: OptimizedPage, say: Say) -> str:
    """What ran, beside the version it all came from."""
    ran = [one for one in shown.tried if one.speedup > 0 and math.isfinite(one.drop)]
    if not ran:
        return ""
    points = [Bubble(_called(one), one.speedup, 100 * one.drop, one.size_ratio, one.fits) for one in ran]
    points.append(Bubble(shown.name, 1.0, 0.0, 1.0, good=True))
    across = linear(say("times as fast, in batches"), [one.x for one in points])
    drops = [one.y for one in points]
    up = spanning(say("drop, pt"), min(drops), max(drops))
    told = say("Area: size on disk. Filled: right enough to be handed over; hollow: refused.")
    title = say("Drop against speed")
    return section(title, f"<p>{text(told)}</p>", figure(bubbles(title, points, across, up)))


def spanning(title: str, low: float, high: float) -> Axis:
    """An axis that holds both ends and some room, with five ticks."""
    room = (high - low) * 0.1 or 0.1
    low, high = low - room, high + room
    return Axis(title, low, high, tuple(low + (high - low) * part / 4 for part in range(5)), words="{:.3g}".format)


def _guilty(guilty: Sequence[tuple[str, float]], say: Say) -> str:
    """The guiltiest first: noise is the longer the less the outputs stand out from it."""
    known = [(name, min(_DB_LIMIT, max(-_DB_LIMIT, db))) for name, db in guilty if not math.isnan(db)]
    worst = sorted(known, key=lambda one: one[1])[:_MOST_BARS]
    quiet = max((db for _, db in known), default=0.0)
    told = say("Noise that quantising this operator alone makes in the outputs, dB below them: the fewer, the guiltier.")
    title = say("Sensitivity by operator")
    drawn = bars(title, [(name, db) for name, db in worst], top=quiet, words="{:.1f} dB".format)
    return section(title, f"<p>{text(told)}</p>", figure(drawn)) if worst else ""


def _called(one: Trial) -> str:
    return f"{one.name} {one.settings}".strip()


def _times(ratio: float) -> str:
    return f"{ratio:.2f}×" if ratio else "–"
