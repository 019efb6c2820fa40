"""The how-tos for other people's applications: the code on the page, run as the page says, and asked by a client."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from towline.testing import tiny_models

PAGES = Path(__file__).parents[3] / "docs" / "how-to"
# A file's name on a line of its own, then its content.
_FILE = re.compile(r"`([A-Za-z/]+\.py)`[^\n]*\n\n```python\n(.*?)```", re.DOTALL)
_ADDRESS = re.compile(rb"http://127\.0\.0\.1:[0-9]+")
ROW = [[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]]
COMMANDS = {
    "fastapi": ["uvicorn", "app:app", "--port", "0"],
    "flask": ["flask", "run", "--port", "0"],
    "django": ["uvicorn", "mysite.asgi:application", "--port", "0"],
}


def write_files(page: str, folder: Path) -> None:
    files = _FILE.findall((PAGES / page).read_text(encoding="utf-8"))
    assert files, f"{page} shows no file"
    for name, content in files:
        (folder / name).write_text(content, encoding="utf-8")


@contextmanager
def running(command: list[str], folder: Path) -> Iterator[str]:
    """A program that prints its address once it listens."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TOWLINE_")}
    environment |= {"TOWLINE_HOME": str(folder / "store"), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        [sys.executable, "-m", *command], cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as program:
        assert program.stdout is not None
        said = b""
        try:
            while not (found := _ADDRESS.search(said)):
                line = program.stdout.readline()
                assert line, f"it ended: {said.decode()}"
                said += line
            yield found[0].decode()
        finally:
            program.send_signal(signal.SIGINT)
            program.communicate(timeout=120)


@pytest.fixture(scope="module", params=sorted(COMMANDS))
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """The name of a page and the address of what it shows."""
    name = str(request.param)
    folder = tmp_path_factory.mktemp(name)
    if name == "django":
        subprocess.run([sys.executable, "-m", "django", "startproject", "mysite", str(folder)], check=True, timeout=180)
    tiny_models.write(folder, tiny_models.mlp(), "model.onnx")
    write_files(f"{name}.md", folder)
    with running(COMMANDS[name], folder) as url:
        yield name, url


def test_the_route_of_the_page_answers_and_refuses(site: tuple[str, str]) -> None:
    good = requests.post(f"{site[1]}/classify", json={"values": ROW}, timeout=180)
    bad = requests.post(f"{site[1]}/classify", json={"values": [[1, 2]]}, timeout=180)

    assert (good.status_code, list(good.json())) == (200, ["classes"])
    assert bad.status_code == 422
    assert "[N, 10]" in bad.text


def test_what_is_mounted_answers_by_every_protocol_below_its_prefix(site: tuple[str, str]) -> None:
    name, url = site
    if name == "flask":
        assert requests.get(f"{url}/ml/v2", timeout=180).status_code == 404
        return
    body = {"inputs": [{"name": "x", "shape": [1, 10], "datatype": "FP32", "data": ROW}]}

    found = [
        requests.post(f"{url}/ml/predict", json={"input": ROW}, timeout=180).json()["output"],
        requests.post(f"{url}/ml/v1/models/model:predict", json={"instances": ROW}, timeout=180).json()["predictions"],
        [requests.post(f"{url}/ml/v2/models/model/infer", json=body, timeout=180).json()["outputs"][0]["data"]],
    ]

    assert found[0] == found[1] == found[2]
    assert requests.get(f"{url}/ml/readyz", timeout=180).status_code == 200
    assert requests.get(f"{url}/readyz", timeout=180).status_code == 404


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_the_translation_shows_the_same_code(name: str) -> None:
    code = re.compile(r"```\w+\n.*?```", re.DOTALL)

    assert code.findall((PAGES / f"{name}.md").read_text(encoding="utf-8")) == code.findall(
        (PAGES / f"{name}.zh-CN.md").read_text(encoding="utf-8")
    )
