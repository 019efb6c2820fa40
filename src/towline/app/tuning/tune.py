"""Find how a version runs best on this machine: threads, runs and workers at a time, rows of a run, engine. Measured, and written down.

What is found is an event about the version and this kind of machine; `towline serve` runs the version by it from its next load on.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from towline.app.home import actor, find_settings, opened_store
from towline.app.importing.sealing import Order
from towline.app.judging.judge import Options, Say, labels_of, opened_data, silent
from towline.app.tuning.engined import ENGINES, publish_under, under
from towline.app.tuning.neighbours import look, others_cores
from towline.app.tuning.pressing import Model, Press, Window, reading
from towline.core.config import Settings
from towline.core.cpu import usable_cores
from towline.core.digest import folder_digest
from towline.core.errors import TowlineError, UsageError
from towline.core.event import Event
from towline.core.frames import decode_frame
from towline.core.inference import Request
from towline.core.manifest import Manifest
from towline.core.refs import Ref, parse_ref
from towline.core.runtime import TUNED, Runtime, this_machine
from towline.core.store import Store
from towline.core.version import Version, check_sealed
from towline.optimize.runtime import (
    Choice,
    Facts,
    Objective,
    Reading,
    Setting,
    batches_to_try,
    choice,
    finalists,
    flags,
    settings_to_try,
)

__all__ = ["Aim", "Reading", "Tuned", "tune"]

CLIENTS = (1, 8, 32)
BUDGET_S = 60.0
MOST_REQUESTS = 64
# Engines that a version can be published under: they run the very file that it has.
PUBLISHED = ("openvino",)
TURNS = 10
# With fewer, three turns in four say nothing; they are taken even when the time is up.
LEAST_TURNS = 4
# The share of all cores that others may use while ways are compared, before that is worth a word.
DISTURBING = 0.15
_LOOKING, _COMPARING = 0.3, 0.4
_SHORTEST_S, _LONGEST_S = 0.1, 1.0


@dataclass(frozen=True)
class Aim:
    """What is looked for: the most rows a second, or the shortest answer to a lone request; within a limit on the 99th percentile.

    `clients` ask at a time, the load that throughput is measured under; one alone is always among them. `engines` are further ones to
    try (app/tuning/engined.py), each where its environment is.
    """

    objective: Objective = "throughput"
    max_p99_ms: float | None = None
    clients: tuple[int, ...] = CLIENTS
    budget_s: float = BUDGET_S
    engines: tuple[str, ...] = ()

    @property
    def loads(self) -> tuple[int, ...]:
        return tuple(sorted({1, *self.clients}))


@dataclass(frozen=True)
class Tuned:
    """What was measured, and how the version is to be run here. `use` is zeros where the server's own way is kept.

    `readings` are those of the last round where a setting came that far. `refused` are settings that could not run, with the reason.
    """

    version: Version
    aim: Aim
    machine: dict[str, str | int]
    readings: tuple[Reading, ...]
    throughput: Choice
    latency: Choice
    refused: tuple[tuple[Setting, str], ...] = ()
    stopped: str = ""
    published: Version | None = None
    others_cores: float = 0.0

    @property
    def is_disturbed(self) -> bool:
        """Others used so much of the machine that it says how to share it, and not how to use it."""
        return self.others_cores > DISTURBING * int(self.machine["cores"])

    @property
    def chosen(self) -> Choice:
        return self.throughput if self.aim.objective == "throughput" else self.latency

    @property
    def use(self) -> Runtime:
        """What `towline serve` follows; another engine or device is the owner's to choose."""
        setting = self.chosen.setting
        return setting.runtime if not setting.engine and setting.device == "cpu" else Runtime()

    def as_json(self) -> dict[str, Any]:
        return {
            "machine": self.machine,
            "objective": self.aim.objective,
            "max_p99_ms": self.aim.max_p99_ms,
            "use": flags(self.use),
            "throughput": _choice_json(self.throughput),
            "latency": _choice_json(self.latency),
            "readings": [_reading_json(one) for one in self.readings],
            "refused": [{**_setting_json(setting), "because": because} for setting, because in self.refused],
            "stopped": self.stopped,
            "others_cores": round(self.others_cores, 2),
            "published": None if self.published is None else str(self.published),
        }


def tune(
    ref: str | Ref,
    *,
    data: str | Path | None = None,
    aim: Aim = Aim(),
    publish: bool = False,
    home: str | Path | None = None,
    say: Say | None = None,
) -> Tuned:
    """Measure the version `ref` in every way worth trying, and record what is best. Its requests are rows of `data`, else its golden ones.

    With `publish`, a version that is best under another engine is published as a new one that this engine runs, where it can be.
    Stopped by Ctrl-C or its budget it tells the best so far. Raises UsageError for a version that nothing can be asked of, VersionError
    for one that does not load.
    """
    if unknown := set(aim.engines) - set(ENGINES):
        raise UsageError(f"There is no engine '{min(unknown)[:32]}' to try.", hint=f"There is: {', '.join(ENGINES)}.")
    with opened_store(home) as store, ExitStack() as stages:
        version = store.version(ref if isinstance(ref, Ref) else parse_ref(ref))
        check_sealed(version.path, version.digest)
        settings = find_settings({"home": str(home) if home else None}).settings
        requests = _requests(version, None if data is None else Path(data), settings)
        search = _Search(version, requests, aim, settings, say or silent)
        try:
            for engine in aim.engines:
                search.try_engine(engine, stages.enter_context(store.stage()))
            asyncio.run(search.run())
        except KeyboardInterrupt:
            search.stopped = "It was interrupted."
        tuned = search.found()
        if tuned.readings:
            if publish and tuned.chosen.setting.engine in PUBLISHED:
                tuned = replace(tuned, published=_published(store, tuned, say or silent))
            facts = {"number": version.number, **tuned.as_json()}
            store.append(Event(TUNED, actor(), time.time(), name=version.name, digest=version.digest, data=facts))
    return tuned


def _published(store: Store, tuned: Tuned, say: Say) -> Version:
    """The version under the engine that is best, which is recorded to run as was measured."""
    from towline.serve.workers.local import LocalWorker

    version, chosen = tuned.version, tuned.chosen
    order = Order(store, version.name, None, actor(), f"tuned from {version}", LocalWorker.start, say)
    evidence = {"tuned_from": version.digest, **_choice_json(chosen)}
    made = publish_under(version, chosen.setting.engine, order, evidence, (chosen.because,)).version
    facts = {"number": made.number, "machine": tuned.machine, "use": flags(chosen.setting.runtime), "tuned_from": version.digest}
    store.append(Event(TUNED, actor(), time.time(), name=made.name, digest=made.digest, data=facts))
    return made


@dataclass
class _Search:
    version: Version
    requests: tuple[Request, ...]
    aim: Aim
    settings: Settings
    say: Say
    stopped: str = ""
    looked: list[Reading] = field(default_factory=list)
    windows: dict[tuple[Setting, int], list[Window]] = field(default_factory=dict)
    refused: list[tuple[Setting, str]] = field(default_factory=list)
    models: dict[str, Model] = field(default_factory=dict)
    others_cores: float = 0.0

    def try_engine(self, engine: str, into: Path) -> None:
        """Have the version ready for another engine, or note why not."""
        self.say(f"Preparing it for {engine}")
        try:
            made = under(self.version, engine, into, self.say)
        except TowlineError as error:
            self.refused.append((Setting(engine=engine), error.message))
            return
        asked = tuple(Request({made.names[name]: array for name, array in one.inputs.items()}) for one in self.requests)
        self.models[engine] = Model(into, folder_digest(into), asked)

    async def run(self) -> None:
        until_s = time.monotonic() + self.aim.budget_s
        own = replace(self.settings, isolation="process", threads=0, runs=0, instances=1, latency_slo_ms=0.0, device="cpu")
        press = Press({"": Model(self.version.path, self.version.digest, self.requests), **self.models}, own)
        try:
            await self._look(press, until_s)
            await self._compare(press, until_s)
        finally:
            await press.close()

    async def _look(self, press: Press, until_s: float) -> None:
        """At each setting once, under every load."""
        # What the server does by itself says what else is worth trying.
        await press.load([Setting()])
        manifest = self.version.manifest
        facts = Facts(
            usable_cores(),
            self.aim.loads[-1],
            press.runs_at_once(Setting()),
            manifest.batchable,
            is_handler=manifest.handler is not None,
            engines=tuple(self.models),
            devices=_further_devices(manifest),
        )
        some = settings_to_try(facts)
        window_s = _within(_LOOKING * self.aim.budget_s / (len(some) + 3) / len(self.aim.loads))
        for setting in some:
            if not await self._looked_at(press, setting, window_s, until_s):
                return
        for setting in batches_to_try(self.looked, facts, self.aim.max_p99_ms):
            if not await self._looked_at(press, setting, window_s, until_s):
                return

    async def _looked_at(self, press: Press, setting: Setting, window_s: float, until_s: float) -> bool:
        """False when the time is up."""
        if time.monotonic() > until_s - _COMPARING * self.aim.budget_s and setting != Setting():
            self.stopped = "The time was up before all was tried."
            return False
        self.say(f"Trying {setting.words()}")
        try:
            await press.load([setting])
            found = [reading([await press.window(setting, clients, window_s)]) for clients in self.aim.loads]
        except TowlineError as error:
            if setting == Setting():
                raise
            self.refused.append((setting, error.message))
        else:
            self.looked += found
        return True

    async def _compare(self, press: Press, until_s: float) -> None:
        """The best of them and the server's own way side by side, in changing order: only what ran side by side can be compared."""
        best = finalists(self.looked, self.aim.max_p99_ms)
        if len(best) == 1:
            return
        self.say(f"Comparing {len(best)} of them side by side")
        await press.load(best)
        loads = [(setting, clients) for clients in self.aim.loads for setting in best]
        window_s = _within(_COMPARING * self.aim.budget_s / TURNS / len(loads))
        before = look(press.cpu_s)
        for turn in range(TURNS):
            if turn >= LEAST_TURNS and time.monotonic() > until_s:
                break
            for setting, clients in loads if turn % 2 == 0 else reversed(loads):
                self.windows.setdefault((setting, clients), []).append(await press.window(setting, clients, window_s))
            self.others_cores = others_cores(before, look(press.cpu_s))

    def found(self) -> Tuned:
        closely = [reading(windows) for windows in self.windows.values()]
        compared = closely or [one for one in self.looked if one.setting == Setting()]
        known = {(one.setting, one.clients) for one in closely}
        others = [one for one in self.looked if (one.setting, one.clients) not in known]
        return Tuned(
            self.version,
            self.aim,
            this_machine(),
            (*closely, *others),
            choice(compared, "throughput", self.aim.max_p99_ms),
            choice(compared, "latency", self.aim.max_p99_ms),
            tuple(self.refused),
            self.stopped,
            others_cores=self.others_cores,
        )


def _further_devices(manifest: Manifest) -> tuple[str, ...]:
    """Those of ONNX Runtime beside the CPU, where it was built for any."""
    if manifest.engine != "onnxruntime":
        return ()
    from towline.engines.host import load_engine

    return tuple(device for device in load_engine(manifest.engine).devices() if device != "cpu")


def _within(seconds: float) -> float:
    return min(max(seconds, _SHORTEST_S), _LONGEST_S)


def _requests(version: Version, data: Path | None, settings: Settings) -> tuple[Request, ...]:
    """What clients ask: a row each. The rows of the golden request where no data is given; a version that is not batched gets it whole."""
    manifest = version.manifest
    if data is not None:
        rows = opened_data(data, manifest, labels_of(version, manifest), Options(limit=MOST_REQUESTS))
        return tuple(_request(rows.read(row, row + 1)) for row in range(rows.rows))
    if not manifest.golden:
        raise UsageError(
            f"{version} has no golden request, so nothing is known that it could be asked.", code="NO_REQUEST", hint="Give rows: --data"
        )
    golden = decode_frame((version.path / manifest.golden[0].request).read_bytes())
    if not manifest.batchable:
        return (_request(golden),)
    rows_there = min(len(array) for array in golden.values())
    return tuple(_request({name: array[row : row + 1] for name, array in golden.items()}) for row in range(min(rows_there, MOST_REQUESTS)))


def _request(inputs: dict[str, np.ndarray] | Any) -> Request:
    return Request({name: np.ascontiguousarray(array) for name, array in inputs.items()})


def _choice_json(one: Choice) -> dict[str, Any]:
    return {**_setting_json(one.setting), "because": one.because, "gain": round(one.gain, 3)}


def _setting_json(setting: Setting) -> dict[str, Any]:
    return {"engine": setting.engine, "device": setting.device, **asdict(setting.runtime)}


def _reading_json(one: Reading) -> dict[str, Any]:
    return {
        **_setting_json(one.setting),
        "clients": one.clients,
        "rows_per_s": round(one.rows_per_s, 1),
        "p50_ms": round(one.p50_ms, 4),
        "p99_ms": round(one.p99_ms, 4),
        "cpu_us": round(one.cpu_us, 1),
        "memory_bytes": one.memory_bytes,
        "turns": len(one.turns_rows_per_s),
    }
