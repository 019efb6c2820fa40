"""Where every protocol enters: find a version, admit, run, answer. Holds the slots and swaps them without losing a request."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from towline.core.errors import InvalidRequest, NotFound, TowlineError
from towline.core.manifest import Manifest, decode_manifest
from towline.core.refs import clip
from towline.serve import router
from towline.serve.contract import Served as ServedVersion
from towline.serve.contract import VersionStatus
from towline.serve.router import WantedModel, WantedVersion
from towline.serve.slots import Slot
from towline.serve.surroundings import SlotLimits, Surroundings

log = logging.getLogger("towline.serve")

_TICK_S = 0.1
_PING_EVERY_TICKS = 10
_LOADS_AT_ONCE = 2
_MAX_LABEL_BYTES = 4 << 20
# A server that runs for years must not remember them all.
_REMEMBERED_ENDS = 1000
# TF Serving's words for the state of a version.
_STATUS = {
    "new": "START",
    "loading": "LOADING",
    "warming": "LOADING",
    "ready": "AVAILABLE",
    "draining": "UNLOADING",
    "closed": "END",
    "failed": "END",
}


class ServingPlane:
    """The DataPlane of serve/contract.py over slots. Everything runs on the event loop."""

    def __init__(self, around: Surroundings, limits: SlotLimits, *, keep_s: float, on_state: Callable[[], None]) -> None:
        self.is_draining = False
        # Whoever serves more than one port opens them one after the other, and is ready when all are.
        self.are_ports_open = True
        self._around = around
        self._limits = limits
        self._keep_s = keep_s
        self._on_state = on_state
        self._wanted: dict[str, WantedModel] = {}
        self._slots: dict[tuple[str, int], Slot] = {}
        self._ended: dict[tuple[str, int], VersionStatus] = {}
        self._table: router.Table[Slot] = {}
        # What a bare name means.
        self._defaults: dict[str, Slot] = {}
        self._has_table = False
        self._was_ready = False
        self._loads = asyncio.Semaphore(_LOADS_AT_ONCE)
        self._opening: set[Slot] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._ticks = 0

    # What protocols ask

    def find(self, name: str, *, number: int | None = None, label: str = "") -> ServedVersion:
        if number is None and not label and (slot := self._defaults.get(name)) is not None:
            return slot
        return router.find(self._table, self._wanted, name, number, label)

    def only(self) -> ServedVersion:
        if len(self._wanted) == 1:
            return self.find(next(iter(self._wanted)))
        if not self._wanted:
            raise NotFound("No model is served here yet.", code="MODEL_NOT_FOUND", field="model")
        names = ", ".join(sorted(self._wanted))
        raise InvalidRequest(
            f"Several models are served here ({clip(names, 200)}): say which.",
            code="MODEL_UNNAMED",
            field="model",
            hint="POST /models/NAME/predict",
        )

    # Given a slot, which is what `find` gives: a call of its own would only pass it on.
    infer: ClassVar[Callable[..., Callable[[], None]]] = staticmethod(Slot.infer)

    def status(self, name: str) -> list[VersionStatus]:
        found = {key[1]: status for key, status in self._ended.items() if key[0] == name}
        for (model, number), slot in self._slots.items():
            if model == name:
                found[number] = VersionStatus(number, _STATUS[slot.state], slot.error)
        if not found and name not in self._wanted:
            raise NotFound(f"There is no model '{clip(name)}' here.", code="MODEL_NOT_FOUND", field="model")
        return [found[number] for number in sorted(found, reverse=True)]

    def names(self) -> tuple[str, ...]:
        return tuple(sorted(self._wanted))

    def deployments(self) -> list[WantedModel]:
        return [self._wanted[name] for name in sorted(self._wanted)]

    def known(self) -> set[str]:
        """Names of models that are served, being let go of, or were: the newest of them."""
        return {*self._wanted, *(name for name, _ in self._slots), *(name for name, _ in self._ended)}

    def unreadable(self) -> list[tuple[WantedVersion, str]]:
        """Versions that are wanted and could not even be begun, with the reason."""
        wanted = [version for model in self._wanted.values() for version in model.versions]
        ends = [(version, self._ended.get((version.name, version.number))) for version in wanted]
        return [(version, end.error) for version, end in ends if end is not None and end.error]

    def is_ready(self) -> bool:
        is_up = self.are_ports_open and not self.is_draining and not self.not_ready()
        is_ready = is_up and (self._was_ready or self.is_settled())
        self._was_ready = self._was_ready or is_ready
        return is_ready

    def is_started(self) -> bool:
        """It was ready once."""
        return self.is_ready() or self._was_ready

    def is_settled(self) -> bool:
        """All that is wanted is known, and was loaded or has failed. Every version counts: those who ask for a number find it."""
        wanted = ((version.name, version.number) for model in self._wanted.values() for version in model.versions)
        is_loading = any(key in self._slots and self._slots[key].state in ("new", "loading", "warming") for key in wanted)
        return self._has_table and not is_loading

    def not_ready(self) -> list[str]:
        """The wanted models that have no ready version, or whose worker is away."""
        return [
            name
            for name in self._wanted
            if name not in self._table or all(slot.state != "ready" for slot in self._table[name].slots.values())
        ]

    def slots(self) -> list[Slot]:
        return list(self._slots.values())

    def leases(self) -> int:
        return sum(slot.leases for slot in self._slots.values())

    # What the controller wants

    def want(self, models: list[WantedModel], *, is_complete: bool = True) -> None:
        """Replace what is wanted. Loads what is missing beside what answers, and drains what is needed no more.

        Not complete: more models are being imported, and until they are there the server is not ready.
        """
        self._has_table = self._has_table or is_complete
        self._wanted = {model.name: model for model in models}
        self._ended = dict(list(self._ended.items())[-_REMEMBERED_ENDS:])
        for model in models:
            for version in model.versions:
                slot = self._slots.get((version.name, version.number))
                is_there = slot is not None and slot.digest == version.digest and slot.state != "closed"
                if slot is not None and is_there:
                    slot.limit(self._limits_of(model, version, slot.manifest))
                if slot is None or not is_there or (slot.state == "draining" and not slot.revive()):
                    self._load(version, model)
        self._settle()

    def _load(self, version: WantedVersion, model: WantedModel) -> None:
        key = (version.name, version.number)
        try:
            manifest = decode_manifest((Path(version.path) / "manifest.json").read_bytes())
            labels = _read_labels(Path(version.path), manifest)
        except (TowlineError, OSError, UnicodeDecodeError) as error:
            log.error("%s:%s cannot be read: %s", version.name, version.number, error)
            self._ended[key] = VersionStatus(version.number, "END", "Its files cannot be read.")
            return
        self._ended.pop(key, None)
        slot = Slot(version, manifest, labels, self._limits_of(model, version, manifest), self._around)
        slot.on_change = self._slot_changed
        self._slots[key] = slot
        if version.runtime:
            log.info("%s:%s runs as was tuned: %s", version.name, version.number, version.runtime)
        self._keep_opening(slot)

    def _limits_of(self, model: WantedModel, version: WantedVersion, manifest: Manifest) -> SlotLimits:
        own, tuned, handler = model.limits, version.runtime, manifest.handler
        most = own.get("max_batch") or min(tuned.max_batch or self._limits.max_batch, self._limits.max_batch)
        return SlotLimits(
            own.get("max_waiting_requests") or self._limits.max_waiting_requests,
            own.get("max_waiting_bytes") or self._limits.max_waiting_bytes,
            own.get("timeout_s") or (handler and handler.timeout_s) or self._limits.timeout_s,
            min(most, manifest.measured.max_batch or most),
            own.get("latency_slo_ms") or self._limits.latency_slo_ms,
            own.get("instances") or (self._limits.instances if self._limits.instances > 1 else tuned.instances or 1),
            self._limits.max_waiting_s,
            self._limits.padding if own.get("padding") is None else bool(own["padding"]),
        )

    def _keep_opening(self, slot: Slot) -> None:
        if slot not in self._opening:
            self._opening.add(slot)
            self._start(self._open(slot))

    async def _open(self, slot: Slot) -> None:
        """Load a slot; while it is wanted and fails, try again with growing pauses."""
        try:
            while self._slots.get((slot.name, slot.number)) is slot and slot.state not in ("ready", "draining", "closed"):
                async with self._loads:
                    await slot.open()
                if slot.state == "failed":
                    log.error("%s:%s is not ready: %s", slot.name, slot.number, slot.error)
                    self._around.tell("version.failed", slot, {"error": slot.error})
                    await asyncio.sleep(max(slot.retry_in_s(), _TICK_S))
        finally:
            self._opening.discard(slot)

    def _slot_changed(self, slot: Slot) -> None:
        if slot.state == "failed" and slot.is_bereaved:
            self._keep_opening(slot)
        if slot.state == "closed" and self._slots.get((slot.name, slot.number)) is slot:
            del self._slots[(slot.name, slot.number)]
            self._ended[(slot.name, slot.number)] = VersionStatus(slot.number, "END")
        if slot.state in ("ready", "failed", "closed"):
            self._settle()
        self._on_state()

    def _settle(self) -> None:
        """Route to what is ready; let go of what nobody needs."""
        ready = {key: slot for key, slot in self._slots.items() if slot.state == "ready" or self._answers_still(key, slot)}
        wanted = list(self._wanted.values())
        self._table = router.next_table(wanted, ready)
        self._defaults = {name: served.slots[served.default] for name, served in self._table.items()}
        for key in router.to_drain(wanted, self._table, list(self._slots)):
            slot = self._slots[key]
            if slot.state not in ("draining", "closed"):
                slot.drain(self._keep_s if slot.state == "ready" else 0.0)

    def _answers_still(self, key: tuple[str, int], slot: Slot) -> bool:
        """A slot in the table whose worker is being replaced keeps its place: its requests wait for the new one, or learn why not."""
        served = self._table.get(key[0])
        return served is not None and served.slots.get(key[1]) is slot and slot.state in ("loading", "warming", "failed")

    # Time

    async def tick_forever(self) -> None:
        while True:
            await asyncio.sleep(_TICK_S)
            self._ticks += 1
            for slot in list(self._slots.values()):
                slot.tick()
                if self._ticks % _PING_EVERY_TICKS == 0:
                    slot.ping()

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        for slot in list(self._slots.values()):
            slot.close()

    def _start(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _read_labels(folder: Path, manifest: Manifest) -> tuple[str, ...]:
    if manifest.labels is None:
        return ()
    with (folder / manifest.labels).open("rb") as file:
        return tuple(file.read(_MAX_LABEL_BYTES).decode().splitlines())
