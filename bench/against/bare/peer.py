"""The floor: bare_server.py, with no safety of any kind, in Towline's own environment."""

from __future__ import annotations

import bodies
from against.peer import HERE, Peer, Request, Setting, Start
from models import MLP


def start(setting: Setting) -> Start:
    return Start([str(setting.python), str(HERE / "bare_server.py"), str(setting.port), str(setting.model.path)])


PEER = Peer(
    name="bare server",
    folder="bare",
    packages=("httptools", "uvloop", "onnxruntime"),
    start=start,
    requests={MLP: Request(f"/v1/models/{MLP}:predict", bodies.instances)},
    note="the floor: no limits, no checks, no isolation",
)
