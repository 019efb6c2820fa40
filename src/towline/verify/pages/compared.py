"""The page of a comparison: both figures with their interval, what is confused otherwise, latency, the worst rows. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from towline.verify.gates import Verdict
from towline.verify.layers import GuiltyLayer
from towline.verify.metrics.by_class import ClassDifference
from towline.verify.metrics.classification import Classified
from towline.verify.metrics.regression import Regressed
from towline.verify.pace import Pace
from towline.verify.pages import judged
from towline.verify.pages.bars import Span, spans
from towline.verify.pages.document import code, document, facts, figure, notes, section, table, text
from towline.verify.pages.words import Say, words

_MOST_CLASSES = 15


class Pair(Protocol):
    """A figure of both versions, and second minus first with the interval that holds it."""

    @property
    def first(self) -> float: ...
    @property
    def second(self) -> float: ...
    @property
    def difference(self) -> float: ...
    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...
    @property
    def is_paired(self) -> bool: ...


@dataclass(frozen=True)
class WorstRow:
    """A row where the second loses: its name, what became of it, and a `data:` URI of its picture, or nothing."""

    name: str
    told: str
    picture: str


@dataclass(frozen=True)
class ComparedPage:
    """What a comparison found, as plain values: `facts` are (what, value); `found` and `paces` are of both or of none.

    `classes` are those whose recall differs, the most surely lost first; `remedy` is a command that may help."""

    first: str
    second: str
    facts: Sequence[tuple[str, str]]
    figures: Mapping[str, Pair]
    found: Sequence[Classified | Regressed]
    labels: Sequence[str]
    paces: Sequence[Pace]
    worst: Sequence[WorstRow]
    verdicts: Sequence[Verdict]
    verdict: str
    classes: Sequence[ClassDifference] = ()
    guilty: Sequence[GuiltyLayer] = ()
    remedy: str = ""


def compared_page(shown: ComparedPage, language: str = "en") -> str:
    """A whole document; `language` is en or zh. What came from outside is escaped."""
    say = words(language)
    failed = any(not one.passed for one in shown.verdicts)
    body = [
        # Which gates said no stands in their table.
        f'<p class="verdict">{text(say("Not fit to take over.") if failed else say(shown.verdict))}</p>',
        facts([(say(name), value) for name, value in shown.facts]),
        judged.gates(shown.verdicts, say),
        _remedy(shown.remedy, say),
        *sections(shown, say),
    ]
    title = f"towline {say('comparison')} {shown.first} → {shown.second}"
    return document(title, body, style=judged.STYLE, language=language)


def sections(shown: ComparedPage, say: Say) -> tuple[str, ...]:
    """What two versions show side by side, for the page of a search too."""
    paced = judged.latency(list(zip((shown.first, shown.second), shown.paces, strict=False)), say)
    layers = _layers(shown.guilty, say)
    return _figures(shown, say), _by_class(shown, say), _confusion(shown, say), layers, paced, _worst(shown.worst, say)


def _remedy(command: str, say: Say) -> str:
    if not command:
        return ""
    told = say("This looks for a version that keeps what is asked for, with the guiltiest operators left as they were:")
    return section(say("What may help"), f"<p>{text(told)}</p>", code(command))


def _figures(shown: ComparedPage, say: Say) -> str:
    rows = [
        (
            name,
            judged.number(one.first),
            judged.number(one.second),
            f"{one.difference:+.3g}" if math.isfinite(one.difference) else "–",
            f"{one.low:+.3g} … {one.high:+.3g}" if one.is_paired else "",
        )
        for name, one in shown.figures.items()
    ]
    heads = (say("Figure"), shown.first, shown.second, say("Difference"), say("95 % interval"))
    return section(say("Figures"), table(heads, rows, name=say("Figures"))) if rows else ""


def _by_class(shown: ComparedPage, say: Say) -> str:
    """The most surely lost first."""
    worst = list(shown.classes[:_MOST_CLASSES])
    named = [judged.label(shown.labels, one.place) for one in worst]
    rows = [
        (
            name,
            f"{one.support:,}",
            f"{100 * one.recall[0]:.2f} % → {100 * one.recall[1]:.2f} %",
            f"{100 * one.difference:+.2f}",
            f"{100 * one.low:+.2f} … {100 * one.high:+.2f}",
            f"{one.lost:,}",
            f"{one.won:,}",
            f"{judged.number(one.f1[0])} → {judged.number(one.f1[1])}",
        )
        for name, one in zip(named, worst, strict=True)
    ]
    heads = [say(head) for head in ("Class", "Rows", "Recall", "Difference, pt", "95 % interval", "Lost", "Won", "F1")]
    title = say("Recall by class, second minus first, pt")
    told = say("The most surely lost first; the interval is that of a class by itself. Hollow: it may be none.")
    more = say("The first {shown} of {all} classes that differ.").format(shown=len(worst), all=len(shown.classes))
    words = f"{told} {more if len(worst) < len(shown.classes) else ''}".strip()
    drawn = spans(title, [Span(name, 100 * one.difference, 100 * one.low, 100 * one.high) for name, one in zip(named, worst, strict=True)])
    name = say("Difference by class")
    return section(name, f"<p>{text(words)}</p>", figure(drawn), table(heads, rows, name=name)) if rows else ""


def _layers(guilty: Sequence[GuiltyLayer], say: Say) -> str:
    rows = [(one.name, one.kind, f"{one.before_db:.1f}", f"{one.snr_db:.1f}") for one in guilty]
    heads = [say(head) for head in ("Layer", "Operator", "dB before it", "dB behind it")]
    told = say("Layers behind which the second's values lie the furthest from the first's, in dB of the signal over the noise.")
    name = say("Layers that move the most")
    return section(name, f"<p>{text(told)}</p>", table(heads, rows, name=name)) if rows else ""


def _confusion(shown: ComparedPage, say: Say) -> str:
    both = [one for one in shown.found if isinstance(one, Classified)]
    if len(both) != 2 or both[0].confusion.shape != both[1].confusion.shape:
        return ""
    difference = both[1].confusion - both[0].confusion
    if not difference.any():
        return section(say("Difference in confusion"), notes([say("Nothing is confused otherwise.")]))
    return judged.confusion("Difference in confusion", "Second minus first, in rows; orange: fewer.", difference, shown.labels, say)


def _worst(rows: Sequence[WorstRow], say: Say) -> str:
    if not rows:
        return ""
    has_pictures = any(one.picture for one in rows)
    heads = [*([say("Picture")] if has_pictures else []), say("Row"), say("What became of it")]
    top = "".join(f'<th scope="col">{text(head)}</th>' for head in heads)
    told = ""
    for one in rows:
        picture = f'<img src="{text(one.picture)}" alt="{text(one.name)}">' if one.picture else ""
        cell = f"<td>{picture}</td>" if has_pictures else ""
        told += f"<tr>{cell}<td>{text(one.name)}</td><td>{text(say(one.told))}</td></tr>"
    name = say("Rows where the second loses")
    return section(
        name, f'<div class="wide" tabindex="0" role="region" aria-label="{text(name)}"><table><tr>{top}</tr>{told}</table></div>'
    )
