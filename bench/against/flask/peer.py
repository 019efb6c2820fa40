"""Flask on gunicorn: one worker process for the one core, threads for the clients."""

from __future__ import annotations

import bodies
from against.peer import Peer, Request, Setting, Start, environment
from models import CNN, MLP


def start(setting: Setting) -> Start:
    flags = ["--workers", "1", "--threads", "32", "--bind", f"127.0.0.1:{setting.port}", "--log-level", "warning"]
    return Start([str(setting.python), "-m", "gunicorn", "app:app", *flags], environment(setting, "flask"))


PEER = Peer(
    name="Flask + gunicorn",
    folder="flask",
    packages=("Flask", "gunicorn"),
    start=start,
    requests={MLP: Request("/predict", bodies.instances), CNN: Request("/raw", bodies.raw)},
)
