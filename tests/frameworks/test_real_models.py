"""A photograph, a sound and a sentence go as files through real models, and come back as their own frameworks would answer."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tritonclient import http as triton

from towline.core.steps import Mel
from towline.engines.processing.mel import MelSpectrogram
from towline.testing.server import RunningServer
from towline.verify.encoded import wav

pytestmark = pytest.mark.frameworks

PITCH = """
[[before]]
step = "audio"

[[before]]
step = "resample"
rate = 22050

[[before]]
step = "fit"
samples = 43844
"""
SENTENCE = """
[[before]]
step = "text"
tokenizer = "tokenizer.json"

[[after]]
step = "pool"

[[after]]
step = "unit_length"
"""


def answers(server: RunningServer, model: str, *raws: bytes) -> dict[str, np.ndarray]:
    with triton.InferenceServerClient(f"{server.host}:{server.port}", network_timeout=120, connection_timeout=120) as client:
        name = client.get_model_metadata(model)["inputs"][0]["name"]
        encoded = triton.InferInput(name, [len(raws)], "BYTES")
        encoded.set_data_from_numpy(np.array(raws, dtype=object))
        got = client.infer(model, [encoded])
        return {output["name"]: got.as_numpy(output["name"]) for output in got.get_response()["outputs"]}


def test_a_photograph_of_coffee_is_an_espresso(exported: Callable[[str], Path]) -> None:
    folder = exported("mobilenet")
    coffee, expected = (folder / "coffee.png").read_bytes(), json.loads((folder / "expected.json").read_text())

    flags = ("--preset", "imagenet", "--labels", str(folder / "labels.txt"))
    with RunningServer(folder / "model.onnx", flags=flags, settings={"request_timeout_s": 120}) as server:
        got = answers(server, "model", coffee, coffee)
        body = json.dumps({"instances": [{"b64": base64.b64encode(coffee).decode()}]}).encode()
        status, plain = server.post("/v1/models/model:predict", body)
        curled = json.loads(server.post("/predict", coffee, {"content-type": "image/png"})[1])

    assert got["label"][0, 0].decode() == "espresso"
    assert got["index"][1].tolist() == expected["index"]
    np.testing.assert_allclose(got["score"][0], expected["score"], atol=1e-4)
    assert status == 200
    assert json.loads(plain)["predictions"][0]["label"][0] == "espresso"
    assert (curled["label"], curled["prediction"]) == ("espresso", 967)
    assert curled["probability"] == pytest.approx(expected["score"][0], abs=1e-4)


def test_the_notes_of_a_chord_are_heard(exported: Callable[[str], Path]) -> None:
    """basic-pitch gives a probability for each of 88 piano keys, the lowest being A0 (27.5 Hz)."""
    folder = exported("pitch")
    (folder / "processing.toml").write_text(PITCH)
    at = np.arange(44_100 * 2) / 44_100
    keys = [39, 43, 46]
    tones = [27.5 * 2 ** (key / 12) for key in keys]
    chord = sum(0.2 * np.sin(2 * np.pi * hz * overtone * at) / overtone for hz in tones for overtone in (1, 2, 3))

    with RunningServer(folder / "model.onnx", flags=("--processing", str(folder / "processing.toml"))) as server:
        found = answers(server, "model", wav(chord, 44_100))
        curled = server.post("/predict", wav(chord, 44_100), {"content-type": "audio/wav"})

    # Two outputs have that shape: where a note sounds, and where one begins. In the middle of a long chord none begins.
    sounding = max((array[0, 20:120].mean(axis=0) for array in found.values() if array.shape == (1, 172, 88)), key=np.max)
    assert sorted(sounding.argsort()[-3:].tolist()) == keys
    assert curled[0] == 200
    heard = {name: np.array(value) for name, value in json.loads(curled[1])["predictions"][0].items()}
    assert all(np.allclose(heard[name], array[0], atol=1e-5) for name, array in found.items())


def test_a_sentence_lies_where_its_own_framework_puts_it(exported: Callable[[str], Path]) -> None:
    folder = exported("minilm")
    (folder / "processing.toml").write_text(SENTENCE)
    expected = json.loads((folder / "expected.json").read_text())

    with RunningServer(folder / "model.onnx", flags=("--processing", str(folder / "processing.toml"))) as server:
        got = answers(server, "model", *(sentence.encode() for sentence in expected["sentences"]))["embedding"]
        curled = json.loads(server.post("/predict", json.dumps({"text": expected["sentences"][0]}).encode())[1])

    np.testing.assert_allclose(got, expected["embedding"], atol=1e-5)
    np.testing.assert_allclose(np.array(curled["prediction"]), expected["embedding"][0], atol=1e-5)
    near, far = got[0] @ got[1], got[0] @ got[2]
    assert near > 0.5 > far


def test_spectrograms_are_those_of_librosa(exported: Callable[[str], Path]) -> None:
    expected = json.loads((exported("mel") / "expected.json").read_text())
    signal = np.random.default_rng(0).normal(0, 0.1, 4000).astype(np.float32)
    common = {"rate": 16_000, "fft": 400, "hop": 160, "mels": 40}
    mine = {
        "slaney": Mel(**common, max_frequency=8000.0),
        "htk": Mel(**common, scale="htk", norm="none", power=1, min_frequency=50.0, max_frequency=7000.0, window=300),
    }

    for name, step in mine.items():
        np.testing.assert_allclose(MelSpectrogram(step).of(signal), expected[name], rtol=1e-3, atol=1e-6)
