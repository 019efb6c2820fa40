"""FastAPI on uvicorn with uvloop and httptools, one process."""

from __future__ import annotations

import bodies
from against.peer import Peer, Request, Setting, Start, environment
from models import CNN, MLP


def start(setting: Setting) -> Start:
    flags = ["--host", "127.0.0.1", "--port", str(setting.port), "--log-level", "warning", "--no-access-log"]
    return Start([str(setting.python), "-m", "uvicorn", "app:app", *flags], environment(setting, "fastapi"))


PEER = Peer(
    name="FastAPI + uvicorn",
    folder="fastapi",
    packages=("fastapi", "uvicorn"),
    start=start,
    requests={MLP: Request("/predict", bodies.instances), CNN: Request("/raw", bodies.raw)},
)
