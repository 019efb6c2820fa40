"""What tuning looks for, and what it found: values, and their JSON. Pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from towline.core.runtime import Runtime
from towline.core.version import Version
from towline.optimize.runtime import Choice, Objective, Reading, Setting, flags

CLIENTS = (1, 8, 32)
BUDGET_S = 60.0
# The share of all cores that others may use while ways are compared, before that is worth a word.
DISTURBING = 0.15


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


USUAL = Aim()


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
            "throughput": choice_json(self.throughput),
            "latency": choice_json(self.latency),
            "readings": [_reading_json(one) for one in self.readings],
            "refused": [{**_setting_json(setting), "because": because} for setting, because in self.refused],
            "stopped": self.stopped,
            "others_cores": round(self.others_cores, 2),
            "published": None if self.published is None else str(self.published),
        }


def choice_json(one: Choice) -> dict[str, Any]:
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
