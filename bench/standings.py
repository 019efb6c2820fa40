"""Who stands where: every row's figures, its ratios to the floor and to Towline, and what Towline does not lead. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from figures import Figures, figures
from matrix import GRPC, HTTP, Matrix, Outcome, Row
from models import MLP

TOWLINE, BARE, GRPC_FLOOR = "Towline", "bare server", "grpc.aio, plain handler"
# Smaller differences between single runs mean nothing.
SAME_WITHIN = 1.05


@dataclass(frozen=True)
class Standing:
    """One row. `load` and `to_towline` (processor time per request) are by number of clients; a row that was not measured has neither,
    and says why in `problem`. Start is the least seen; memory in bytes after the load, its median."""

    name: str
    peer: str
    model: str
    protocol: str
    batching: bool
    problem: str = ""
    note: str = ""
    load: dict[int, Figures] = field(default_factory=dict)
    to_towline: dict[int, float] = field(default_factory=dict)
    start_s: float = 0.0
    rss_bytes: int = 0
    pss_bytes: int = 0
    processes: int = 0
    install_bytes: int = 0
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def is_ours(self) -> bool:
        return self.peer.startswith(TOWLINE)

    @property
    def is_floor(self) -> bool:
        return self.peer in (BARE, GRPC_FLOOR)


def standings(matrix: Matrix) -> list[Standing]:
    """In the order of the outcomes."""
    costs = {outcome.row: _costs(outcome) for outcome in matrix.outcomes}
    return [_standing(outcome, _floor(outcome.row, costs, matrix), _reference(outcome.row, costs)) for outcome in matrix.outcomes]


# CPU per request in microseconds, by round and number of clients.
Costs = dict[tuple[int, int], float]


def _costs(outcome: Outcome) -> Costs:
    return {(visit.round, clients): sample.cpu_us for visit in outcome.visits for clients, sample in visit.load.items()}


def _floor(row: Row, costs: dict[Row, Costs], matrix: Matrix) -> Costs:
    """The bare server's and the plain gRPC handler's cost; for another model that of ONNX Runtime alone, whatever the clients."""
    name = GRPC_FLOOR if row.protocol == GRPC else BARE
    found = [cost for other, cost in costs.items() if other.peer.name == name and _same_table(other, row)]
    if found:
        return found[0]
    raw = matrix.raw_us.get(row.model, ()) if row.model != MLP else ()
    return {(number, clients): raw[number] for number, clients in costs[row] if number < len(raw)}


def _reference(row: Row, costs: dict[Row, Costs]) -> Costs:
    found = [cost for other, cost in costs.items() if other.peer.name == TOWLINE and _same_table(other, row)]
    return found[0] if found else {}


def _same_table(one: Row, other: Row) -> bool:
    return (one.model, one.protocol) == (other.model, other.protocol)


def _standing(outcome: Outcome, floor: Costs, reference: Costs) -> Standing:
    row, visits, place = outcome.row, outcome.visits, outcome.environment
    known = Standing(
        *(row.name, row.peer.name, row.model, row.protocol, row.batching),
        problem=outcome.problem,
        note=row.peer.note,
        install_bytes=place.size_bytes,
        versions=place.versions,
    )
    # A row that failed in a later round is not measured: what it did before is no whole run.
    if outcome.problem or not visits:
        return known
    load = {
        clients: figures([visit.load[clients] for visit in visits], [floor.get((visit.round, clients)) for visit in visits])
        for clients in visits[0].load
    }
    to_towline = {}
    for clients in load:
        pairs = [(visit.load[clients].cpu_us, reference.get((visit.round, clients))) for visit in visits]
        if ratios := [mine / ours for mine, ours in pairs if ours]:
            to_towline[clients] = statistics.median(ratios)
    return Standing(
        *(known.name, known.peer, known.model, known.protocol, known.batching),
        note=known.note,
        load=load,
        to_towline=to_towline,
        start_s=min(visit.start_s for visit in visits),
        rss_bytes=int(statistics.median(visit.memory.rss_bytes for visit in visits)),
        pss_bytes=int(statistics.median(visit.memory.pss_bytes for visit in visits)),
        processes=max(visit.memory.processes for visit in visits),
        install_bytes=known.install_bytes,
        versions=known.versions,
    )


def goal_figures(found: Sequence[Standing]) -> dict[str, float]:
    """What PEER_GOALS are about: the tiny model over HTTP. Absent where nobody was measured."""
    table = [one for one in found if (one.model, one.protocol) == (MLP, HTTP) and one.load]
    ours = next((one for one in table if one.peer == TOWLINE), None)
    peers = [one for one in table if not one.is_ours and not one.is_floor]
    figures_found: dict[str, float] = {}
    if ours is None or not peers:
        return figures_found
    for clients, mine in ours.load.items():
        theirs = [(peer.batching, peer.load[clients]) for peer in peers]
        for key, batching in (("tuned_rate", True), ("untuned_rate", False)):
            rates = [one.requests_per_s for tuned, one in theirs if tuned is batching]
            if rates:
                figures_found[f"{key}_{clients}"] = mine.requests_per_s / max(rates)
        figures_found[f"best_cpu_{clients}"] = min(one.cpu_us for _, one in theirs) / mine.cpu_us
        figures_found[f"best_p50_{clients}"] = min(one.p50_us for _, one in theirs) / mine.p50_us
    figures_found["failed"] = sum(one.failed for standing in found if standing.is_ours for one in standing.load.values())
    return figures_found


@dataclass(frozen=True)
class Lag:
    """A column in which somebody is ahead of Towline: by `factor`, above 1."""

    model: str
    protocol: str
    column: str
    leader: str
    factor: float


def lags(found: Sequence[Standing]) -> list[Lag]:
    """Columns that Towline does not lead, with the one who leads. Floors and Towline's own other rows do not compete."""
    listed = []
    for ours in (one for one in found if one.peer == TOWLINE and one.load):
        peers = [one for one in found if (one.model, one.protocol) == (ours.model, ours.protocol) and one.load]
        peers = [one for one in peers if not one.is_ours and not one.is_floor]
        mine = dict(_columns(ours))
        for column in mine:
            theirs = [(dict(_columns(peer))[column], peer.name) for peer in peers if column in dict(_columns(peer))]
            if theirs and (best := min(theirs))[0] * SAME_WITHIN < mine[column]:
                listed.append(Lag(ours.model, ours.protocol, column, best[1], mine[column] / best[0]))
    return listed


def _columns(one: Standing) -> Iterator[tuple[str, float]]:
    """Every column so that less is better, and never zero."""
    for clients, seen in one.load.items():
        at = f"{clients} client{'s' if clients > 1 else ''}"
        yield f"processor time per request, {at}", seen.cpu_us
        if seen.requests_per_s:
            yield f"requests/s, {at}", 1 / seen.requests_per_s
        yield f"p50, {at}", max(seen.p50_us, 1)
        yield f"p99, {at}", max(seen.p99_us, 1)
    yield "start", one.start_s
    yield "memory", one.pss_bytes
    yield "size of the installation", one.install_bytes
