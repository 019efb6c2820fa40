"""A version with processing answers pictures over every protocol, and tensors under its second signature."""

from __future__ import annotations

import base64
import io
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tritonclient import http as triton
from tritonclient.utils import InferenceServerException

from towline.testing import tiny_models
from towline.testing.server import RunningServer

DECLARED = """
[[before]]
step = "image"
max_pixels = 1000

[[before]]
step = "resize"
width = 8
height = 8

[[after]]
step = "top_k"
k = 2

[[after]]
step = "labels"
"""
RED, BLUE = (240, 10, 20), (10, 20, 240)


def picture(colour: tuple[int, int, int], size: tuple[int, int] = (12, 9)) -> bytes:
    place = io.BytesIO()
    Image.new("RGB", size, colour).save(place, "PNG")
    return place.getvalue()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("colours")
    model = tiny_models.write(folder, tiny_models.mean_colour(), "colours.onnx")
    (folder / "labels.txt").write_text("red\ngreen\nblue\n")
    (folder / "processing.toml").write_text(DECLARED)
    flags = ("--labels", str(folder / "labels.txt"), "--processing", str(folder / "processing.toml"))
    with RunningServer(model, flags=flags) as running:
        yield running


@pytest.fixture
def client(server: RunningServer) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(f"{server.host}:{server.port}") as client:
        yield client


def of_pictures(*raws: bytes) -> list[triton.InferInput]:
    asked = triton.InferInput("image", [len(raws)], "BYTES")
    asked.set_data_from_numpy(np.array(raws, dtype=object))
    return [asked]


def of_tensor(array: np.ndarray) -> list[triton.InferInput]:
    asked = triton.InferInput("x", list(array.shape), "FP32")
    asked.set_data_from_numpy(array)
    return [asked]


def predict(server: RunningServer, body: dict) -> tuple[int, dict]:
    status, answer = server.post("/v1/models/colours:predict", json.dumps(body).encode())
    return status, json.loads(answer)


def b64(raw: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(raw).decode()}


def test_tf_serving_clients_send_pictures_as_b64(server: RunningServer) -> None:
    status, answer = predict(server, {"instances": [b64(picture(RED)), b64(picture(BLUE))]})

    assert status == 200, answer
    assert [row["label"][0] for row in answer["predictions"]] == ["red", "blue"]
    assert [row["index"][0] for row in answer["predictions"]] == [0, 2]


def test_tf_serving_clients_reach_the_graph_by_its_signature(server: RunningServer) -> None:
    tensor = np.full((1, 3, 8, 8), 0.5).tolist()

    status, answer = predict(server, {"signature_name": "tensors", "instances": tensor})

    assert (status, answer) == (200, {"predictions": [[0.5, 0.5, 0.5]]})


def test_triton_clients_send_pictures_as_bytes(client: triton.InferenceServerClient) -> None:
    answer = client.infer("colours", of_pictures(picture(BLUE), picture(RED)))

    assert answer.as_numpy("label")[:, 0].tolist() == [b"blue", b"red"]
    assert answer.as_numpy("score").dtype == np.float32
    assert client.get_model_metadata("colours")["inputs"] == [{"name": "image", "datatype": "BYTES", "shape": [-1]}]


def test_triton_clients_that_send_the_graphs_own_tensors_keep_working(client: triton.InferenceServerClient) -> None:
    answer = client.infer("colours", of_tensor(np.ones((2, 3, 8, 8), np.float32)))

    assert answer.as_numpy("logits").tolist() == [[1, 1, 1], [1, 1, 1]]


def test_a_request_may_name_its_signature_over_v2_too(client: triton.InferenceServerClient) -> None:
    tensor = of_tensor(np.ones((1, 3, 8, 8), np.float32))

    assert client.infer("colours", tensor, parameters={"signature_name": "tensors"}).as_numpy("logits").shape == (1, 3)
    with pytest.raises(InferenceServerException, match="'image'"):
        client.infer("colours", tensor, parameters={"signature_name": "serving_default"})
    with pytest.raises(InferenceServerException, match="Signature 'other' is not in this version"):
        client.infer("colours", tensor, parameters={"signature_name": "other"})
    with pytest.raises(InferenceServerException, match="must be text"):
        client.infer("colours", tensor, parameters={"signature_name": 3})


def test_grpc_clients_send_pictures_and_tensors_alike(server: RunningServer, tmp_path: Path) -> None:
    # In a process of its own: its messages and those of another client's package cannot be in one.
    file = tmp_path / "red.png"
    file.write_bytes(picture(RED))
    script = Path(__file__).with_name("picture_grpc_session.py")
    ran = subprocess.run([sys.executable, str(script), server.grpc_address, str(file)], capture_output=True, text=True, timeout=180)

    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == {"label": "red", "logits": [[1, 1, 1]]}


@pytest.mark.parametrize(
    ("raw", "status", "said"),
    [
        (b"no picture", 400, "image[1] is no JPEG"),
        (picture(RED)[:50], 400, "image[1] is a damaged PNG"),
        (picture(RED, (100, 11)), 413, "image[1] has 100 x 11 pixels; at most 1000 are taken."),
    ],
)
def test_a_row_that_cannot_be_read_is_named(server: RunningServer, raw: bytes, status: int, said: str) -> None:
    got, answer = predict(server, {"instances": [b64(picture(RED)), b64(raw)]})

    assert (got, said in answer["error"]) == (status, True), answer


def test_a_bad_picture_in_a_merged_batch_fails_alone_and_costs_no_worker(server: RunningServer) -> None:
    worker = server.worker_pid("colours")
    start = threading.Barrier(32)

    def ask(index: int) -> bool:
        start.wait()
        if index % 4 == 0:
            return predict(server, {"instances": [b64(b"bad")]})[0] == 400
        colour, name = ((RED, "red"), (BLUE, "blue"))[index % 2]
        status, answer = predict(server, {"instances": [b64(picture(colour))]})
        return status == 200 and answer["predictions"][0]["label"][0] == name

    with ThreadPoolExecutor(32) as clients:
        assert all(clients.map(ask, range(32)))
    assert server.worker_pid("colours") == worker


def test_labels_and_processing_go_with_one_model_file(tmp_path: Path) -> None:
    from towline.cli.main import main

    assert main(["serve", "digits:3", "--processing", "p.toml"]) == 2
    assert main(["serve", "--preset", "imagenet"]) == 2
