"""Runs a client in the environment of its own that the Makefile keeps for it, and gives what it printed."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
CHECKOUT = HERE.parents[2]
_TIMEOUT_S = 240


def session(environment: str, script: str, *arguments: str) -> Any:
    """The JSON object that a script of this folder prints. environment: a folder of the checkout, `.venv-client-kserve`."""
    python = CHECKOUT / environment / "bin" / "python"
    if not (python.parents[1] / ".ready").exists():
        raise RuntimeError(f"{environment} is not there: make {environment}/.ready")
    done = subprocess.run(
        [str(python), str(HERE / script), *arguments],
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
        env={"PATH": "/usr/bin:/bin"},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
