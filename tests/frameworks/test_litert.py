"""TensorFlow Lite files come in, are proven, and LiteRT serves them from its own environment, whatever befalls a worker."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import numpy as np
import onnxruntime
import pytest

import towline
from towline.app.home import opened_store
from towline.app.importing.model import import_model
from towline.app.predicting.load import load
from towline.convert.report import ImportReport
from towline.core.errors import ImportRefused
from towline.core.refs import parse_ref
from towline.testing.server import RunningServer

pytestmark = pytest.mark.frameworks

FILES = Path(__file__).parents[1] / "convert" / "tflite"
SERVED = ("classifier", "unnamed", "int8", "recurrent", "rounds", "words")
X = np.linspace(-1, 1, 8 * 8, dtype=np.float32).reshape(8, 8)
PICTURES = (np.arange(3 * 36).reshape(3, 6, 6, 1) % 251 - 125).astype(np.int8)
STEPS = np.linspace(-1, 1, 8, dtype=np.float32).reshape(1, 4, 2)
CONTRACT = """
import sys
from pathlib import Path
import numpy as np
from towline.core.manifest import decode_manifest
from towline.engines.litert import LiteRtEngine
from towline.testing.engine_contract import check_engine

folder = Path(sys.argv[1])
manifest = decode_manifest((folder / "manifest.json").read_bytes())
check_engine(LiteRtEngine(), folder, manifest, {"x": np.ones((3, 8), np.float32)})
described = LiteRtEngine().describe(folder, manifest.model_file)
assert described == manifest.signature, described
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("litert")


@pytest.fixture(scope="module")
def reports(environments: Path, home: Path) -> dict[str, ImportReport]:
    """What import said of each file that can be served; they are in the store of `home` then."""
    return {name: import_model(FILES / f"{name}.tflite", home=home).report for name in SERVED}


@pytest.fixture(scope="module")
def server(home: Path, environments: Path, reports: dict[str, ImportReport]) -> Iterator[RunningServer]:
    with RunningServer(*SERVED, home=home, settings={"environments": environments, "request_timeout_s": 60}) as running:
        yield running


@pytest.fixture(scope="module")
def alone(environments: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[np.ndarray]]:
    """What LiteRT answers without us, by file."""
    folder = tmp_path_factory.mktemp("alone")
    asked = {"int8": PICTURES, "recurrent": STEPS, "unnamed": X[:3]}
    for name, array in asked.items():
        shutil.copy(FILES / f"{name}.tflite", folder)
        np.savez(folder / f"{name}.npz", array)
    script = Path(__file__).parent / "litert_answers.py"
    ran = subprocess.run([environments / "litert/bin/python", script, folder], capture_output=True, text=True, timeout=300, check=False)
    assert ran.returncode == 0, ran.stderr
    return {name: list(np.load(folder / f"{name}.out.npz").values()) for name in asked}


def v1(server: RunningServer, model: str, instances: object, **more: object) -> object:
    status, raw = server.post(f"/v1/models/{model}:predict", json.dumps({"instances": instances, **more}).encode())
    assert status == 200, raw
    return json.loads(raw)["predictions"]


def v2(server: RunningServer, model: str, name: str, datatype: str, array: np.ndarray, **more: object) -> tuple[int, dict[str, object]]:
    tensor = {"name": name, "datatype": datatype, "shape": list(array.shape), "data": array.reshape(-1).tolist()}
    status, raw = server.post(f"/v2/models/{model}/infer", json.dumps({"inputs": [tensor], **more}).encode())
    return status, json.loads(raw)


def outputs(answer: tuple[int, dict[str, object]]) -> dict[str, np.ndarray]:
    status, body = answer
    assert status == 200, body
    return {one["name"]: np.array(one["data"]).reshape(one["shape"]) for one in body["outputs"]}  # type: ignore[attr-defined]


def classified(x: np.ndarray) -> np.ndarray:
    """The classifier in numpy: its weights are those of write_tflite_models.py."""
    first, second = (np.random.default_rng(2).normal(size=shape).astype(np.float32) for shape in ((8, 4), (4, 3)))
    scores = np.exp(np.maximum(x @ first, 0) @ second)
    return np.asarray(scores / scores.sum(axis=1, keepdims=True))


# The engine


def test_the_engine_keeps_the_contract_in_its_own_environment(home: Path, environments: Path, reports: dict[str, ImportReport]) -> None:
    with opened_store(home) as store:
        folder = store.version(parse_ref("classifier")).path
    lent = {**os.environ, "PYTHONPATH": str(Path(towline.__file__).parents[1])}
    words = [environments / "litert/bin/python", "-c", CONTRACT, folder]

    ran = subprocess.run(words, env=lent, capture_output=True, text=True, timeout=300, check=False)

    assert ran.returncode == 0, ran.stderr


def test_it_runs_in_its_environment_and_nothing_of_it_in_ours(server: RunningServer, environments: Path) -> None:
    command = Path(f"/proc/{server.worker_pid('classifier')}/cmdline").read_text().split("\0")

    assert command[0] == str(environments / "litert/bin/python")
    assert "ai_edge_litert" not in sys.modules


# Answers


@pytest.mark.parametrize("rows", [1, 3, 8])
def test_any_number_of_rows_is_answered_over_v1_and_v2(server: RunningServer, rows: int) -> None:
    wanted = classified(X[:rows])

    np.testing.assert_allclose(v1(server, "classifier", X[:rows].tolist()), wanted, rtol=1e-5)
    np.testing.assert_allclose(outputs(v2(server, "classifier", "x", "FP32", X[:rows]))["probabilities"], wanted, rtol=1e-5)


def test_every_signature_is_served_under_its_name(server: RunningServer) -> None:
    first = np.random.default_rng(2).normal(size=(8, 4)).astype(np.float32)

    hidden = v1(server, "classifier", X[:2].tolist(), signature_name="features")

    np.testing.assert_allclose(hidden, np.maximum(X[:2] @ first, 0), rtol=1e-5, atol=1e-6)


def test_a_file_without_signatures_is_asked_by_its_tensors_names(server: RunningServer, alone: dict[str, list[np.ndarray]]) -> None:
    found = outputs(v2(server, "unnamed", "serving_default_x:0", "FP32", X[:3]))

    np.testing.assert_allclose(found["PartitionedCall:0"], alone["unnamed"][0], rtol=1e-6)
    np.testing.assert_allclose(found["PartitionedCall:0"], classified(X[:3]), rtol=1e-5)


def test_an_int8_model_answers_as_litert_alone_does(server: RunningServer, alone: dict[str, list[np.ndarray]]) -> None:
    found = outputs(v2(server, "int8", "picture", "INT8", PICTURES))["output_0"]

    np.testing.assert_array_equal(found, alone["int8"][0])
    assert len(np.unique(found)) > 3
    # 200 is no int8: it is refused, and not wrapped around.
    status, _ = v2(server, "int8", "picture", "INT8", np.full((1, 6, 6, 1), 200))
    assert status == 400


def test_the_report_tells_how_quantised_values_are_read(reports: dict[str, ImportReport]) -> None:
    assert any("'output_0' is int8: a value q means" in line for line in reports["int8"].warnings)


def test_what_a_recurrent_layer_remembers_is_forgotten_with_the_request(server: RunningServer, alone: dict[str, list[np.ndarray]]) -> None:
    answers = [outputs(v2(server, "recurrent", "x", "FP32", STEPS))["y"] for _ in range(3)]

    for answer in answers:
        np.testing.assert_allclose(answer, alone["recurrent"][0], rtol=1e-6)


def test_text_goes_in_and_comes_out(server: RunningServer) -> None:
    words = np.array(["yes", "", "nö\N{GRINNING FACE}"], dtype=object)

    found = outputs(v2(server, "words", "words", "BYTES", words))

    assert found["again"].tolist() == words.tolist()
    assert found["is_yes"].tolist() == [True, False, False]


def test_a_file_becomes_onnx_where_that_is_asked_for(environments: Path, tmp_path: Path, alone: dict[str, list[np.ndarray]]) -> None:
    result = import_model(FILES / "int8.tflite", options={"route": "tf2onnx"}, home=tmp_path / "home")

    assert (result.version.manifest.engine, result.version.manifest.environment) == ("onnxruntime", "")
    answer = load("int8", home=tmp_path / "home").predict({"picture": PICTURES})
    # Rounded in other places: at most one step apart.
    assert np.abs(answer["output_0"].astype(int) - alone["int8"][0].astype(int)).max() <= 1


def test_basic_pitch_answers_as_its_onnx_file_does(exported: Callable[[str], Path], environments: Path, tmp_path: Path) -> None:
    folder = exported("pitch")
    sound = np.sin(np.arange(2 * 43844, dtype=np.float32) * 0.05).reshape(2, 43844, 1)
    np.savez(tmp_path / "sound.npz", input_2=sound)

    import_model(folder / "model.tflite", name="pitch", sample=tmp_path / "sound.npz", home=tmp_path / "home")
    ours = load("pitch", home=tmp_path / "home").predict({"input_2": sound})

    onnx = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    theirs = onnx.run(None, {onnx.get_inputs()[0].name: sound})
    # The two files name their outputs differently: each is found among the other's, and none of them is flat.
    assert {array.shape for array in theirs} == {(2, 172, 88), (2, 172, 264)}
    for name, array in ours.items():
        assert np.ptp(array) > 0.1, name
        assert min(np.abs(array - other).max() for other in theirs if other.shape == array.shape) < 1e-5, name


# Faults


def test_no_request_is_lost_when_its_worker_is_killed_again_and_again(server: RunningServer) -> None:
    stop, wanted = Event(), classified(X)

    def client(row: int) -> int:
        asked = 0
        while not stop.is_set():
            np.testing.assert_allclose(v1(server, "classifier", X[row : row + 1].tolist()), wanted[row : row + 1], rtol=1e-5)
            asked += 1
        return asked

    with ThreadPoolExecutor(8) as pool:
        clients = [pool.submit(client, row) for row in range(8)]
        try:
            for _ in range(3):
                killed = server.worker_pid("classifier")
                os.kill(killed, signal.SIGKILL)
                server.wait_until(lambda killed=killed: server.worker_pid("classifier") != killed)  # type: ignore[misc]
        finally:
            stop.set()
        assert all(one.result(300) > 0 for one in clients)


def test_a_run_that_does_not_end_is_ended_with_its_worker(server: RunningServer) -> None:
    before = server.worker_pid("rounds")

    status, _ = v2(server, "rounds", "rounds", "INT32", np.array([2**31 - 1]), parameters={"timeout": 300_000})

    assert status == 504
    server.wait_until(lambda: server.worker_pid("rounds") != before)
    assert outputs(v2(server, "rounds", "rounds", "INT32", np.array([5])))["count"].tolist() == [5]


# What is not taken


def test_what_litert_cannot_run_is_refused_and_nothing_is_imported(environments: Path, tmp_path: Path) -> None:
    with pytest.raises(ImportRefused, match="'FlexMatrixInverse'"):
        import_model(FILES / "flex.tflite", home=tmp_path / "home")

    assert not [*(tmp_path / "home" / "versions").iterdir()]
    assert not [*(tmp_path / "home" / "staging").iterdir()]


def test_a_torn_file_is_refused(environments: Path, tmp_path: Path) -> None:
    raw = (FILES / "classifier.tflite").read_bytes()
    (tmp_path / "torn.tflite").write_bytes(raw[: len(raw) // 2])

    with pytest.raises(ImportRefused, match="damaged"):
        import_model(tmp_path / "torn.tflite", home=tmp_path / "home")
