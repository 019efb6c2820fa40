"""A picture, a sound, a sentence and a row of a table go through /predict into versions that declare processing, decoded in a worker."""

from __future__ import annotations

import base64
import io
import struct
import wave
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from PIL import Image
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

import towline
from towline.testing import tiny_models
from towline.testing.server import RunningServer

RED, BLUE = (240, 10, 20), (10, 20, 240)
BEST_OF_THREE = """
[[after]]
step = "softmax"

[[after]]
step = "top_k"
k = 3

[[after]]
step = "labels"
"""
DECLARED = {
    "colours": '[[before]]\nstep = "image"\n[[before]]\nstep = "resize"\nwidth = 8\nheight = 8\n[[before]]\nstep = "normalise"\n'
    + BEST_OF_THREE,
    "loud": '[[before]]\nstep = "audio"\n[[before]]\nstep = "resample"\nrate = 8000\n',
    "words": '[[before]]\nstep = "text"\ntokenizer = "tokenizer.json"\n[[after]]\nstep = "softmax"\n[[after]]\nstep = "top_k"\nk = 1\n',
}


def encoded(colour: tuple[int, int, int], kind: str = "PNG") -> bytes:
    place = io.BytesIO()
    Image.new("RGB", (12, 9), colour).save(place, kind)
    return place.getvalue()


def tone(level: int) -> bytes:
    place = io.BytesIO()
    with wave.open(place, "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(struct.pack("<800h", *[level, -level] * 400))
    return place.getvalue()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("models")
    models = {"colours": tiny_models.mean_colour(), "loud": tiny_models.loudness(), "words": tiny_models.bag_of_tokens()}
    vocabulary = {"[UNK]": 0, "good": 1, "bad": 2}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "labels.txt").write_text("red\ngreen\nblue\n")
    for name, model in models.items():
        (folder / f"{name}.toml").write_text(DECLARED[name])
        towline.import_model(
            tiny_models.write(folder, model, f"{name}.onnx"),
            labels=folder / "labels.txt" if name == "colours" else None,
            processing=folder / f"{name}.toml",
            home=folder / "home",
        )
    with RunningServer(*models, home=folder / "home", settings={"max_image_pixels": 10_000}) as running:
        yield running


def post(server: RunningServer, model: str, **more: Any) -> requests.Response:
    return requests.post(f"{server.url}/models/{model}/predict", timeout=30, **more)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "WEBP"])
def test_a_picture_of_every_format_is_decoded(server: RunningServer, kind: str) -> None:
    answer = post(server, "colours", files={"image": ("a", encoded(BLUE, kind))}).json()

    assert (answer["label"], answer["prediction"]) == ("blue", 2)
    assert answer["probability"] == answer["score"] == answer["predictions"][0]["score"]
    assert answer["predictions"][0]["top"][0]["label"] == "blue"
    assert len(answer["predictions"][0]["top"]) == 3


def test_the_same_picture_gets_the_same_answer_in_every_form(server: RunningServer) -> None:
    raw = encoded(RED)
    text = base64.b64encode(raw).decode()
    answers = [
        post(server, "colours", files={"file": ("a", raw)}),
        post(server, "colours", data=raw, headers={"Content-Type": "image/png"}),
        post(server, "colours", json={"image": {"b64": text}}),
        post(server, "colours", json={"image_data": text}),
    ]

    assert {answer.json()["label"] for answer in answers} == {"red"}
    assert len({repr(answer.json()["predictions"]) for answer in answers}) == 1


def test_a_batch_of_pictures_keeps_its_order(server: RunningServer) -> None:
    answer = post(server, "colours", files=[("file", ("a", encoded(colour))) for colour in (RED, BLUE, RED)]).json()

    assert [one["label"] for one in answer["predictions"]] == ["red", "blue", "red"]


def test_a_picture_torn_behind_its_header_is_found_by_the_worker_and_named(server: RunningServer) -> None:
    answer = post(server, "colours", files=[("image", ("a", encoded(RED))), ("image", ("b", encoded(BLUE)[:45]))])

    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "BAD_IMAGE")
    assert "[1]" in answer.json()["error"]["field"]


def test_a_sound_is_decoded(server: RunningServer) -> None:
    quiet, loud = (
        post(server, "loud", data=tone(level), headers={"Content-Type": "audio/wav"}).json()["prediction"][0] for level in (100, 20_000)
    )

    assert 0 < quiet < 0.001 < loud


def test_a_sentence_is_tokenized(server: RunningServer) -> None:
    as_text = post(server, "words", data=b"good good", headers={"Content-Type": "text/plain"}).json()
    as_json = post(server, "words", json={"text": "good good"}).json()
    plain = post(server, "words", json={"input": "good good"}).json()

    assert as_text["prediction"] == as_json["prediction"] == plain["index"]
    assert as_text["predictions"] == as_json["predictions"]
    assert post(server, "words", json={"text": "bad"}).json()["predictions"] != as_json["predictions"]
