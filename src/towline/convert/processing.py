"""Fit declared processing to a graph: say which input each chain feeds and in what layout, and what clients then send and get. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import msgspec

from towline.convert import fitting, outer
from towline.convert.declaration import Declaration, refused
from towline.core import dtypes, steps
from towline.core.manifest import Processing, Signature, TensorSpec
from towline.core.steps import FOLLOWERS, SOURCES, After, Chain, as_declared, chains, kind_of

FOLDER = "processing"
_Step = TypeVar("_Step", bound=msgspec.Struct)
# In this order, and each at most once; those of one group exclude one another.
_AFTER_ORDER: tuple[tuple[type, ...], ...] = (
    (steps.Pool,),
    (steps.UnitLength,),
    (steps.Softmax, steps.Sigmoid, steps.Segment),
    (steps.TopK,),
    (steps.Threshold,),
    (steps.Labels,),
)


@dataclass(frozen=True)
class Prepared:
    """Processing that fits a graph, every setting spelled out.

    `outer` is what clients send and get. `files` are to be copied into the version: (name in it, where it is now).
    """

    processing: Processing
    outer: Signature
    files: tuple[tuple[str, Path], ...] = ()


def prepare(declaration: Declaration, graph: Signature, labels: Sequence[str] | None) -> Prepared:
    """Raises ImportRefused, by line, for what cannot work on this graph."""
    before, after, at = declaration.before, declaration.after, declaration.lines or (0,) * 128
    if not before and not after:
        raise refused("it declares no step")
    if before and not isinstance(before[0], SOURCES):
        raise refused(f"'{kind_of(before[0])}' has nothing to work on: begin with image, audio, text or tabular", at[0])
    _check_rows(graph)
    files: list[tuple[str, Path]] = []
    whole: list[Chain] = []
    line = 0
    for chain in chains(before):
        _check_followers(chain, at[line : line + len(chain.steps) + 1])
        fitted = _fitted(chain, graph, whole, at[line : line + len(chain.steps) + 1])
        if isinstance(fitted.source, steps.Text):
            name = f"{FOLDER}/tokenizer{len(files) or ''}.json"
            files.append((name, declaration.folder / fitted.source.tokenizer))
            fitted = replace(fitted, source=_changed(fitted.source, tokenizer=name))
        whole.append(fitted)
        line += len(chain.steps) + 1
    after = _fitted_after(after, graph, labels, at[len(before) :])
    spelled = tuple(step for chain in whole for step in (chain.source, *chain.steps))
    processing = Processing(tuple(map(as_declared, spelled)), tuple(map(as_declared, after)))
    return Prepared(processing, outer.outer_signature(whole, after, graph), tuple(files))


def _changed(step: _Step, **settings: object) -> _Step:
    return msgspec.structs.replace(step, **settings)


def _check_rows(graph: Signature) -> None:
    """Every input of the graph begins with the rows: open, or exactly one."""
    leading = {spec.name: spec.shape[0] if spec.shape else None for spec in graph.inputs}
    for name, dim in leading.items():
        if dim is None:
            raise refused(f"input '{name}' of the graph tells no leading dim, so rows cannot be given to it")
        if isinstance(dim, int) and dim != 1:
            raise refused(f"input '{name}' of the graph takes exactly {dim} rows; an open leading dim, or 1, is needed")
    if len({isinstance(dim, int) for dim in leading.values()}) > 1:
        raise refused("some inputs of the graph take one row and others many")


def _check_followers(chain: Chain, at: Sequence[int]) -> None:
    allowed = FOLLOWERS[type(chain.source)]
    seen: set[type] = set()
    for step, line in zip(chain.steps, at[1:], strict=True):
        if not isinstance(step, allowed):
            known = ", ".join(kind_of(kind) for kind in allowed) or "nothing"
            raise refused(f"'{kind_of(step)}' cannot follow '{kind_of(chain.source)}'; {known} can", line)
        if type(step) in seen and isinstance(step, steps.Layout | steps.Mel | steps.Normalise | steps.Resample):
            raise refused(f"'{kind_of(step)}' stands twice in one chain", line)
        seen.add(type(step))


def _fitted(chain: Chain, graph: Signature, others: Sequence[Chain], at: Sequence[int]) -> Chain:
    taken = {name for other in others for name in fitting.feeds(other.source)}
    free = [spec for spec in graph.inputs if spec.name not in taken]
    names = {name for other in others for name in outer.sent(other.source)}
    for name in outer.sent(chain.source):
        if name in names:
            raise refused(f"two inputs are called '{name}': give one another name", at[0])
    if isinstance(chain.source, steps.Text):
        return fitting.text(chain.source, free, at[0])
    into = _into(chain.source, free, at[0])
    if isinstance(chain.source, steps.Image):
        return fitting.image(chain, into, at)
    if isinstance(chain.source, steps.Audio):
        return fitting.audio(chain, into, at)
    return fitting.tabular(chain, into, at)


def _into(source: steps.Image | steps.Audio | steps.Tabular, free: list[TensorSpec], line: int) -> TensorSpec:
    """The graph's input that a chain feeds: the one named, or the only one there is."""
    numbers = [spec for spec in free if dtypes.BY_NAME[spec.dtype].size]
    found = [spec for spec in numbers if spec.name == source.into] if source.into else numbers
    if len(found) != 1:
        if not numbers:
            raise refused(f"the graph has no input left for '{kind_of(source)}'", line)
        what = f"the graph has no free input '{source.into}'" if source.into else "the graph has several inputs: name one, into = …"
        raise refused(f"{what} (there is {', '.join(repr(spec.name) for spec in numbers)})", line)
    return found[0]


def _fitted_after(after: tuple[After, ...], graph: Signature, labels: Sequence[str] | None, at: Sequence[int]) -> tuple[After, ...]:
    if not after:
        return after
    of = _output(after, graph, at)
    last = -1
    for step, line in zip(after, at, strict=False):
        place = next(place for place, kinds in enumerate(_AFTER_ORDER) if isinstance(step, kinds))
        if place <= last:
            order = ", ".join(" or ".join(kind_of(kind) for kind in kinds) for kinds in _AFTER_ORDER)
            raise refused(f"'{kind_of(step)}' stands twice, or in the wrong place; the order is {order}", line)
        last = place
        if isinstance(step, steps.Labels):
            if not any(isinstance(other, steps.TopK) for other in after):
                raise refused("'labels' needs 'top_k' before it, which says which labels to give", line)
            if labels is None:
                raise refused("'labels' needs the version's labels: give --labels FILE", line)
    if len(after) > 1 and any(isinstance(step, steps.Segment) for step in after):
        raise refused("'segment' is a whole answer: no other step goes with it", at[0])
    fitting.check_output(after, of, at)
    return tuple(_changed(step, output=of.name) for step in after)


def _output(after: tuple[After, ...], graph: Signature, at: Sequence[int]) -> TensorSpec:
    """The graph's output that the steps after it work on."""
    named = {step.output for step in after} - {""}
    if len(named) > 1:
        raise refused(f"the steps after the graph work on one output; {' and '.join(sorted(named))} are named", at[0])
    name = named.pop() if named else ""
    found = [spec for spec in graph.outputs if spec.name == name] if name else list(graph.outputs)
    if len(found) != 1:
        have = ", ".join(f"'{spec.name}'" for spec in graph.outputs)
        raise refused(f"name the output to work on: output = … (the graph has {have})", at[0])
    return found[0]
