"""Models of PyTorch are imported behind the walls, proven equal, and served over v1 and v2: as ONNX, or by PyTorch itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest

from towline.app.importing.model import import_model
from towline.app.importing.sealing import ImportResult
from towline.core.errors import ImportRefused
from towline.testing.server import RunningServer

pytestmark = pytest.mark.frameworks
HERE = Path(__file__).parent
NETS = HERE / "torch_nets.py"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pytorch")


@pytest.fixture(scope="module")
def sources(environments: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("torch-files")
    words = [environments / "torch/bin/python", HERE / "torch_sources.py", folder]
    ran = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)
    assert ran.returncode == 0, ran.stderr[-2000:]
    return folder


@pytest.fixture(scope="module")
def imported(home: Path, sources: Path, exported: Callable[[str], Path]) -> dict[str, ImportResult]:
    weights = exported("weights")
    state = "x=float32[N,6],state.0=float32[N,8],state.1=float32[N,8]"
    return {
        "mobilenet": import_model(
            weights / "mobilenet_v2.pth",
            name="mobilenet",
            arch="torchvision:mobilenet_v2",
            input="float32[N,3,224,224]",
            preset="imagenet",
            labels=weights / "labels.txt",
            home=home,
        ),
        "encoder": import_model(sources / "encoder.pth", arch=f"{NETS}:Encoder", home=home),
        "recurrent": import_model(sources / "recurrent.pth", arch=f"{NETS}:Recurrent", input=state, home=home),
        "gamma": import_model(sources / "gamma.pt2", home=home),
    }


@pytest.fixture(scope="module")
def server(home: Path, environments: Path, imported: dict[str, ImportResult]) -> Iterator[RunningServer]:
    with RunningServer(*imported, home=home, settings={"environments": environments, "request_timeout_s": 120}) as running:
        yield running


def v2(server: RunningServer, model: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    kinds = {"float32": "FP32", "int64": "INT64"}
    tensors = [
        {"name": name, "datatype": kinds[array.dtype.name], "shape": list(array.shape), "data": array.reshape(-1).tolist()}
        for name, array in inputs.items()
    ]
    status, raw = server.post(f"/v2/models/{model}/infer", json.dumps({"inputs": tensors}).encode())
    assert status == 200, raw
    return {one["name"]: np.array(one["data"]).reshape(one["shape"]) for one in json.loads(raw)["outputs"]}


def v1(server: RunningServer, model: str, instances: object) -> object:
    status, raw = server.post(f"/v1/models/{model}:predict", json.dumps({"instances": instances}).encode())
    assert status == 200, raw
    return json.loads(raw)["predictions"]


def test_published_weights_see_an_espresso(server: RunningServer, exported: Callable[[str], Path]) -> None:
    coffee = (exported("weights") / "coffee.png").read_bytes()

    status, raw = server.post("/models/mobilenet/predict", coffee, {"content-type": "image/png"})

    assert status == 200, raw
    assert json.loads(raw)["prediction"] == 967
    assert json.loads(raw)["label"] == "espresso"


def test_a_graph_that_fixed_the_length_is_refused_and_the_next_route_taken(
    imported: dict[str, ImportResult], server: RunningServer
) -> None:
    """The quicker exporter writes down how long its sample was; answers of another length show it."""
    assert any("The route 'torchscript' was not taken" in warning for warning in imported["encoder"].report.warnings)

    for length in (3, 11):
        ids = np.arange(2 * length).reshape(2, length) % 50
        np.testing.assert_allclose(v1(server, "encoder", ids.tolist()), v2(server, "encoder", {"ids": ids})["output"], rtol=1e-6)


def test_a_state_goes_in_and_comes_out(server: RunningServer) -> None:
    x, zero = np.linspace(-1, 1, 12, dtype=np.float32).reshape(2, 6), np.zeros((2, 8), np.float32)

    first = v2(server, "recurrent", {"x": x, "state.0": zero, "state.1": zero})
    second = v2(server, "recurrent", {"x": x, "state.0": first["state"].astype(np.float32), "state.1": first["state_1"].astype(np.float32)})

    assert first["y"].shape == (2, 2)
    assert np.abs(first["y"] - second["y"]).max() > 1e-3


def test_what_onnx_cannot_express_pytorch_serves_itself(
    server: RunningServer, imported: dict[str, ImportResult], environments: Path
) -> None:
    x = np.linspace(-2, 2, 18, dtype=np.float32).reshape(3, 6)

    all_rows = v2(server, "gamma", {"x": x})["output"]
    one_by_one = [v1(server, "gamma", [row])[0] for row in x.tolist()]  # type: ignore[index]

    np.testing.assert_allclose(all_rows, one_by_one, rtol=1e-5, atol=1e-6)
    assert any("lgamma" in warning for warning in imported["gamma"].report.warnings)
    command = Path(f"/proc/{server.worker_pid('gamma')}/cmdline").read_text().split("\0")
    assert str(environments / "torch/bin/python") in command
    assert "torch" not in sys.modules


def test_a_killed_worker_of_pytorch_is_replaced(server: RunningServer) -> None:
    x = np.ones((1, 6), np.float32)
    before = v2(server, "gamma", {"x": x})["output"]

    os.kill(server.worker_pid("gamma"), 9)

    np.testing.assert_array_equal(v2(server, "gamma", {"x": x})["output"], before)


def test_weights_without_code_name_their_architecture(exported: Callable[[str], Path], home: Path, environments: Path) -> None:
    with pytest.raises(ImportRefused) as caught:
        import_model(exported("weights") / "mobilenet_v2.pth", home=home)

    assert "from their names it is mobilenet_v2, 1000 classes" in caught.value.message
    assert caught.value.hint == "Try: towline import mobilenet_v2.pth --name NAME --arch 'torchvision:mobilenet_v2'"
