"""One HTML page of a version: where it comes from, the proof, what was measured, what its graph costs. No network, prints. Pure."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from towline.verify.parity.plots import histogram, scatter

_STYLE = """
:root { color-scheme: light dark; --ink: #1a1a1a; --faint: #d8d8d8; --paper: #fff }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8e8; --faint: #444; --paper: #161616 } }
@media print { :root { --ink: #000; --faint: #ccc; --paper: #fff } figure, tr { break-inside: avoid } }
body { font: 15px/1.5 system-ui, "PingFang SC", "Microsoft YaHei", "Noto Sans SC", sans-serif; color: var(--ink); background: var(--paper);
       max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem; overflow-wrap: anywhere } h2 { font-size: 1.15rem; margin-top: 2rem }
h3 { font-size: 1rem; overflow-wrap: anywhere }
figure { margin: 1rem 0; display: flex; flex-wrap: wrap; gap: 1rem } svg { flex: 1 1 16rem; max-width: 24rem; height: auto }
svg text { font-size: 11px; fill: var(--ink) } svg .grid { stroke: var(--faint) }
.wide { overflow-x: auto } table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { padding: .25rem .6rem; text-align: right; border-bottom: 1px solid var(--faint); white-space: nowrap }
th:first-child, td:first-child, th:nth-child(2), td:nth-child(2) { text-align: left }
dt { font-weight: 600 } dd { margin: 0 0 .4rem 0; overflow-wrap: anywhere }
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
        f"<h1>{_text(version.title)}</h1>",
        _list(version.facts),
        "<h2>Lineage</h2>" + _list(version.lineage) if version.lineage else "",
        "<h2>Proof of equality</h2>" + "".join(map(_route, version.routes)) if version.routes else "",
        f"<h2>Report</h2><ul>{''.join(f'<li>{_text(note)}</li>' for note in version.notes)}</ul>" if version.notes else "",
        f"<h2>Operators</h2><p>{_text(version.costs)}</p>" if version.costs else "",
        _table(("Operator", "Kind", "Output", "Parameters", "FLOPs"), version.operators) if version.operators else "",
    ]
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    head += f"<title>{_text(version.title)}</title><style>{_STYLE}</style>"
    # Nothing on it is to be fetched or run, whatever a model calls its outputs.
    guard = "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
    return "\n".join(["<!doctype html>", f'<html lang="en"><head>{guard}{head}</head><body>', *filter(None, body), "</body></html>", ""])


def _route(route: Mapping[str, Any]) -> str:
    because = str(route.get("because") or "")
    parts = [f"<h3>By way of {_text(str(route.get('route')))}</h3>", f"<p>Not taken: {_text(because)}</p>" if because else ""]
    for signature, parity in dict(route.get("parity") or {}).items():
        outputs: Mapping[str, Mapping[str, Any]] = parity.get("outputs") or {}
        requests = f"Signature {signature}, requests compared: {parity.get('samples')}."
        parts.append(f"<p>{_text(requests)} Limits are shares of each output's magnitude, by its dtype.</p>")
        heads = ("Output", "dtype", "max |Δ|", "limit", "mean |Δ|", "cosine", "top-1", "elements")
        parts.append(_table(heads, [_figures(name, one) for name, one in outputs.items()]))
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


def _list(facts: Sequence[tuple[str, str]]) -> str:
    return "<dl>" + "".join(f"<dt>{_text(name)}</dt><dd>{_text(value)}</dd>" for name, value in facts) + "</dl>"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    top = "".join(f"<th>{_text(head)}</th>" for head in heads)
    told = "".join(f"<tr>{''.join(f'<td>{_text(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="wide"><table><tr>{top}</tr>{told}</table></div>'


def _text(value: str) -> str:
    return html.escape(value)
