"""mosec: its Rust front and one Python worker."""

from __future__ import annotations

import bodies
from against.peer import Peer, Request, Setting, Start, environment
from models import CNN, MLP


def start(setting: Setting) -> Start:
    dialect = {"DIALECT": "raw" if setting.model.name == CNN else "json"}
    flags = ["--address", "127.0.0.1", "--port", str(setting.port), "--log-level", "warning", "--path", str(setting.folder / "sockets")]
    return Start([str(setting.python), str(PEER.home / "app.py"), *flags], environment(setting, "mosec") | dialect)


PEER = Peer(
    name="mosec",
    folder="mosec",
    packages=("mosec",),
    start=start,
    requests={MLP: Request("/inference", bodies.row), CNN: Request("/inference", bodies.raw)},
    batches=True,
)
