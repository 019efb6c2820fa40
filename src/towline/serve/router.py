"""Which slot answers which request, and what must be loaded or drained to get there. The table is replaced whole, never edited. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from towline.core.errors import NotFound, Unavailable
from towline.core.refs import clip
from towline.core.runtime import UNTUNED, Runtime

S = TypeVar("S")


@dataclass(frozen=True)
class WantedVersion:
    """One version the controller wants answered for. `path` is its sealed folder, `runtime` what was found best for it here."""

    name: str
    number: int
    digest: str
    path: str
    runtime: Runtime = UNTUNED


@dataclass(frozen=True)
class WantedModel:
    """One deployment, resolved: the versions to serve, which of them a bare name means, and the labels."""

    name: str
    versions: tuple[WantedVersion, ...]
    default: int | None
    labels: Mapping[str, int] = field(default_factory=dict)
    limits: Mapping[str, Any] = field(default_factory=dict)


def wanted_from(message: Mapping[str, Any], *, follows_tuning: bool) -> WantedModel:
    """One model of the controller's table. Unless `follows_tuning`, what was found best for its versions here is left aside."""
    versions = tuple(
        WantedVersion(
            message["name"],
            entry["number"],
            entry["digest"],
            entry["path"],
            Runtime.from_data(entry.get("runtime")) if follows_tuning else UNTUNED,
        )
        for entry in message["versions"]
    )
    return WantedModel(message["name"], versions, message["default"], message["labels"], message["limits"])


@dataclass(frozen=True)
class Served(Generic[S]):
    """The ready slots of one model. `default` is the number a bare name gets."""

    slots: Mapping[int, S]
    default: int
    labels: Mapping[str, int]


Table = Mapping[str, Served[S]]


def next_table(wanted: Collection[WantedModel], ready: Mapping[tuple[str, int], S]) -> dict[str, Served[S]]:
    """The table for what is wanted and what is ready now.

    Nothing that answers is given up before its successor is ready: while no wanted version of a model is ready, the ready
    versions it still has keep answering; while the wanted default is not ready, the newest ready one stands in for it.
    """
    table: dict[str, Served[S]] = {}
    for model in wanted:
        mine = {number: slot for (name, number), slot in ready.items() if name == model.name}
        numbers = {version.number for version in model.versions}
        # An older version goes only when all that shall follow it are there.
        chosen = {n: slot for n, slot in mine.items() if n in numbers} if numbers <= mine.keys() else mine
        if not chosen:
            continue
        default = model.default if model.default in chosen else _stand_in(chosen.keys(), numbers)
        table[model.name] = Served(chosen, default, dict(model.labels))
    return table


def _stand_in(ready: Collection[int], wanted: Collection[int]) -> int:
    """While the wanted default loads: what answered before it, that is, the newest one nobody asked for anew; else the newest."""
    old = [number for number in ready if number not in wanted]
    return max(old or ready)


def to_drain(
    wanted: Collection[WantedModel], table: Mapping[str, Served[S]], existing: Collection[tuple[str, int]]
) -> list[tuple[str, int]]:
    """Slots that neither the wish nor the table needs any more."""
    needed = {(model.name, version.number) for model in wanted for version in model.versions}
    needed |= {(name, number) for name, served in table.items() for number in served.slots}
    return [key for key in existing if key not in needed]


def find(table: Mapping[str, Served[S]], wanted: Mapping[str, WantedModel], name: str, number: int | None = None, label: str = "") -> S:
    """The slot that answers for a name, a version number or a label. Errors tell unknown from not ready."""
    served = table.get(name)
    if served is None:
        if name in wanted:
            raise Unavailable(f"Model '{clip(name)}' is not ready.", code="MODEL_NOT_READY", field="model", retry_after_s=1.0)
        raise NotFound(f"There is no model '{clip(name)}' here.", code="MODEL_NOT_FOUND", field="model")
    if label:
        if label not in served.labels:
            raise NotFound(f"Model '{name}' has no version labelled '{clip(label)}'.", code="LABEL_NOT_FOUND", field="label")
        number = served.labels[label]
    slot = served.slots.get(served.default if number is None else number)
    if slot is None:
        if name in wanted and any(version.number == number for version in wanted[name].versions):
            raise Unavailable(f"Version {number} of '{name}' is not ready.", code="VERSION_NOT_READY", field="version", retry_after_s=1.0)
        raise NotFound(f"Version {number} of '{name}' is not served here.", code="VERSION_NOT_FOUND", field="version")
    return slot
