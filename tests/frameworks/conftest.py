"""Real models, exported once per run by the environment that has the frameworks (make test-frameworks makes it)."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-frameworks" / "bin" / "python"
EXPORT_TIMEOUT_S = 300


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
