"""What the bench asks is what the peers' protocols say, and a wrong answer is never measured."""

from __future__ import annotations

import json

import numpy as np
import pytest
from open_inference.grpc.protocol import ModelInferRequest


@pytest.fixture
def model(bench, tmp_path):
    return bench("models").write_mlp(tmp_path)


def test_the_right_answer_is_found_in_json_however_it_is_wrapped(bench, model):
    right = model.right.astype(float).tolist()
    for answer in ({"predictions": [right]}, {"y": right}, [right], {"outputs": [{"shape": [1, 10], "data": right}]}):
        assert bench("bodies").wrongness(json.dumps(answer).encode(), model.right) == ""


def test_the_right_answer_is_found_as_bytes_behind_a_header(bench, model):
    assert bench("bodies").wrongness(b'{"outputs": []}' + model.right.tobytes(), model.right) == ""


def test_a_wrong_answer_is_shown_beside_the_right_one(bench, model):
    wrong = model.right.astype(float) + 0.01

    assert "expected [0.11" in bench("bodies").wrongness(json.dumps(wrong.tolist()).encode(), model.right)
    assert "without the right tensor" in bench("bodies").wrongness(b"\xff" + wrong.astype(np.float32).tobytes(), model.right)


def test_numbers_that_say_true_are_no_numbers(bench):
    assert bench("bodies").wrongness(b"[true, true]", np.ones(2, np.float32)) != ""


def test_a_binary_request_is_its_head_and_the_tensors_bytes(bench, model):
    body = bench("bodies").open_inference_binary(model)
    length = int(body.headers["Inference-Header-Content-Length"])
    (tensor,) = json.loads(body.content[:length])["inputs"]

    assert tensor == {"name": "x", "shape": [1, 10], "datatype": "FP32", "parameters": {"binary_data_size": 40}}
    assert body.content[length:] == model.row.tobytes()


def test_a_grpc_call_is_what_the_published_messages_read(bench, model):
    message = ModelInferRequest.FromString(bench("h2load").model_infer("m", model))

    assert (message.model_name, list(message.inputs[0].shape), message.inputs[0].datatype) == ("m", [1, 10], "FP32")
    assert message.raw_input_contents == [model.row.tobytes()]
    assert bench("h2load").framed(b"abc") == b"\x00\x00\x00\x00\x03abc"


def test_every_peer_answers_a_model_and_its_files_are_there(bench):
    models = bench("models")
    for peer in bench("against.catalogue").PEERS:
        assert peer.grpc_path or set(peer.requests) & {models.MLP, models.CNN}, peer.name
        assert (peer.home / "peer.py").is_file(), peer.name
        assert peer.requirements.is_file(), peer.name


def test_every_version_of_a_peer_is_pinned(bench):
    for peer in bench("against.catalogue").PEERS:
        lines = [line for line in peer.requirements.read_text().splitlines() if line and not line.startswith(("#", "--editable"))]
        assert all("==" in line for line in lines), (peer.name, lines)
