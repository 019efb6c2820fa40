"""The page of a search for a smaller or faster version: what was tried, what it gained and lost, and the guilty operators. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from towline.verify.metrics.named import Metric
from towline.verify.pages import judged
from towline.verify.pages.bars import Bar, Span, bars, spans
from towline.verify.pages.compared import ComparedPage, sections
from towline.verify.pages.document import document, facts, figure, notes, section, text
from towline.verify.pages.settings import settings
from towline.verify.pages.trials import USUAL, Trial, int8_frontier, pareto, training, tried_table
from towline.verify.pages.words import Say, words

_MOST_BARS = 30
# Of an operator whose noise drowns the output or is none at all, drawn at the edge.
_DB_LIMIT = 120.0
_STYLE = """
.tried th, .tried td { text-align: left } .tried :is(td, th):nth-child(n+4):nth-child(-n+7) { text-align: right }
.tried td:nth-child(3), .tried td:nth-child(8) { white-space: normal; min-width: 11rem; overflow-wrap: anywhere }
tr.kept td { font-weight: 600 }
"""


@dataclass(frozen=True)
class Suspect:
    """An operator, and dB of the outputs over the noise it makes quantised alone; `in_float` where what was handed over left it alone.
    `loss` is what labelled rows lose by it, None where there are none."""

    name: str
    db: float
    in_float: bool = False
    loss: Loss | None = None


@dataclass(frozen=True)
class Loss:
    """Of `figure`, beside `rows` labels: a share or in its own unit. Between `low` and `high` with 95 % confidence."""

    figure: str
    lost: float
    low: float
    high: float
    rows: int
    is_share: bool = True

    @property
    def scale(self) -> float:
        """Points of a share."""
        return 100.0 if self.is_share else 1.0

    def span(self, name: str) -> Span:
        return Span(name, self.scale * self.lost, self.scale * self.low, self.scale * self.high)


@dataclass(frozen=True)
class OptimizedPage:
    """`facts` are (what, value), `verdict` is one sentence. `beside` is the version that was handed over beside the one it came from;
    `max_drop` is how much of the `metric` was allowed to be lost, where that was said."""

    name: str
    facts: Sequence[tuple[str, str]]
    tried: Sequence[Trial]
    guilty: Sequence[Suspect]
    verdict: str
    beside: ComparedPage | None = None
    max_drop: float | None = None
    notes: Sequence[str] = ()
    metric: Metric = USUAL


def optimized_page(shown: OptimizedPage, language: str = "en") -> str:
    """A whole document; `language` is en or zh. What came from outside is escaped."""
    say = words(language)
    tried = [replace(one, settings=settings(one.settings, say)) for one in shown.tried]
    body = [
        f'<p class="verdict">{text(say(shown.verdict))}</p>',
        facts([(say(name), settings(value, say)) for name, value in shown.facts]),
        pareto(shown.name, tried, say, shown.max_drop, shown.metric),
        tried_table(tried, say, shown.metric),
        int8_frontier(tried, say),
        _guilty(shown.guilty, say),
        training(tried, say),
        *(sections(shown.beside, say) if shown.beside is not None else ()),
        section(say("Notes"), notes([say(note) for note in shown.notes])),
    ]
    return document(f"towline {say('optimisation')} {shown.name}", body, style=judged.STYLE + _STYLE, language=language)


def _guilty(guilty: Sequence[Suspect], say: Say) -> str:
    """The guiltiest first: noise is the longer the less the outputs stand out from it."""
    known = [(one, min(_DB_LIMIT, max(-_DB_LIMIT, one.db))) for one in guilty if not math.isnan(one.db)]
    worst = sorted(known, key=lambda one: one[1])[:_MOST_BARS]
    quiet = max((db for _, db in known), default=0.0)
    told = say("Noise that quantising this operator alone makes in the outputs, dB below them: the fewer, the guiltier.")
    left = say("Hollow: stayed in float in what was handed over.") if any(one.in_float for one, _ in worst) else ""
    title = say("Sensitivity by operator")
    drawn = bars(title, [Bar(one.name, db, is_hollow=one.in_float) for one, db in worst], top=quiet, words="{:.1f} dB".format)
    return section(title, f"<p>{text(f'{told} {left}'.strip())}</p>", figure(drawn), *_losses(guilty, say)) if worst else ""


def _losses(guilty: Sequence[Suspect], say: Say) -> Iterator[str]:
    """Those first that surely lose the most; one that loses nothing is left out."""
    known = [(one.name, one.loss) for one in guilty if one.loss is not None]
    if not known:
        return
    named = {"figure": known[0][1].figure, "rows": known[0][1].rows}
    lost = sorted(((name, loss) for name, loss in known if loss.lost > 0), key=lambda one: (-one[1].low, -one[1].lost))
    if not lost:
        yield f"<p>{text(say('On {rows} labelled rows, none of them alone loses any {figure}.').format(**named))}</p>"
        return
    told = say("What of {figure} is lost by quantising this operator alone, on {rows} labelled rows. Filled: surely.")
    title = say("Loss by operator") + (say(", pt") if known[0][1].is_share else "")
    drawn = spans(title, [loss.span(name) for name, loss in lost[:_MOST_BARS]], words="{:.3g}".format)
    yield f"<p>{text(told.format(**named))}</p>"
    yield figure(drawn)
