"""Versions that nobody runs: enough for the store, and for what decides about them."""

from __future__ import annotations

from towline.core.manifest import Facts, Manifest, Measured, Origin, Signature, encode_manifest
from towline.store.sqlite import SqliteStore


def add(store: SqliteStore, name: str, content: bytes, number: int | None = None, actor: str = "tester") -> None:
    with store.stage() as folder:
        manifest = Manifest(
            format=1,
            engine="onnxruntime",
            model_file="model.onnx",
            signatures={"serving_default": Signature((), ())},
            batchable=False,
            origin=Origin("onnx", f"sha256:{content.hex()}"),
            facts=Facts(0, {}, {}),
            measured=Measured("cpu", True, 0, 0, 1),
        )
        (folder / "manifest.json").write_bytes(encode_manifest(manifest))
        (folder / "model.onnx").write_bytes(content)
        store.publish(folder, name, actor=actor, number=number)
