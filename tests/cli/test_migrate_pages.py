"""The how-tos on migration are what they say: their commands move what the pages describe, and their requests are answered."""

from __future__ import annotations

import re
import shlex
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from command_line import Run
from PIL import Image

from towline.testing import tiny_models
from towline.testing.server import RunningServer

PAGES = Path(__file__).parents[2] / "docs" / "how-to"
BLOCK = re.compile(r"```(\w*)\n(.*?)```", re.DOTALL)
CONFIG = (
    'model_config_list { config { name: "add" base_path: "/models/add" model_platform: "tensorflow"'
    ' version_labels { key: "stable" value: 1 } } }'
)

Make = Callable[[Path], None]


def commands(page: str, program: str) -> list[list[str]]:
    lines = [line for _, text in BLOCK.findall(page) for line in text.splitlines()]
    return [shlex.split(line[2:]) for line in lines if line.startswith(f"$ {program} ")]


def put(folder: Path, name: str, content: bytes) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)


def tfserving(folder: Path) -> None:
    put(folder, "models/models.config", CONFIG.encode())
    put(folder, "models/batching.txt", b"max_batch_size { value: 16 }")
    put(folder, "models/add/1/model.onnx", tiny_models.linear(features=1))


def triton(folder: Path) -> None:
    put(folder, "models/add/config.pbtxt", b'backend: "onnxruntime" max_batch_size: 4')
    put(folder, "models/add/1/model.onnx", tiny_models.linear(features=1))


def torchserve(folder: Path) -> None:
    folder.joinpath("model-store").mkdir()
    put(folder, "config.properties", b"inference_address=http://127.0.0.1:8080\n")
    Image.new("RGB", (8, 8), "red").save(folder / "picture.png")
    manifest = b'{"model": {"modelName": "colour", "serializedFile": "m.onnx", "handler": "image_classifier", "modelVersion": "1.0"}}'
    with zipfile.ZipFile(folder / "model-store" / "colour.mar", "w") as archive:
        archive.writestr("MAR-INF/MANIFEST.json", manifest)
        archive.writestr("m.onnx", tiny_models.mean_colour())


@pytest.mark.parametrize("make", [tfserving, triton, torchserve])
def test_the_commands_of_a_page_do_what_it_says(
    make: Make, towline: Run, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name = make.__name__
    page = (PAGES / f"migrate-{name}.md").read_text()
    make(tmp_path)

    for words in commands(page, "towline migrate"):
        here = [word.replace("/srv/models", str(tmp_path / "models")) for word in words[1:]]
        done = towline(*here)
        assert done.code == 0, done.err
    (serve,) = commands(page, "towline serve")
    assert done.err.splitlines()[-1].split()[1:] == serve

    settings = tomllib.loads((tmp_path / "towline.toml").read_text())
    said = {f"127.0.0.1:{settings['port']}"}
    more = ("--rest_api_port=0",) if name == "tfserving" else ()
    with RunningServer(home=home, settings=settings | {"port": 0, "grpc_port": 0}, flags=(*serve[2:], *more)) as server:
        for words in commands(page, "curl"):
            url = next(word for word in words if word.startswith("http"))
            assert urlsplit(url).netloc in said
            status, body = ask(server, words, urlsplit(url).path, tmp_path)
            assert status == 200, (words, body)


def ask(server: RunningServer, words: list[str], path: str, folder: Path) -> tuple[int, bytes]:
    if "-d" in words:
        return server.post(path, words[words.index("-d") + 1].encode(), {"Content-Type": "application/x-www-form-urlencoded"})
    if "-T" in words:
        return server.ask("PUT", path, (folder / words[words.index("-T") + 1]).read_bytes())
    return server.get(path)


@pytest.mark.parametrize("name", ["tfserving", "triton", "torchserve"])
def test_the_chinese_page_has_the_same_commands(name: str) -> None:
    english, chinese = ((PAGES / f"migrate-{name}{language}.md").read_text() for language in ("", ".zh-CN"))

    assert BLOCK.findall(english) == BLOCK.findall(chinese)
