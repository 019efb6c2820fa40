"""Files and forms sent by requests and by curl, over a socket, to a model in its worker."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from towline.testing import tiny_models
from towline.testing.server import RunningServer


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """`echo` gives back the text it is sent; `two` adds a and b."""
    folder = tmp_path_factory.mktemp("models")
    files = [
        tiny_models.write(folder, tiny_models.identity("string", ("N",)), "echo.onnx"),
        tiny_models.write(folder, tiny_models.add_two(), "two.onnx"),
    ]
    with RunningServer(*files, settings={"max_request_bytes": 1 << 20}) as running:
        yield running


def curl(*words: str) -> Any:
    return json.loads(subprocess.run(["curl", "-s", *words], capture_output=True, check=True, timeout=180).stdout)


def test_requests_uploads_one_file_or_several(server: RunningServer) -> None:
    url = f"{server.url}/models/echo/predict"

    one = requests.post(url, files={"file": ("../../a.txt", b"first")}, timeout=30).json()
    many = requests.post(url, files=[("file", ("a", b"first")), ("file", ("b", b"second"))], timeout=30).json()

    assert (one["model"], one["version"], one["prediction"]) == ("echo", "1", "first")
    assert many["predictions"] == ["first", "second"]


def test_requests_sends_a_form_of_numbers(server: RunningServer) -> None:
    answer = requests.post(f"{server.url}/models/two/predict", files={"a": (None, "[1, 2]"), "b": (None, "[3, 4]")}, timeout=30)

    assert answer.json()["prediction"] == [4, 6]


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl_uploads_a_file_a_field_and_a_body(server: RunningServer, tmp_path: Path) -> None:
    url = f"{server.url}/models/echo/predict"
    file = tmp_path / "note.txt"
    file.write_bytes("Grüße\r\n--not a boundary".encode())

    for words in (("-F", f"file=@{file}"), ("-F", f"text=<{file}"), ("-H", "Content-Type: text/plain", "--data-binary", f"@{file}")):
        assert curl(*words, url)["prediction"] == file.read_bytes().decode(), words


def test_a_form_beyond_the_limit_is_refused_while_it_arrives(server: RunningServer) -> None:
    answer = requests.post(f"{server.url}/models/echo/predict", files={"file": ("a", bytes(2 << 20))}, timeout=30)

    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "BODY_TOO_LARGE")
