"""BentoML: one worker."""

from __future__ import annotations

import bodies
from against.peer import Peer, Request, Setting, Start, environment
from models import CNN, MLP


def start(setting: Setting) -> Start:
    command = [str(setting.bin / "bentoml"), "serve", "app:Service", "--host", "127.0.0.1", "--port", str(setting.port)]
    quiet = {"BENTOML_DO_NOT_TRACK": "True", "BENTOML_HOME": str(setting.folder)}
    return Start([*command, "--working-dir", str(PEER.home)], environment(setting, "bentoml") | quiet)


PEER = Peer(
    name="BentoML",
    folder="bentoml",
    packages=("bentoml",),
    start=start,
    requests={MLP: Request("/predict", bodies.rows), CNN: Request("/file", bodies.multipart)},
    batches=True,
    note="the image as a multipart file",
)
