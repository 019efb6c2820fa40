"""Real models, exported once per run by the environment that has the frameworks (make test-frameworks makes it)."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from towline.core.environments import PROBES, VARIABLE, environments_folder

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-frameworks" / "bin" / "python"
EXPORT_TIMEOUT_S = 300


@pytest.fixture(scope="session")
def environments() -> Iterator[Path]:
    """The folder with the environments that import needs, named to every process that a test starts: what TOWLINE_ENVIRONMENTS says, else
    those that make test-frameworks made in this checkout, else this user's own.
    """
    before = os.environ.get(VARIABLE)
    own = ROOT / ".environments"
    folder = own if before is None and own.is_dir() else environments_folder()
    missing = [name for name in PROBES if not (folder / name / "ready.json").is_file()]
    assert not missing, f"{folder} lacks {', '.join(missing)}: run make test-frameworks"
    os.environ[VARIABLE] = str(folder)
    yield folder
    if before is None:
        del os.environ[VARIABLE]


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`exported("mobilenet")` is a folder with what tests/frameworks/export_models.py wrote for it."""
    folders: dict[str, Path] = {}

    def export(what: str) -> Path:
        if what not in folders:
            assert PYTHON.exists(), "the environment with the frameworks is not there: run make test-frameworks"
            folder = folders[what] = tmp_path_factory.mktemp(what)
            script = Path(__file__).parent / "export_models.py"
            ran = subprocess.run([PYTHON, script, what, folder], capture_output=True, text=True, timeout=EXPORT_TIMEOUT_S, check=False)
            assert ran.returncode == 0, ran.stderr[-2000:]
        return folders[what]

    return export


@pytest.fixture(scope="session")
def run_tensorflow(environments: Path) -> Callable[..., None]:
    """`run_tensorflow("script.py", *paths)` runs a script of this folder in the environment of TensorFlow, which is lent our package."""

    def run(script: str, *paths: Path) -> None:
        words = [environments / "tensorflow/bin/python", Path(__file__).parent / script, *paths]
        space = {"PYTHONPATH": str(ROOT / "src"), "PATH": ""}
        ran = subprocess.run(words, capture_output=True, text=True, timeout=EXPORT_TIMEOUT_S, check=False, env=space)
        assert ran.returncode == 0, ran.stderr[-3000:]

    return run


@pytest.fixture(scope="session")
def tensorflow_sources(run_tensorflow: Callable[..., None], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What tests/frameworks/tensorflow_models.py writes."""
    folder = tmp_path_factory.mktemp("tensorflow")
    run_tensorflow("tensorflow_models.py", folder)
    return folder


@pytest.fixture(scope="session")
def trained(environments: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What tests/frameworks/training_lab.py found, by case; it trains in the environment of PyTorch."""
    folder = tmp_path_factory.mktemp("training")
    words = [environments / "torch/bin/python", Path(__file__).parent / "training_lab.py", folder]
    space = {"PYTHONPATH": str(ROOT / "src"), "PATH": ""}
    ran = subprocess.run(words, capture_output=True, text=True, timeout=EXPORT_TIMEOUT_S, check=False, env=space)
    assert ran.returncode == 0, ran.stderr[-3000:]
    return dict(json.loads((folder / "found.json").read_text()))
