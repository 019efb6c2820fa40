"""A handler in an environment of its own: what is installed there is found, what is installed here is not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest

from towline.app.importing.model import import_model
from towline.core.errors import ImportRefused, UsageError
from towline.testing.server import RunningServer

CODE = """
import importlib.util, sys
import only_there

class Mine:
    sample = None

    def predict(self, request):
        return {"there": only_there.WORD, "prefix": sys.prefix, "sees_ours": importlib.util.find_spec("click") is not None}
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with what a worker needs, and a module that is nowhere else."""
    folder = tmp_path_factory.mktemp("other") / "env"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    for package in (np, msgspec):
        source = Path(str(package.__file__)).parent
        (site / source.name).symlink_to(source)
        for libraries in source.parent.glob(f"{source.name}.libs"):
            (site / libraries.name).symlink_to(libraries)
    (site / "only_there.py").write_text("WORD = 'there'\n")
    return folder


def test_a_handler_runs_where_it_is_told_to(environment: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(CODE)

    with RunningServer(f"{tmp_path / 'mine.py'}:Mine", flags=("--python", str(environment / "bin" / "python"))) as server:
        status, raw = server.post("/predict", b"null")

    assert (status, json.loads(raw)) == (200, {"there": "there", "prefix": str(environment), "sees_ours": False})


def test_without_its_environment_what_is_missing_is_named(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(CODE)

    with pytest.raises(ImportRefused, match="imports 'only_there'") as caught:
        import_model(f"{tmp_path / 'mine.py'}:Mine", home=tmp_path / "home")

    assert "--python" in caught.value.hint


def test_what_is_no_python_is_told(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(CODE)

    with pytest.raises(UsageError, match="not a program"):
        import_model(f"{tmp_path / 'mine.py'}:Mine", home=tmp_path / "home", python=tmp_path / "mine.py")


def test_an_environment_that_lacks_what_a_worker_needs_says_so(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    bare = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(bare)], check=True)
    (tmp_path / "mine.py").write_text("class Mine:\n    def predict(self, x):\n        return x\n")

    with pytest.raises(ImportRefused, match="without an answer"):
        import_model(f"{tmp_path / 'mine.py'}:Mine", home=tmp_path / "home", python=bare / "bin" / "python")

    assert "-m pip install msgspec numpy" in capfd.readouterr().err
