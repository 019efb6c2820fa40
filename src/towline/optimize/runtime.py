"""Which ways of running a version are worth trying on a machine, which of them to measure closely, and which is best. Pure.

What the order comes from, measured on convolutional networks and tiny ones: where a run takes milliseconds, one thread per run and a run
per core answer the most rows; more threads per run answer a lone request sooner; where a run takes microseconds, neither helps, and only
how many rows share a run counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median, quantiles
from typing import Literal

from towline.core.runtime import UNTUNED, Runtime

Objective = Literal["throughput", "latency"]

# Measured side by side, a few per cent are noise: three turns in four must show this much.
SURELY = 1.05
# How many of the best by each yardstick are measured closely.
CLOSELY = 2
# Rows that may share a run: those beyond what clients can send at once are never reached.
BATCHES = (1, 4, 16, 64)


@dataclass(frozen=True)
class Setting:
    """A way of running a version: by which engine, on which device, and how. `runtime` is zeros where the server is to decide."""

    runtime: Runtime = UNTUNED
    engine: str = ""
    device: str = "cpu"

    def words(self) -> str:
        """In one line, for people."""
        told = [f"{value} {name if value > 1 else name[:-1]}" for name, value in _counts(self.runtime) if value]
        told += [f"up to {self.runtime.max_batch} rows a run"] if self.runtime.max_batch else []
        place = [one for one in (self.engine, self.device if self.device != "cpu" else "") if one]
        return ", ".join([*place, *told]) or "as the server decides"


def _counts(runtime: Runtime) -> Iterable[tuple[str, int]]:
    return (("threads", runtime.threads), ("runs", runtime.runs), ("instances", runtime.instances))


@dataclass(frozen=True)
class Facts:
    """What the choice depends on. `engines` are further ones that have this version loaded, `devices` those that the engine has beside the
    CPU; `runs` is how many the server would let run at once by itself, `clients` the most that ask at a time."""

    cores: int
    clients: int
    runs: int
    batchable: bool
    is_handler: bool = False
    engines: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reading:
    """One setting under one load: `clients` ask for a row each, one request after another. A value for each turn, the others over all.

    Rows a second, milliseconds, microseconds of processor time of the workers per row, bytes that they hold.
    """

    setting: Setting
    clients: int
    rows_per_s: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    memory_bytes: int
    turns_rows_per_s: tuple[float, ...] = ()
    turns_p50_ms: tuple[float, ...] = ()


def settings_to_try(facts: Facts) -> tuple[Setting, ...]:
    """Beginning with the server's own way. Further engines and devices are tried in the two ways that matter most."""
    cores = facts.cores
    if facts.is_handler:
        # How many of its calls may run at once, a handler says itself.
        return tuple(dict.fromkeys((Setting(), *(Setting(Runtime(instances=many)) for many in _powers(cores) if many > 1))))
    shapes = {(1, 1, 1), *((threads, max(1, cores // threads), 1) for threads in _powers(cores))}
    if cores > 1:
        # A pool of threads that all runs share: more of them than cores, but a lone request gets them all. And two workers.
        shapes |= {(cores, cores, 1), (1, max(1, cores // 2), 2)}
    own = (1, facts.runs, 1)
    found = [Setting()]
    found += [Setting(_runtime(*shape)) for shape in sorted(shapes, key=lambda one: (one[2], one[0], -one[1])) if shape != own]
    for engine in facts.engines:
        found += [Setting(_runtime(*shape), engine) for shape in dict.fromkeys(((1, cores, 1), (cores, 1, 1)))]
    return (*found, *(Setting(_runtime(1, runs, 1), device=device) for device in facts.devices for runs in (1, 2)))


def batches_to_try(readings: Sequence[Reading], facts: Facts, max_p99_ms: float | None) -> tuple[Setting, ...]:
    """The setting with the most throughput again, with bounds on the rows of a run; nothing for what never shares one."""
    best = most(readings, max_p99_ms) or most(readings, None)
    if best is None or not facts.batchable:
        return ()
    return tuple(
        replace(best.setting, runtime=replace(best.setting.runtime, max_batch=rows))
        for rows in BATCHES
        if rows == 1 or rows < facts.clients
    )


def finalists(readings: Sequence[Reading], max_p99_ms: float | None) -> tuple[Setting, ...]:
    """The server's own way, and the best by either yardstick: those that one look could not tell apart. Dominated ones are left out."""
    by_rows = _ranked((one for one in readings if _keeps(one, max_p99_ms)), lambda one: -one.rows_per_s)
    by_time = _ranked((one for one in readings if one.clients == 1), lambda one: one.p50_ms)
    return tuple(dict.fromkeys((Setting(), *by_rows[:CLOSELY], *by_time[:CLOSELY])))


def most(readings: Iterable[Reading], max_p99_ms: float | None) -> Reading | None:
    """The most rows a second, of those that keep the limit; of equals the one that holds less memory."""
    return max(
        (one for one in readings if _keeps(one, max_p99_ms)),
        key=lambda one: (one.rows_per_s, -one.memory_bytes, -one.clients),
        default=None,
    )


def soonest(readings: Iterable[Reading]) -> Reading | None:
    """The shortest median for a lone request."""
    return min((one for one in readings if one.clients == 1), key=lambda one: (one.p50_ms, one.memory_bytes), default=None)


@dataclass(frozen=True)
class Choice:
    """What to run by, and why. `gain`: how many times as good as the server's own way, in the middle of the turns; 1 where that is kept."""

    setting: Setting
    because: str
    gain: float = 1.0


def choice(readings: Sequence[Reading], objective: Objective, max_p99_ms: float | None) -> Choice:
    """The best of what was measured side by side, if it is surely better than the server's own way; else that."""
    own = [one for one in readings if one.setting == Setting()]
    best = most(readings, max_p99_ms) if objective == "throughput" else soonest(readings)
    usual = most(own, max_p99_ms) if objective == "throughput" else soonest(own)
    if best is None:
        return Choice(Setting(), f"Nothing that was measured keeps {max_p99_ms:g} ms." if max_p99_ms else "Nothing was measured.")
    if usual is None:
        return Choice(
            best.setting, f"The server's own way does not keep {max_p99_ms:g} ms." if max_p99_ms else "Only this could be measured."
        )
    if best.setting == usual.setting:
        return Choice(Setting(), "The server's own way is the best that was measured.")
    middle, sure = gains(usual, best, objective)
    if sure < SURELY:
        return Choice(Setting(), f"{best.setting.words()}: {middle:.2f}x, which is not sure enough.", middle)
    return Choice(best.setting, f"{middle:.2f}x the server's own way; {sure:.2f}x in three turns of four.", middle)


def gains(usual: Reading, other: Reading, objective: Objective) -> tuple[float, float]:
    """How many times as good the other is, turn by turn: in the middle, and what three turns in four reach."""
    if objective == "throughput":
        ratios = [mine / yours for mine, yours in zip(other.turns_rows_per_s, usual.turns_rows_per_s, strict=False)]
    else:
        ratios = [yours / mine for mine, yours in zip(other.turns_p50_ms, usual.turns_p50_ms, strict=False)]
    if len(ratios) < 2:
        return (ratios[0], 0.0) if ratios else (1.0, 0.0)
    return median(ratios), quantiles(ratios, n=4, method="inclusive")[0]


def flags(runtime: Runtime) -> Mapping[str, int]:
    """The settings of `towline serve` that ask for the same, where it follows no tuning."""
    told = {"threads": runtime.threads, "runs": runtime.runs, "instances": runtime.instances, "max_batch": runtime.max_batch}
    return {name: value for name, value in told.items() if value}


def _keeps(one: Reading, max_p99_ms: float | None) -> bool:
    return max_p99_ms is None or one.p99_ms <= max_p99_ms


def _ranked(readings: Iterable[Reading], key: object) -> list[Setting]:
    return list(dict.fromkeys(one.setting for one in sorted(readings, key=key)))  # type: ignore[call-overload]


def _runtime(threads: int, runs: int, instances: int) -> Runtime:
    return Runtime(threads=threads, runs=runs, instances=instances)


def _powers(cores: int) -> tuple[int, ...]:
    """1, 2, 4, … and the number of cores itself."""
    found = [1]
    while found[-1] * 2 <= cores:
        found.append(found[-1] * 2)
    return tuple(dict.fromkeys((*found, cores)))
