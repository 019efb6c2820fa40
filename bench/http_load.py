"""The tiny model over TF Serving JSON: Towline, the bare server, FastAPI and Flask in turn, all started together on one core."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import contender
import processes
import raw
from against.bare.peer import PEER as BARE
from against.fastapi.peer import PEER as FASTAPI
from against.flask.peer import PEER as FLASK
from against.peer import Peer
from against.towline.peer import PEER as TOWLINE
from contender import Contender
from figures import Figures, figures
from models import Model
from wrk import Sample


def measure(
    model: Model, folder: Path, peers: Path, clients: Sequence[int], rounds: int, seconds: int
) -> tuple[dict[int, dict[str, Figures]], list[float]]:
    """({clients: {server: figures}}, microseconds per run of the raw `session.run` loop, one per round). `peers` is the peers' python."""
    server_core, _ = processes.cores()
    own = Path(sys.executable)
    with started([(BARE, own), (TOWLINE, own), (FASTAPI, peers), (FLASK, peers)], model, folder / "http", cores=server_core) as running:
        seen, floor_us = {}, []
        for number in range(rounds):
            floor_us.append(raw.loop(model, seconds, server_core).cpu_us)
            visit(running, seen, clients, seconds, number)
    return summary(seen, running, clients, BARE.name), floor_us


@contextmanager
def started(
    wanted: Sequence[tuple[Peer, Path]], model: Model, folder: Path, *, cores: set[int], over_grpc: bool = False
) -> Iterator[list[Contender]]:
    """All of them at once, each found to answer rightly. Raises NotMeasured."""
    folder.mkdir()
    with ExitStack() as stack:
        yield [
            stack.enter_context(contender.started(peer, model, python, folder / str(number), cores=cores, over_grpc=over_grpc))
            for number, (peer, python) in enumerate(wanted)
        ]


def visit(
    running: Sequence[Contender], seen: dict[tuple[int, str], list[Sample]], clients: Sequence[int], seconds: int, number: int
) -> None:
    """One round; what was seen is added to `seen`, by clients and server."""
    _, load_core = processes.cores()
    for count in clients:
        # Every second round backwards, so that nobody always runs after the same neighbour.
        for one in running if number % 2 == 0 else running[::-1]:
            sample = one.drive(clients=count, seconds=seconds, cores=load_core)
            seen.setdefault((count, one.peer.name), []).append(sample)
            say = f"{one.peer.name:<24} {count:>3} clients  {sample.cpu_us:8.1f} us CPU  {sample.requests_per_s:9,.0f} requests/s"
            print(f"  round {number + 1}  {say}", file=sys.stderr)


def summary(
    seen: dict[tuple[int, str], list[Sample]], running: Sequence[Contender], clients: Sequence[int], floor: str
) -> dict[int, dict[str, Figures]]:
    names = [one.peer.name for one in running]
    return {count: {name: figures(seen[count, name], [one.cpu_us for one in seen[count, floor]]) for name in names} for count in clients}
