"""Ray Serve on a cluster of one machine, without its dashboard."""

from __future__ import annotations

import bodies
from against.peer import Peer, Request, Setting, Start, environment
from models import CNN, MLP


def start(setting: Setting) -> Start:
    quiet = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DISABLE_DOCKER_CPU_WARNING": "1", "RAY_FOLDER": str(setting.folder)}
    return Start([str(setting.python), str(PEER.home / "app.py")], environment(setting, "ray") | quiet)


PEER = Peer(
    name="Ray Serve",
    folder="ray",
    packages=("ray",),
    start=start,
    requests={MLP: Request("/predict", bodies.row), CNN: Request("/predict", bodies.raw)},
    batches=True,
)
