"""Tell all that is known of a version: facts, lineage, the proof that it equals its source, and what its graph costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from towline.app.listing import Shown, existing_store, show
from towline.core.event import Event
from towline.core.refs import Ref

if TYPE_CHECKING:
    from towline.convert.cost import Cost

# An import is looked for among the newest of a name.
_MOST_EVENTS = 1000


@dataclass(frozen=True)
class Told:
    """A version, and the event of its import; none where that is too long ago, or was another name's."""

    shown: Shown
    imported: Event | None

    @property
    def routes(self) -> Sequence[Mapping[str, Any]]:
        """The ways of converting that were tried, with what was measured (verify/parity/compare.py: Parity.as_json)."""
        routes = self.imported.data.get("routes") if self.imported else None
        return [route for route in routes if isinstance(route, dict)] if isinstance(routes, list) else []

    @property
    def notes(self) -> list[str]:
        """The sentences of the import's report."""
        warnings = self.imported.data.get("warnings") if self.imported else None
        return [str(line) for line in warnings] if isinstance(warnings, list) else []


def tell(ref: Ref, *, home: str | Path | None = None) -> Told:
    shown = show(ref, home=home)
    with existing_store(home, ref) as store:
        found = store.events(name=shown.version.name, kind="version.imported", limit=_MOST_EVENTS)
    return Told(shown, next((event for event in reversed(found) if event.digest == shown.version.digest), None))


def lineage(told: Told) -> list[tuple[str, str]]:
    """Where a version comes from, in (what, value)."""
    origin, imported = told.shown.manifest.origin, told.imported
    rows = [("from", origin.format), ("source", origin.source_digest)]
    if imported is not None:
        rows += [("file", str(imported.data["source"]))] if "source" in imported.data else []
        rows.append(("imported by", imported.actor + (f": {imported.why}" if imported.why else "")))
    rows += [("parent", parent) for parent in told.shown.manifest.parents]
    return [*rows, ("tools", ", ".join(f"{name} {version}" for name, version in sorted(origin.tools.items())))]


def proof(told: Told) -> list[str]:
    """A line per output of the way that was taken, and one per way that was not."""
    lines = []
    for route in told.routes:
        if because := route.get("because"):
            lines.append(f"not by way of {route.get('route')}: {because}")
            continue
        for signature, parity in dict(route.get("parity") or {}).items():
            for name, one in dict(parity.get("outputs") or {}).items():
                lines.append(f"{signature} {name}: {_figures(one)}, {_requests(parity)}, by way of {route.get('route')}")
    labelled = told.imported.data.get("labelled") if told.imported else None
    if isinstance(labelled, dict):
        lines.append(
            f"{labelled.get('metric')} of {labelled.get('output')} on {labelled.get('rows')} labelled rows: "
            f"{labelled.get('source'):.4g} in the source, {labelled.get('conversion'):.4g} converted"
        )
    return lines


def _requests(parity: Mapping[str, Any]) -> str:
    count = int(parity.get("samples") or 0)
    return f"{count} request{'s'[: count != 1]}"


def _figures(one: Mapping[str, Any]) -> str:
    if not str(one.get("dtype")).startswith("float"):
        return "equal"
    said = [f"max |Δ| {one['max_absolute']:.2g} of {one['limit']:.2g} allowed"]
    said += [] if one.get("top1") is None else [f"top-1 agreement {100 * one['top1']:.4g} %"]
    return ", ".join(said)


def html_of(told: Told, facts: Sequence[tuple[str, str]]) -> str:
    """One self-contained page. `facts` are those that the command line prints."""
    from towline.verify.parity.page import Page, page

    costs, operators = _operators(told)
    return page(
        Page(
            title=f"towline show {told.shown.version}",
            facts=facts,
            lineage=lineage(told),
            routes=told.routes,
            notes=told.notes,
            costs=costs,
            operators=operators,
        )
    )


def _operators(told: Told) -> tuple[str, list[tuple[str, str, str, str, str]]]:
    """What each operator of an ONNX graph costs, for its first golden request."""
    from towline.convert.cost import cost_of
    from towline.core.errors import ImportRefused
    from towline.core.frames import decode_frame

    version, manifest = told.shown.version, told.shown.manifest
    if manifest.engine != "onnxruntime" or manifest.processing or not manifest.golden:
        return "", []
    request = decode_frame((version.path / manifest.golden[0].request).read_bytes())
    try:
        cost = cost_of(version.path / manifest.model_file, {name: array.shape for name, array in request.items()})
    except ImportRefused as refusal:
        return refusal.message, []
    sizes = ", ".join(f"{name} {list(array.shape)}" for name, array in request.items())
    return _summary(cost, sizes), [
        (
            row.name or "–",
            row.kind,
            "–" if row.shape is None else " × ".join(map(str, row.shape)) or "one",
            f"{row.parameters:,}",
            "–" if row.flops is None else f"{row.flops:,}",
        )
        for row in cost.rows
    ]


def _summary(cost: Cost, sizes: str) -> str:
    unknown = f" Of {cost.unknown} operators nobody knows." if cost.unknown else ""
    more = f" The last {cost.left_out} are left out." if cost.left_out else ""
    return f"{cost.flops:,} FLOPs for a request of {sizes}; a multiplication and an addition are two.{unknown}{more}"
