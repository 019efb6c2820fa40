"""LitServe: one API server process, one worker process."""

from __future__ import annotations

import bodies
from against.peer import Peer, Request, Setting, Start, environment
from models import CNN, MLP


def start(setting: Setting) -> Start:
    dialect = {"DIALECT": "file" if setting.model.name == CNN else "json"}
    return Start([str(setting.python), str(PEER.home / "app.py")], environment(setting, "litserve") | dialect)


PEER = Peer(
    name="LitServe",
    folder="litserve",
    packages=("litserve",),
    start=start,
    requests={MLP: Request("/predict", bodies.row), CNN: Request("/predict", bodies.multipart)},
    batches=True,
    note="the image as a multipart file",
)
