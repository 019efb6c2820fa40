"""Where the environments of frameworks are: Pythons of their own, made by `towline env create NAME`, that convert and run models."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from towline.core.errors import MissingExtra, VersionError

VARIABLE = "TOWLINE_ENVIRONMENTS"
# The module whose presence tells that a Python has what an environment of this name is for.
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
PROBES = {
    "torch": "torch",
    "tensorflow": "tensorflow",
    "litert": "ai_edge_litert",
    "tabular": "skl2onnx",
    "onnx2tf": "onnx2tf",
    "openvino": "openvino",
}


def environments_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """TOWLINE_ENVIRONMENTS, else beside the store's default place: they belong to the machine, not to one store."""
    named = environ.get(VARIABLE)
    if named:
        return Path(named).absolute()
    data = environ.get("XDG_DATA_HOME") or os.path.join(environ.get("HOME") or os.path.expanduser("~"), ".local", "share")
    return Path(data, "towline", "environments")


def python_of(name: str, environ: Mapping[str, str] = os.environ) -> str:
    """The Python that has what `name` is for: that of its environment, else our own if the framework is installed there.

    Raises MissingExtra that says how to make the environment.
    """
    if not _NAME.fullmatch(name):
        # Importers name environments, and whoever wrote a manifest.
        raise VersionError(f"'{name[:64]!a}' is no name of an environment.", code="BAD_ENVIRONMENT")
    python = environments_folder(environ) / name / "bin" / "python"
    if (python.parent.parent / "ready.json").is_file() and os.access(python, os.X_OK):
        return str(python)
    if name in PROBES and importlib.util.find_spec(PROBES[name]) is not None:
        return sys.executable
    raise MissingExtra(
        f"This needs the '{name}' environment, which is not on this machine.",
        code="MISSING_ENVIRONMENT",
        hint=f"Make it once: towline env create {name}",
    )
