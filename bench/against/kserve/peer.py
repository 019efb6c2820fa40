"""KServe's Python model server alone, one worker, no Kubernetes."""

from __future__ import annotations

import bodies
from against.peer import MODEL_INFER, Peer, Request, Setting, Start, environment
from models import CNN, MLP

PATH = "/v2/models/m/infer"


def start(setting: Setting) -> Start:
    return Start([str(setting.python), str(PEER.home / "app.py")], environment(setting, "kserve"))


PEER = Peer(
    name="KServe",
    folder="kserve",
    packages=("kserve",),
    start=start,
    requests={MLP: Request(PATH, bodies.open_inference), CNN: Request(PATH, bodies.open_inference_binary)},
    grpc_path=MODEL_INFER,
    grpc_model="m",
)
