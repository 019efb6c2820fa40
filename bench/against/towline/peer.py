"""Towline as it starts by default: a new home, the model file imported first, isolation on."""

from __future__ import annotations

import bodies
from against.peer import HERE, MODEL_INFER, Peer, Request, Setting, Start
from models import CNN, MLP


def start(setting: Setting) -> Start:
    return Start(
        [
            *(str(setting.bin / "towline"), "serve", str(setting.model.path), "--home", str(setting.folder / "home")),
            *("--port", str(setting.port), "--grpc-port", str(setting.grpc_port)),
        ]
    )


PEER = Peer(
    name="Towline",
    folder="towline",
    packages=("towline", "onnxruntime", "numpy", "uvicorn", "uvloop", "grpcio"),
    start=start,
    requests={
        MLP: Request(f"/v1/models/{MLP}:predict", bodies.instances),
        CNN: Request(f"/v2/models/{CNN}/infer", bodies.open_inference_binary),
    },
    grpc_path=MODEL_INFER,
    sources=HERE.parents[1] / "src" / "towline",
)
