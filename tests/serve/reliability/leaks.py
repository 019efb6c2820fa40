"""Load and unload versions again and again, and count what a server is left with."""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from known_models import mlp_asks

from towline.app.changing import set_alias
from towline.app.importing.model import import_model
from towline.testing import tiny_models
from towline.testing.server import RunningServer

MIB = 1 << 20
# Ten inputs and outputs: about 4 MB of weights.
WIDTH = 50_000
_STEADY_S = 0.3
MODELS = (tiny_models.mlp(width=WIDTH, seed=1), tiny_models.mlp(width=WIDTH, seed=2))


@dataclass(frozen=True)
class Belongings:
    """What a server has. `rss_bytes` of front and supervisor; `descriptors` by kind, of both and of the fork server."""

    rss_bytes: int
    descriptors: Counter[str]
    processes: int
    shared_segments: frozenset[str]

    def more_than(self, before: Belongings) -> dict[str, object]:
        """What there is now and was not before, memory aside."""
        more: dict[str, object] = dict(self.descriptors - before.descriptors)
        if self.processes > before.processes:
            more["processes"] = self.processes - before.processes
        if self.shared_segments - before.shared_segments:
            more["segments"] = self.shared_segments - before.shared_segments
        return more


def belongings(server: RunningServer) -> Belongings:
    pids = server.pids()
    owners = (*pids["supervisor"], *pids["front"], *pids["fork-server"], *pids["controller"])
    descriptors = Counter(f"{role}: {kind}" for role in ("supervisor", "front", "fork-server") for kind in _kinds(pids[role][0]))
    rss_bytes = sum(server.rss_bytes(pid) for pid in (server.front_pid, server.pid))
    assert len(owners) == 4
    return Belongings(rss_bytes, descriptors, sum(map(len, pids.values())), frozenset(os.listdir("/dev/shm")))


def _kinds(pid: int) -> list[str]:
    """`socket`, `/memfd:towline-inputs`, …: what each descriptor is, without its number."""
    kinds = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            kinds.append(re.sub(r":\[\d+\]| \(deleted\)", "", os.readlink(link)))
        except FileNotFoundError:
            continue
    return kinds


def prepare(folder: Path) -> Path:
    """A home with two versions of one model of 4 MB, and the alias `live` at the first."""
    home = folder / "home"
    for number, model in enumerate(MODELS, 1):
        import_model(tiny_models.write(folder, model, f"{number}.onnx"), name="wide", home=home)
    set_alias("wide:1", "live", home=home)
    return home


def swap(server: RunningServer, times: int) -> None:
    """Serve the other version, `times` times; each unloads the one before, and answers once."""
    for turn in range(times):
        number = 2 - turn % 2
        set_alias(f"wide:{number}", "live", home=server.home)
        server.wait_until(lambda number=number: _only_ready(server) == number)
        ask = mlp_asks("wide", MODELS[number - 1], count=1)[0]
        assert ask.check(*server.post(ask.path, ask.body)) == ""


def _only_ready(server: RunningServer) -> int:
    models = server.state()["models"]
    return int(models[0]["version"]) if len(models) == 1 and models[0]["state"] == "ready" else 0


def settled(server: RunningServer, before: Belongings | None = None) -> Belongings:
    """What it has once those that were told to end have ended: connections, and workers but one that serves and one that is spare.

    `before`: waits up to a minute for nothing more to be there; what is still there is then in the answer.
    """
    until = time.monotonic() + 60
    last = belongings(server)
    while True:
        time.sleep(_STEADY_S)
        now = belongings(server)
        # One that ends and a spare that is still to come would add up to the right number: it must also stay so.
        is_steady = (now.descriptors, now.processes) == (last.descriptors, last.processes) and len(server.pids()["worker"]) == 2
        if (is_steady and (before is None or not now.more_than(before))) or time.monotonic() > until:
            return now
        last = now
