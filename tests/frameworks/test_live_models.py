"""A model of the user's own process is imported as it is, by the Python that made it, and left as it was."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from towline.testing.server import RunningServer

pytestmark = pytest.mark.frameworks

ROOT = Path(__file__).parents[2]
SCRIPT = Path(__file__).parent / "live_models.py"
RUN_TIMEOUT_S = 300
_ENVIRONMENTS = {"torch": "torch", "keras": "tensorflow", "sklearn": "tabular", "lightgbm": "tabular", "refused": "tabular"}


@pytest.fixture(scope="module")
def python_with(environments: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A Python as a user's is: one framework, and our package with what it needs."""
    made: dict[str, Path] = {}

    def make(environment: str) -> Path:
        if environment not in made:
            folder = tmp_path_factory.mktemp(environment)
            subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True, timeout=RUN_TIMEOUT_S)
            (packages,) = folder.glob("lib/python*/site-packages")
            (theirs,) = (environments / environment).glob("lib/python*/site-packages")
            # Theirs first: one numpy, one protobuf.
            (packages / "shared.pth").write_text(f"{theirs}\n{sysconfig.get_path('purelib')}\n{ROOT / 'src'}\n")
            made[environment] = folder / "bin" / "python"
        return made[environment]

    return make


@pytest.fixture
def told(python_with: Callable[[str], Path], tmp_path: Path) -> Callable[[str], dict[str, Any]]:
    def run(kind: str) -> dict[str, Any]:
        python = python_with(_ENVIRONMENTS[kind])
        environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        words = [str(python), "-W", "ignore", str(SCRIPT), kind, str(tmp_path / "home")]
        ran = subprocess.run(words, env=environ, capture_output=True, text=True, timeout=RUN_TIMEOUT_S, check=False)
        assert ran.returncode == 0, ran.stderr[-3000:]
        return json.loads(ran.stdout.strip().rpartition("\n")[2])

    return run


def test_a_module_of_pytorch_is_imported_as_it_is(told: Callable[[str], dict[str, Any]]) -> None:
    said = told("torch")

    assert said["version"] == "live:1"
    assert said["format"] == "PyTorch module"
    assert said["inputs"] == [["input", "float32", ["N", 4]]]
    assert said["difference"] < 1e-5
    assert said["as_it_was"]
    assert said["proven_on"]


def test_a_keras_model_is_imported_as_it_is_and_served(told: Callable[[str], dict[str, Any]], tmp_path: Path) -> None:
    said = told("keras")

    assert said["inputs"] == [["row", "float32", ["N", 4]]]
    assert said["difference"] < 1e-5
    with RunningServer("live:1", home=tmp_path / "home") as server:
        status, body = server.post("/v1/models/live:predict", b'{"instances": [[1, 2, 3, 4]]}')
    assert status == 200
    assert len(json.loads(body)["predictions"][0]) == 3


def test_a_fitted_pipeline_is_imported_with_a_data_frame_as_its_sample(told: Callable[[str], dict[str, Any]]) -> None:
    said = told("sklearn")

    assert said["inputs"] == [["age", "float32", ["N", 1]], ["city", "string", ["N", 1]]]
    assert said["golden"] == 1
    assert said["difference"] < 1e-3


def test_a_booster_is_imported_as_it_is(told: Callable[[str], dict[str, Any]]) -> None:
    said = told("lightgbm")

    assert said["format"] == "LightGBM model"
    assert said["difference"] < 1e-5


def test_what_is_no_model_or_was_never_fitted_is_refused(told: Callable[[str], dict[str, Any]]) -> None:
    assert told("refused") == {"dict": "NO_MODEL", "own": "CUSTOM_CLASS", "unfitted": "NOT_FITTED"}
