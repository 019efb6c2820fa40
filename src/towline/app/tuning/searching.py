"""Try ways of running a version within a budget: each once, and the best of them side by side with the server's own."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from pathlib import Path

from towline.app.judging.judge import Say
from towline.app.tuning.engined import under
from towline.app.tuning.neighbours import look, others_cores
from towline.app.tuning.pressing import Model, Press, Window, reading
from towline.app.tuning.tuned import Aim, Tuned
from towline.core.config import Settings
from towline.core.cpu import usable_cores
from towline.core.digest import folder_digest
from towline.core.errors import TowlineError
from towline.core.inference import Request
from towline.core.manifest import Manifest
from towline.core.runtime import this_machine
from towline.core.version import Version
from towline.optimize.runtime import Facts, Reading, Setting, batches_to_try, choice, finalists, settings_to_try

TURNS = 10
# With fewer, three turns in four say nothing; they are taken even when the time is up.
LEAST_TURNS = 4
_LOOKING, _COMPARING = 0.3, 0.4
_SHORTEST_S, _LONGEST_S = 0.1, 1.0


@dataclass
class Search:
    """One version, and what was seen of it so far: `found` may be asked at any moment."""

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
    from towline.engines.loading import load_engine

    return tuple(device for device in load_engine(manifest.engine).devices() if device != "cpu")


def _within(seconds: float) -> float:
    return min(max(seconds, _SHORTEST_S), _LONGEST_S)
