"""The frame of every HTML page that verification writes: one file that fetches nothing, runs nothing and prints well. Pure."""

from __future__ import annotations

import html
from collections.abc import Sequence

# What all pages share; a page adds its own lines below.
_STYLE = """
:root { color-scheme: light dark; --ink: #1a1a1a; --faint: #d8d8d8; --paper: #fff }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8e8; --faint: #444; --paper: #161616 } }
@media print { :root { --ink: #000; --faint: #ccc; --paper: #fff } figure, tr { break-inside: avoid } h2, h3 { break-after: avoid }
               .wide { overflow: visible !important } th, td { white-space: normal !important }
               pre { white-space: pre-wrap; overflow-wrap: anywhere } }
body { font: 15px/1.5 system-ui, "PingFang SC", "Microsoft YaHei", "Noto Sans SC", sans-serif; color: var(--ink); background: var(--paper);
       max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem; overflow-wrap: anywhere } h2 { font-size: 1.15rem; margin-top: 2rem }
h3 { font-size: 1rem; overflow-wrap: anywhere } figure { margin: 1rem 0 }
svg { width: 100%; height: auto } svg text { font-size: 12px; fill: var(--ink) } svg .grid { stroke: var(--faint) }
svg .ink { stroke: var(--ink); stroke-width: 2 }
.wide { overflow-x: auto } table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { padding: .25rem .6rem; text-align: right; border-bottom: 1px solid var(--faint); white-space: nowrap }
dt { font-weight: 600 } dd { margin: 0 0 .4rem 0; overflow-wrap: anywhere }
"""


def document(title: str, body: Sequence[str], *, style: str = "", language: str = "en") -> str:
    """A whole page. `title` is escaped here, `body` is markup already; empty parts are left out."""
    # Nothing on it is to be fetched or run, whatever a model calls its outputs; pictures are inside it.
    guard = "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">"
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    head += f"<title>{text(title)}</title><style>{_STYLE}{style}</style>"
    top = [f'<html lang="{text(language)}"><head>{guard}{head}</head><body><main>', f"<h1>{text(title)}</h1>"]
    return "\n".join(["<!doctype html>", *top, *filter(None, body), "</main></body></html>", ""])


def section(heading: str, *parts: str) -> str:
    """A heading and what is below it; nothing where there is nothing."""
    told = "".join(parts)
    return f"<h2>{text(heading)}</h2>{told}" if told else ""


def facts(pairs: Sequence[tuple[str, str]]) -> str:
    return "<dl>" + "".join(f"<dt>{text(name)}</dt><dd>{text(value)}</dd>" for name, value in pairs) + "</dl>"


def heading(words: str) -> str:
    """Of a part of a section."""
    return f"<h3>{text(words)}</h3>"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], *, name: str = "", marked: Sequence[str] = (), kind: str = "") -> str:
    """`marked` has a class per row, where rows have any; `kind` is that of the table. A wide one scrolls, by keyboard too."""
    top = "".join(f'<th scope="col">{text(head)}</th>' for head in heads)
    told = ""
    for place, row in enumerate(rows):
        mark = f' class="{text(marked[place])}"' if place < len(marked) and marked[place] else ""
        told += f"<tr{mark}>{''.join(f'<td>{text(cell)}</td>' for cell in row)}</tr>"
    opened = f'<table class="{text(kind)}">' if kind else "<table>"
    return f'<div class="wide" tabindex="0" role="region" aria-label="{text(name or heads[0])}">{opened}<tr>{top}</tr>{told}</table></div>'


def code(line: str) -> str:
    """A command to be copied. A long one scrolls, by keyboard too."""
    return f'<div class="wide" tabindex="0" role="region" aria-label="{text(line[:40])}"><pre><code>{text(line)}</code></pre></div>'


def notes(lines: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{text(line)}</li>' for line in lines)}</ul>" if lines else ""


def figure(drawn: str) -> str:
    return f"<figure>{drawn}</figure>" if drawn else ""


def text(value: str) -> str:
    """As it stands in markup, in an attribute too."""
    return html.escape(value)
