"""Every peer, batching off and on, in turn: start it, load it at each number of clients, look at its memory, stop it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import contender
import processes
import raw
from against.peer import Peer
from contender import NotMeasured
from environments import Environment
from models import MLP, Model
from processes import Memory
from wrk import Sample

HTTP, GRPC = "HTTP", "gRPC"


def named(peer: str, *, batching: bool) -> str:
    return f"{peer}, batching" if batching else peer


@dataclass(frozen=True)
class Row:
    """One way to run one peer."""

    peer: Peer
    model: str
    protocol: str = HTTP
    batching: bool = False

    @property
    def name(self) -> str:
        return named(self.peer.name, batching=self.batching)


@dataclass(frozen=True)
class Visit:
    """One start of one row. `load` is by number of clients; `memory` was read after the load."""

    round: int
    start_s: float
    load: dict[int, Sample]
    memory: Memory


@dataclass(frozen=True)
class Outcome:
    """All visits of a row; `problem` says why there are none, or no more."""

    row: Row
    visits: Sequence[Visit] = ()
    problem: str = ""
    environment: Environment = field(default_factory=lambda: Environment(Path()))


@dataclass(frozen=True)
class Plan:
    """Clients, seconds of one load, and rounds, by model. A start is warmed up for `warm_s` before it is measured."""

    clients: dict[str, Sequence[int]]
    seconds: dict[str, int]
    rounds: dict[str, int]
    warm_s: int = 3


@dataclass(frozen=True)
class Matrix:
    """`raw_us` is the processor time of one bare `session.run` of each model, round by round."""

    outcomes: Sequence[Outcome]
    raw_us: dict[str, Sequence[float]]


def rows(peers: Sequence[Peer], models: Sequence[str], protocols: Sequence[str]) -> list[Row]:
    """What can be measured of these peers. Pure."""
    found = []
    for model in models:
        if HTTP in protocols:
            asked = [peer for peer in peers if model in peer.requests]
            found += [Row(peer, model, batching=batching) for peer in asked for batching in ((False, True) if peer.batches else (False,))]
        if GRPC in protocols and model == MLP:
            found += [Row(peer, model, GRPC) for peer in peers if peer.grpc_path]
    return found


def measure(wanted: Sequence[Row], environments: dict[str, Environment], models: dict[str, Model], folder: Path, plan: Plan) -> Matrix:
    """Round by round, every row once in each; a row that failed is not tried again."""
    visits: dict[Row, list[Visit]] = {row: [] for row in wanted}
    problems = {row: environments[row.peer.folder].problem for row in wanted}
    raw_us: dict[str, list[float]] = {name: [] for name in models}
    for number in range(max(plan.rounds[row.model] for row in wanted)):
        due = [row for row in wanted if number < plan.rounds[row.model] and not problems[row]]
        for name in sorted({row.model for row in due}):
            raw_us[name].append(raw.loop(models[name], plan.seconds[name], processes.cores()[0]).cpu_us)
        # Every second round backwards, so that nobody always runs after the same neighbour.
        for row in due if number % 2 == 0 else due[::-1]:
            place = folder / f"{number}-{wanted.index(row)}"
            try:
                visits[row].append(visit(row, number, models[row.model], environments[row.peer.folder].python, place, plan))
                say = _told(visits[row][-1])
            except NotMeasured as error:
                problems[row], say = str(error), f"not measured: {error}"
            print(f"  round {number + 1}  {row.model} {row.protocol}  {row.name:<34}  {say}", file=sys.stderr, flush=True)
    return Matrix([Outcome(row, visits[row], problems[row], environments[row.peer.folder]) for row in wanted], dict(raw_us))


def visit(row: Row, number: int, model: Model, python: Path, place: Path, plan: Plan) -> Visit:
    """Raises NotMeasured."""
    server_core, load_core = processes.cores()
    clients, seconds = plan.clients[row.model], plan.seconds[row.model]
    how = {"batching": row.batching, "over_grpc": row.protocol == GRPC}
    with contender.started(row.peer, model, python, place, cores=server_core, **how) as one:
        if warm_s := plan.warm_s and max(plan.warm_s, row.peer.warm_s):
            one.drive(clients=clients[len(clients) // 2], seconds=warm_s, cores=load_core)
        load = {count: one.drive(clients=count, seconds=seconds, cores=load_core) for count in clients}
        return Visit(number, one.start_s, load, processes.memory(one.server))


def _told(seen: Visit) -> str:
    load = "  ".join(f"{clients}: {sample.cpu_us:,.0f} us {sample.requests_per_s:,.0f}/s" for clients, sample in seen.load.items())
    return f"{seen.start_s:5.1f} s  {load}"
