"""TorchServe (archived in 2025): one worker, an archive with a handler of one's own, tokens off."""

from __future__ import annotations

import json

import bodies
from against.peer import MAX_WAIT_MS, Peer, Request, Setting, Start, environment
from models import CNN, MLP
from processes import free_port

MODEL = "m"


def start(setting: Setting) -> Start:
    store = setting.folder / "store"
    store.mkdir()
    settings = setting.folder / "config.properties"
    settings.write_text(_properties(setting, str(store)))
    archive = [
        *(str(setting.bin / "torch-model-archiver"), "--model-name", MODEL, "--version", "1.0", "--handler", str(PEER.home / "app.py")),
        *("--serialized-file", str(setting.model.path), "--export-path", str(store), "--force"),
    ]
    command = [str(setting.bin / "torchserve"), "--start", "--foreground", "--ncs", "--disable-token-auth", "--ts-config", str(settings)]
    return Start(
        [*command, "--model-store", str(store)],
        # It looks for its python on the path, and writes its logs where it is told.
        environment(setting, "torchserve") | {"PATH": f"{setting.bin}:/usr/local/bin:/usr/bin:/bin", "LOG_LOCATION": str(setting.folder)},
        prepare=(archive,),
    )


def _properties(setting: Setting, store: str) -> str:
    size = setting.max_batch if setting.batching else 1
    workers = {"minWorkers": 1, "maxWorkers": 1, "batchSize": size, "maxBatchDelay": MAX_WAIT_MS, "responseTimeout": 60}
    models = {MODEL: {"1.0": {"defaultVersion": True, "marName": f"{MODEL}.mar", **workers}}}
    lines = {
        "inference_address": f"http://127.0.0.1:{setting.port}",
        "management_address": f"http://127.0.0.1:{setting.other_port}",
        "metrics_address": f"http://127.0.0.1:{free_port()}",
        "grpc_inference_port": setting.grpc_port,
        "grpc_management_port": free_port(),
        "install_py_dep_per_model": "false",
        "load_models": f"{MODEL}.mar",
        "model_store": store,
        "models": json.dumps(models),
    }
    return "".join(f"{key}={value}\n" for key, value in lines.items())


PEER = Peer(
    name="TorchServe",
    folder="torchserve",
    packages=("torchserve", "torch"),
    start=start,
    requests={MLP: Request(f"/predictions/{MODEL}", bodies.row), CNN: Request(f"/predictions/{MODEL}", bodies.raw)},
    batches=True,
    warm_s=8,
    note="needs Java",
)
