"""How a module of ours is run: by our own Python, or by that of another environment, which is lent this package and nothing else.

A worker's kind is one word, so that whoever passes the wish for a worker on need not read it: its engine, the Python of its own that it
runs in, and for what runs behind walls the folder that it may read.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from towline.core.environments import python_of

if TYPE_CHECKING:
    # The supervisor runs commands and reads no manifest.
    from towline.core.manifest import Manifest

# What the other Python is told: where `towline` is, and which of its modules to run. Its own packages stay its own, ours stay ours.
_LENT = """
import importlib.util, runpy, sys
root, module = sys.argv[1:3]
class Lent:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == "towline":
            return importlib.util.spec_from_file_location(name, root + "/__init__.py", submodule_search_locations=[root])
sys.meta_path.insert(0, Lent)
sys.argv = [module, *sys.argv[3:]]
try:
    runpy.run_module(module, run_name="__main__", alter_sys=True)
except ModuleNotFoundError as error:
    sys.exit(f"{sys.executable} lacks '{error.name}', which a worker needs: {sys.executable} -m pip install msgspec numpy")
"""
_PACKAGE = Path(__file__).parents[1]
# No path holds it.
_SEPARATOR = "\0"


def worker_kind(manifest: Manifest, folder: Path) -> str:
    """What is asked for when a worker for the version in `folder` is to be made.

    Raises MissingExtra when the environment that it needs is not on this machine.
    """
    if manifest.environment:
        return _SEPARATOR.join((manifest.engine, python_of(manifest.environment), str(folder.absolute())))
    python = manifest.handler.python if manifest.handler is not None else ""
    return _SEPARATOR.join((manifest.engine, python)) if python else manifest.engine


def worker_command(own: list[str], kind: str) -> list[str]:
    """The command line of a worker of this kind, up to its descriptors; `own` is that of one in our own Python, without its engine."""
    engine, python, folder = (*kind.split(_SEPARATOR), "", "")[:3]
    if not python:
        return [*own, engine]
    words = [*command("towline.engines.host", "worker", python=python), engine]
    # What was made of a stranger's file reads that and its own Python, and nothing else.
    return [*command("towline.secure.sandbox.worker", folder), *words] if folder else words


def placed(words: Sequence[str], descriptors: Mapping[str, int]) -> list[str]:
    """A command line in which each word of `descriptors` has become the number of that descriptor."""
    return [str(descriptors.get(word, word)) for word in words]


def command(module: str, *arguments: str, python: str = "") -> list[str]:
    """`python -m module arguments`. -P: nothing in the folder this is started in is imported in place of what it names."""
    if python:
        return [python, "-P", "-c", _LENT, str(_PACKAGE), module, *arguments]
    return [sys.executable, "-P", "-m", module, *arguments]
