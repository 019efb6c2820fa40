"""Real models, exported once per run by the environment that has the frameworks (make test-frameworks makes it)."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

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
