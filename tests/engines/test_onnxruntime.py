"""ONNX Runtime keeps the contract of an engine, and says what is wrong in words that may be shown."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from towline.core.engine import EngineOptions
from towline.core.errors import EngineError, Kind, VersionError
from towline.core.manifest import Facts, Manifest, Measured, Origin
from towline.engines.onnxruntime import OnnxRuntimeEngine, OnnxRuntimeSession
from towline.testing import tiny_models
from towline.testing.engine_contract import check_engine


def loaded(folder: Path, model: bytes) -> tuple[Manifest, OnnxRuntimeSession]:
    (folder / "model.onnx").write_bytes(model)
    engine = OnnxRuntimeEngine()
    signature = engine.describe(folder, "model.onnx")
    measured = Measured("any", True, 0, 0, 256)
    manifest = Manifest(
        1, "onnxruntime", "model.onnx", {"serving_default": signature}, True, Origin("onnx", "sha256:0"), Facts(0, {}, {}), measured
    )
    return manifest, engine.load(folder, manifest, EngineOptions())


@pytest.mark.parametrize(
    ("model", "inputs"),
    [
        (tiny_models.mlp(), {"x": np.linspace(0, 1, 20, dtype=np.float32).reshape(2, 10)}),
        (tiny_models.integer_division("int64"), {"a": np.array([6, 9]), "b": np.array([2, 3])}),
        (tiny_models.identity("string"), {"x": np.array([[b"a", "é".encode()]], dtype=object)}),
    ],
    ids=["floats", "integers", "strings"],
)
def test_the_contract_of_an_engine_holds(tmp_path: Path, model: bytes, inputs: dict[str, np.ndarray]) -> None:
    manifest, _ = loaded(tmp_path, model)

    check_engine(OnnxRuntimeEngine(), tmp_path, manifest, inputs)


def test_what_the_engine_refuses_is_told_without_paths_or_class_names(tmp_path: Path) -> None:
    _, session = loaded(tmp_path, tiny_models.embedding())

    with pytest.raises(EngineError) as refusal:
        session.run({name: np.full((1, 3), 10**6) for name in [session._session.get_inputs()[0].name]})

    assert refusal.value.kind is Kind.INVALID
    assert refusal.value.message.startswith("The model refused this input: ")
    assert not any(word in refusal.value.message for word in ("/", "::", "onnxruntime", "Error]"))


def test_strings_that_are_no_text_are_refused_and_not_mangled(tmp_path: Path) -> None:
    _, session = loaded(tmp_path, tiny_models.identity("string"))

    with pytest.raises(EngineError, match="refused this input"):
        session.run({"x": np.array([[b"\xff\xfe", b"a"]], dtype=object)})


def test_a_run_without_end_stops_when_it_is_told_to(tmp_path: Path) -> None:
    _, session = loaded(tmp_path, tiny_models.counted_loop())
    endless = {"rounds": np.array([tiny_models.INT64_MAX])}
    has_ended = threading.Event()

    # What has not begun cannot be told to stop: it is told again until it has.
    def tell() -> None:
        while not has_ended.wait(0.01):
            session.terminate(3)

    telling = threading.Thread(target=tell)
    telling.start()
    with pytest.raises(EngineError) as stopped:
        session.run(endless, slot=3)
    has_ended.set()
    telling.join()

    assert stopped.value.code == "TERMINATED"
    assert session.run({"rounds": np.array([5])}, slot=3)[0] == 5


def test_a_torn_file_is_no_version(tmp_path: Path) -> None:
    manifest, _ = loaded(tmp_path, tiny_models.mlp())
    (tmp_path / "model.onnx").write_bytes(tiny_models.mlp()[:100])

    with pytest.raises(VersionError, match="cannot load this model"):
        OnnxRuntimeEngine().load(tmp_path, manifest, EngineOptions())


def test_nothing_reports_to_the_makers_of_the_engine(tmp_path: Path) -> None:
    script = "import towline.engines.onnxruntime as e, os; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    environ = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"} | {"HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", script], env=environ, capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "1"
    assert not list(tmp_path.rglob("*"))
