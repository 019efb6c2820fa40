"""schemathesis, which knows of us only what /openapi.json says, against a real server: no 500, and every answer as it is described."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import towline
from towline.testing import tiny_models
from towline.testing.server import RunningServer

pytestmark = pytest.mark.services
SCHEMATHESIS = Path(__file__).parents[2] / ".venv-fuzz" / "bin" / "schemathesis"
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,response_schema_conformance"
MODELS = {
    "mlp": tiny_models.mlp(),
    "two": tiny_models.add_two(),
    "text": tiny_models.identity("string", ("N",)),
    "u8": tiny_models.identity("uint8"),
    "flag": tiny_models.identity("bool"),
    "fixed": tiny_models.fixed_shape(),
    "log": tiny_models.logarithm(),
    "table": tiny_models.embedding(),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """Serves models of many dtypes, and `colours`, which reads pictures."""
    folder = tmp_path_factory.mktemp("models")
    files = [tiny_models.write(folder, model, f"{name}.onnx") for name, model in MODELS.items()]
    (folder / "labels.txt").write_text("red\ngreen\nblue\n")
    (folder / "processing.toml").write_text('[[before]]\nstep = "image"\n[[before]]\nstep = "resize"\nwidth = 8\nheight = 8\n')
    colours = tiny_models.write(folder, tiny_models.mean_colour(), "colours.onnx")
    towline.import_model(colours, labels=folder / "labels.txt", processing=folder / "processing.toml", home=folder / "home")
    with RunningServer("colours", *files, home=folder / "home") as running:
        yield running


def test_what_is_described_is_what_is_served(server: RunningServer, tmp_path: Path) -> None:
    front, workers = server.front_pid, {name: server.worker_pid(name) for name in (*MODELS, "colours")}
    command = [str(SCHEMATHESIS), "run", f"{server.url}/openapi.json", "--url", server.url, "--checks", CHECKS]
    limits = ["--max-examples", "100", "--max-time", "60", "--workers", "1", "--generation-database", "none", "--no-color"]

    ran = subprocess.run([*command, *limits], cwd=tmp_path, capture_output=True, text=True, timeout=400)

    assert ran.returncode == 0, ran.stdout[-6000:]
    operations = re.search(r"Tested: (\d+)", ran.stdout)
    assert operations is not None
    assert int(operations[1]) >= 7 * (len(MODELS) + 1)
    assert (server.front_pid, {name: server.worker_pid(name) for name in workers}) == (front, workers)
    assert "a handler failed" not in server.log()
