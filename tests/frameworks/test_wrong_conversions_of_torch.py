"""Four wrong conversions of one PyTorch model, as a user might bring them, and a right one: proven by PyTorch itself."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import towline
from towline.core.errors import ImportRefused
from towline.store.sqlite import open_store
from towline.testing import tiny_models

pytestmark = [pytest.mark.frameworks, pytest.mark.usefixtures("environments")]

NET = Path(__file__).parent / "wrong_net.py"
BATCH_NORM = {"scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
WRONG = {
    "wrong epsilon": ({"epsilon": 1e-5}, "departs is 'bn1' (BatchNorm2d)", "its epsilon looks wrong"),
    "lost batch norm": ({"batch_norm": False}, "departs is 'bn2' (BatchNorm2d)", "it is lost in the conversion"),
    "truncated weights": ({"kept": 0.5}, "The last 50 % of weight 'conv2.weight' are zeros", "truncated"),
    "swapped channels": ({"swapped": True}, "expects the channels in the other order (RGB against BGR) in input 'image'", "given so"),
}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The weights of the good graph, under the names that PyTorch gives them."""
    arrays = {}
    for tensor in onnx.load_model_from_string(tiny_models.convolutions()).graph.initializer:
        layer, _, name = tensor.name.partition(".")
        array = numpy_helper.to_array(tensor)
        arrays[f"{layer}.{BATCH_NORM.get(name, name) if layer.startswith('bn') else name}"] = (
            array.T if tensor.name == "dense.weight" else array
        )
    for layer in ("bn1", "bn2"):
        arrays[f"{layer}.num_batches_tracked"] = np.array(0, np.int64)
    path = tmp_path_factory.mktemp("weights") / "net.safetensors"
    path.write_bytes(safetensors(arrays))
    return path


def safetensors(arrays: dict[str, np.ndarray]) -> bytes:
    head, body = {}, b""
    for name, array in arrays.items():
        raw = np.ascontiguousarray(array).tobytes()
        dtype = {"float32": "F32", "int64": "I64"}[array.dtype.name]
        head[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [len(body), len(body) + len(raw)]}
        body += raw
    written = json.dumps(head).encode()
    written += b" " * (-len(written) % 8)
    return len(written).to_bytes(8, "little") + written + body


def proven(folder: Path, weights: Path, **change: object) -> towline.ImportResult:
    converted = tiny_models.write(folder, tiny_models.convolutions(**change), "converted.onnx")
    return towline.import_model(converted, home=folder / "home", against=weights, arch=f"{NET}:Net", input="float32[N,3,8,8]")


def test_a_right_conversion_is_proven_by_pytorch(tmp_path: Path, weights: Path) -> None:
    version = proven(tmp_path, weights).version

    assert version.manifest.origin.format.startswith("onnx, proven against")
    assert version.manifest.source_answers


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_conversion_is_refused_with_its_cause(tmp_path: Path, weights: Path, what: str) -> None:
    change, where, said = WRONG[what]

    with pytest.raises(ImportRefused) as refusal:
        proven(tmp_path, weights, **change)

    assert refusal.value.code == "NOT_EQUAL", refusal.value.message
    assert where in refusal.value.message
    assert said in refusal.value.message
    with open_store(tmp_path / "home") as store:
        assert list(store.versions()) == []
