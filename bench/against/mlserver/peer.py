"""MLServer without its pool of inference processes: the model in the server's own, which is its cheaper setting."""

from __future__ import annotations

import json

import bodies
from against.peer import MAX_WAIT_MS, MODEL_INFER, Peer, Request, Setting, Start, environment
from models import CNN, MLP

MODEL = "m"


def start(setting: Setting) -> Start:
    ports = {"http_port": setting.port, "grpc_port": setting.grpc_port, "metrics_port": setting.other_port}
    settings = {"host": "127.0.0.1", **ports, "parallel_workers": 0, "debug": False}
    batching = {"max_batch_size": setting.max_batch, "max_batch_time": MAX_WAIT_MS / 1e3} if setting.batching else {}
    (setting.folder / "settings.json").write_text(json.dumps(settings))
    (setting.folder / "model-settings.json").write_text(json.dumps({"name": MODEL, "implementation": "app.Runtime", **batching}))
    return Start([str(setting.bin / "mlserver"), "start", str(setting.folder)], environment(setting, "mlserver"))


PEER = Peer(
    name="MLServer",
    folder="mlserver",
    packages=("mlserver",),
    start=start,
    requests={name: Request(f"/v2/models/{MODEL}/infer", bodies.open_inference) for name in (MLP, CNN)},
    batches=True,
    grpc_path=MODEL_INFER,
    grpc_model=MODEL,
    note="the image as JSON: its REST side answers 500 to binary tensors",
)
