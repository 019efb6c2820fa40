"""One HTML page of a version: where it comes from, the proof, what was measured, what its graph costs. No network, prints. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from towline.verify.pages.document import document, facts, notes, section, table
from towline.verify.pages.document import text as _text
from towline.verify.parity.plots import histogram, scatter

_STYLE = """
figure { display: flex; flex-wrap: wrap; gap: 1rem } svg { flex: 1 1 16rem; max-width: 24rem } svg text { font-size: 11px }
th:first-child, td:first-child, th:nth-child(2), td:nth-child(2) { text-align: left }
"""


@dataclass(frozen=True)
class Page:
    """`facts` and `lineage` are (what, value); `routes` and `labelled` are the evidence of an import (compare.py: Parity.as_json).

    `operators` are rows (name, kind, shape, parameters, FLOPs) of text under `costs`, a sentence.
    """

    title: str
    facts: Sequence[tuple[str, str]]
    lineage: Sequence[tuple[str, str]] = ()
    routes: Sequence[Mapping[str, Any]] = ()
    notes: Sequence[str] = ()
    costs: str = ""
    operators: Sequence[tuple[str, str, str, str, str]] = ()


def page(version: Page) -> str:
    """A whole document. Whatever came from a model or its owner is escaped."""
    body = [
        facts(version.facts),
        "<h2>Lineage</h2>" + facts(version.lineage) if version.lineage else "",
        "<h2>Proof of equality</h2>" + "".join(map(_route, version.routes)) if version.routes else "",
        section("Report", notes(version.notes)),
        f"<h2>Operators</h2><p>{_text(version.costs)}</p>" if version.costs else "",
        table(("Operator", "Kind", "Output", "Parameters", "FLOPs"), version.operators) if version.operators else "",
    ]
    return document(version.title, body, style=_STYLE)


def _route(route: Mapping[str, Any]) -> str:
    because = str(route.get("because") or "")
    parts = [f"<h3>By way of {_text(str(route.get('route')))}</h3>", f"<p>Not taken: {_text(because)}</p>" if because else ""]
    for signature, parity in dict(route.get("parity") or {}).items():
        outputs: Mapping[str, Mapping[str, Any]] = parity.get("outputs") or {}
        requests = f"Signature {signature}, requests compared: {parity.get('samples')}."
        parts.append(f"<p>{_text(requests)} Limits are shares of each output's magnitude, by its dtype.</p>")
        heads = ("Output", "dtype", "max |Δ|", "limit", "mean |Δ|", "cosine", "top-1", "elements")
        parts.append(table(heads, [_figures(name, one) for name, one in outputs.items()]))
        parts += [_plots(name, one) for name, one in outputs.items() if one.get("points")]
    return "".join(parts)


def _figures(name: str, one: Mapping[str, Any]) -> tuple[str, ...]:
    top1 = one.get("top1")
    figures = (_number(one.get(key)) for key in ("max_absolute", "limit", "mean_absolute", "cosine"))
    return (
        name,
        str(one.get("dtype")),
        *figures,
        "–" if top1 is None else f"{100 * float(top1):.4g} %",
        f"{int(one.get('elements') or 0):,}",
    )


def _plots(name: str, one: Mapping[str, Any]) -> str:
    drawn = scatter(f"{name}: converted against source", one["points"]) + histogram(f"{name}: errors", one.get("errors") or ())
    return f"<figure>{drawn}</figure>"


def _number(value: object) -> str:
    return "–" if not isinstance(value, int | float) else f"{value:.6f}" if 0.1 <= abs(value) <= 1 else f"{value:.3g}"
