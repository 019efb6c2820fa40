"""A version leaves for devices as TensorFlow Lite, and only as one that answers as it does."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from towline.app.environments.installing import environment
from towline.app.exporting import tflite as exporting_tflite
from towline.app.exporting.export import Exported, export
from towline.app.importing.model import import_model
from towline.app.listing import events
from towline.app.predicting.load import load
from towline.convert.base import ConversionFailed
from towline.core.environments import python_of
from towline.testing import tiny_models

pytestmark = pytest.mark.frameworks

# As a device would: LiteRT alone, without anything of ours.
RUN = """
import json, sys
import numpy as np
from ai_edge_litert.interpreter import Interpreter
run = Interpreter(sys.argv[1]).get_signature_runner()
print(json.dumps({name: array.tolist() for name, array in run(**{sys.argv[2]: np.array(json.load(sys.stdin), np.float32)}).items()}))
"""


def oddly_named() -> bytes:
    """The MLP with names that TensorFlow cannot keep."""
    model = onnx.load_from_string(tiny_models.mlp())
    names = {"x": "in/x:0", "y": "out/y:0"}
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    model.graph.input[0].name, model.graph.output[0].name = names.values()
    return model.SerializeToString()


@pytest.fixture(scope="module")
def exported(environments: Path, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    folder = tmp_path_factory.mktemp("devices")
    import_model(tiny_models.write(folder, oddly_named(), "digits.onnx"), home=folder / "home")
    return export("digits", to="tflite", out=folder / "digits.tflite", home=folder / "home")


def home_of(exported: Exported) -> Path:
    return exported.path.with_name("home")


def test_what_was_exported_answers_on_a_device_as_the_version_does(exported: Exported) -> None:
    rows = np.random.default_rng(1).normal(size=(3, 10)).astype(np.float32)

    words = [python_of("litert"), "-c", RUN, exported.path, "in_x_0"]
    ran = subprocess.run(
        words, input=json.dumps(rows.tolist()), env=environment({}), capture_output=True, text=True, timeout=300, check=True
    )

    got = np.array(json.loads(ran.stdout)["out_y_0"], np.float32)
    expected = load("digits", home=home_of(exported)).predict({"in/x:0": rows})["out/y:0"]
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_the_proof_is_told_and_kept(exported: Exported) -> None:
    assert exported.parity is not None
    assert exported.parity.passed
    assert exported.parity.samples > 1
    assert exported.notes == ("'in/x:0' is 'in_x_0' in the file.", "'out/y:0' is 'out_y_0' in the file.")
    newest = events(home=home_of(exported))[-1]
    assert (newest.kind, newest.data["format"], newest.data["parity"]["passed"]) == ("version.exported", "tflite", True)


def test_a_conversion_that_answers_otherwise_is_not_written(exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another model's file, as a converter with a fault would give."""

    @contextmanager
    def another(*_: Any) -> Iterator[Path]:
        yield exported.path.parent

    monkeypatch.setattr(exporting_tflite, "_converted", another)
    monkeypatch.setattr(exporting_tflite, "MODEL_NAME", exported.path.name)
    model = onnx.load_from_string(oddly_named())
    weight = model.graph.initializer[0]
    weight.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weight) * np.float32(1.01), weight.name))
    import_model(tiny_models.write(tmp_path, model.SerializeToString(), "digits.onnx"), name="other", home=home_of(exported))

    with pytest.raises(ConversionFailed, match="out/y:0"):
        export("other", to="tflite", out=tmp_path / "other.tflite", home=home_of(exported))

    assert not (tmp_path / "other.tflite").exists()


def test_a_version_that_came_as_tflite_leaves_as_it_came(exported: Exported, tmp_path: Path) -> None:
    import_model(exported.path, name="lite", home=home_of(exported))

    again = export("lite", to="tflite", out=tmp_path / "again.tflite", home=home_of(exported))

    assert again.path.read_bytes() == exported.path.read_bytes()
    assert again.parity is None
