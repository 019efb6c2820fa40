"""The floor for large tensors: bare_image_server.py, in Towline's own environment, with a thread for each core it may use."""

from __future__ import annotations

import os

import bodies
from against.peer import HERE, Peer, Request, Setting, Start
from models import CNN


def start(setting: Setting) -> Start:
    # It starts on the cores it is given, and this process may use all of them.
    threads = len(os.sched_getaffinity(0))
    return Start([str(setting.python), str(HERE / "bare_image_server.py"), str(setting.port), str(setting.model.path), str(threads)])


PEER = Peer(
    name="bare image server",
    folder="bare_images",
    packages=("uvloop", "onnxruntime"),
    start=start,
    requests={CNN: Request("/", bodies.raw)},
    note="the floor for large tensors: no limits, no checks, no isolation",
)
