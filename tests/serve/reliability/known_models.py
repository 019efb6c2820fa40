"""Asks with known answers, and versions that no import would let in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from load import Ask, Check

from towline.core.cpu import cpu_kind
from towline.core.deployment import Deployment, Policy
from towline.core.frames import encode_frame
from towline.core.manifest import Bound, Facts, Golden, Manifest, Measured, Origin, Signature, TensorSpec, encode_manifest
from towline.core.version import Version
from towline.store.sqlite import open_store
from towline.testing import tiny_models

INT64_MIN = -(2**63)
TOLERANCE = 1e-5


def session_of(model: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def predictions(expected: np.ndarray) -> Check:
    """The answer of TF Serving's row format, near `expected`."""

    def check(status: int, body: bytes) -> str:
        if status != 200:
            return f"expected 200, got {status} {body[:200]!r}"
        got = np.asarray(json.loads(body)["predictions"])
        if got.shape == expected.shape and np.allclose(got, expected, rtol=TOLERANCE, atol=TOLERANCE):
            return ""
        return f"wrong answer: expected {expected.tolist()}, got {got.tolist()}"

    return check


def mlp_asks(name: str, model: bytes, *, count: int = 16, seed: int = 0) -> list[Ask]:
    """Requests of one to three unlike rows to a model made by tiny_models.mlp, with the answers of a session of its own."""
    rng, session = np.random.default_rng(seed), session_of(model)
    asks = []
    for index in range(count):
        rows = rng.normal(0, 1, (1 + index % 3, 10)).round(3).astype(np.float32)
        (expected,) = session.run(["y"], {"x": rows})
        body = json.dumps({"instances": [[round(float(value), 3) for value in row] for row in rows]}).encode()
        asks.append(Ask(f"/v1/models/{name}:predict", body, predictions(expected)))
    return asks


def v2(inputs: dict[str, tuple[str, list[int], list[Any]]], **parameters: Any) -> bytes:
    """The body of an Open Inference request: {name: (datatype, shape, data)}."""
    tensors = [{"name": name, "datatype": kind, "shape": shape, "data": data} for name, (kind, shape, data) in inputs.items()]
    return json.dumps({"inputs": tensors, **({"parameters": parameters} if parameters else {})}).encode()


def division(a: list[int], b: list[int], **parameters: Any) -> bytes:
    return v2({"a": ("INT64", [len(a)], a), "b": ("INT64", [len(b)], b)}, **parameters)


def publish(
    home: Path,
    name: str,
    model: bytes,
    inputs: tuple[TensorSpec, ...],
    outputs: tuple[TensorSpec, ...],
    *,
    golden: tuple[dict[str, np.ndarray], dict[str, np.ndarray]] | None = None,
    memory_bytes: int = 0,
    batchable: bool = False,
) -> Version:
    """Put a version into the store without trying it, and deploy it."""
    bounds = {spec.name: Bound(1e-6, 1e-6) for spec in outputs}
    manifest = Manifest(
        format=1,
        engine="onnxruntime",
        model_file="model.onnx",
        signatures={"serving_default": Signature(inputs, outputs)},
        batchable=batchable,
        origin=Origin("onnx", f"sha256:{name}"),
        facts=Facts(0, {}, {}),
        measured=Measured(cpu_kind(), True, memory_bytes, memory_bytes, 64),
        golden=(Golden("golden-request.frame", "golden-response.frame", bounds),) if golden else (),
    )
    with open_store(home) as store:
        with store.stage() as folder:
            tiny_models.write(folder, model)
            for file, tensors in zip(("golden-request.frame", "golden-response.frame"), golden or (), strict=False):
                (folder / file).write_bytes(encode_frame(tensors))
            (folder / "manifest.json").write_bytes(encode_manifest(manifest))
            version = store.publish(folder, name, actor="tester")
        store.put_deployment(Deployment(name, Policy("latest")), actor="tester")
    return version


INTEGERS = (TensorSpec("a", "int64", ("N",)), TensorSpec("b", "int64", ("N",)))
QUOTIENT = (TensorSpec("y", "int64", ("N",)),)


def publish_dying(home: Path, name: str) -> Version:
    """A version whose golden request kills the engine: its worker dies at each load."""
    golden = {"a": np.full(4, INT64_MIN), "b": np.full(4, -1)}, {"y": np.zeros(4, np.int64)}
    return publish(home, name, tiny_models.integer_division("int64"), INTEGERS, QUOTIENT, golden=golden)


def publish_endless(home: Path, name: str) -> Version:
    """A version whose golden request never comes to its end."""
    golden = {"rounds": np.full(1, 2**63 - 1)}, {"y": np.zeros(1, np.float32)}
    rounds, count = (TensorSpec("rounds", "int64", (1,)),), (TensorSpec("y", "float32", (1,)),)
    return publish(home, name, tiny_models.counted_loop(), rounds, count, golden=golden)
