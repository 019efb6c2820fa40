"""Every peer, batching off and on, in turn: start it, load it at each number of clients, look at its memory, stop it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import contender
import processes
from against.peer import Peer
from contender import NotMeasured
from environments import Environment
from models import MLP, Model
from processes import Memory
from wrk import Sample

HTTP, GRPC = "HTTP", "gRPC"


@dataclass(frozen=True)
class Row:
    """One way to run one peer."""

    peer: Peer
    model: str
    protocol: str = HTTP
    batching: bool = False

    @property
    def name(self) -> str:
        return f"{self.peer.name}, batching" if self.batching else self.peer.name

    @property
    def table(self) -> tuple[str, str]:
        """Rows of one table are compared with each other."""
        return self.model, self.protocol


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
    """Seconds are of one load; a warm-up of `warm_s` comes before each."""

    clients: dict[str, Sequence[int]]
    seconds: int
    warm_s: int
    rounds: dict[str, int]


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


def measure(
    wanted: Sequence[Row], environments: dict[str, Environment], models: dict[str, Model], folder: Path, plan: Plan
) -> list[Outcome]:
    """Round by round; a row that failed once is not tried again."""
    visits: dict[Row, list[Visit]] = {row: [] for row in wanted}
    problems = {row: environments[row.peer.folder].problem for row in wanted}
    for number in range(max(plan.rounds.values())):
        due = [row for row in wanted if number < plan.rounds[row.model] and not problems[row]]
        # Every second round backwards, so that nobody always runs after the same neighbour.
        for row in due if number % 2 == 0 else due[::-1]:
            place = folder / f"{number}-{wanted.index(row)}"
            try:
                visits[row].append(visit(row, number, models[row.model], environments[row.peer.folder].python, place, plan))
            except NotMeasured as error:
                problems[row] = str(error)
                print(f"  round {number + 1}  {row.model} {row.protocol}  {row.name:<28}  not measured: {error}", file=sys.stderr)
    return [Outcome(row, visits[row], problems[row], environments[row.peer.folder]) for row in wanted]


def visit(row: Row, number: int, model: Model, python: Path, place: Path, plan: Plan) -> Visit:
    """Raises NotMeasured."""
    server_core, load_core = processes.cores()
    how = {"batching": row.batching, "over_grpc": row.protocol == GRPC}
    with contender.started(row.peer, model, python, place, cores=server_core, **how) as one:
        load = {}
        for clients in plan.clients[row.model]:
            if plan.warm_s:
                one.drive(clients=clients, seconds=plan.warm_s, cores=load_core)
            load[clients] = one.drive(clients=clients, seconds=plan.seconds, cores=load_core)
        seen = Visit(number, one.start_s, load, processes.memory(one.server))
    told = "  ".join(f"{clients}: {sample.cpu_us:,.0f} us {sample.requests_per_s:,.0f}/s" for clients, sample in load.items())
    print(f"  round {number + 1}  {row.model} {row.protocol}  {row.name:<28}  {seen.start_s:5.1f} s  {told}", file=sys.stderr)
    return seen
