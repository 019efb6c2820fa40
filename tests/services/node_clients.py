"""Node and the packages of tests/services/node, installed once into a folder that git ignores."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "node"
_INSTALL_TIMEOUT_S = 900
_RUN_TIMEOUT_S = 300


def install() -> None:
    """npm install, unless what is there is what package.json asks for."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        raise RuntimeError("Node is needed: apt-get install nodejs npm (make test-services does it).")
    stamp = FOLDER / "node_modules" / ".installed"
    asked = (FOLDER / "package.json").read_text()
    if not stamp.exists() or stamp.read_text() != asked:
        command = ["npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts", "--loglevel=error"]
        subprocess.run(command, cwd=FOLDER, check=True, timeout=_INSTALL_TIMEOUT_S)
        stamp.write_text(asked)


def run(script: str, *arguments: str, timeout_s: float = _RUN_TIMEOUT_S) -> Any:
    """What a script of the folder printed, as JSON. Raises CalledProcessError."""
    ran = subprocess.run(["node", script, *arguments], cwd=FOLDER, capture_output=True, text=True, timeout=timeout_s)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)
