"""Have a process of its own look at one of our ONNX graphs, and hear what it found: both ends of `python -P -m MODULE GRAPH … SECONDS`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from towline.convert import wording
from towline.core.errors import ImportRefused

Found = TypeVar("Found")


def looked(module: str, arguments: Sequence[str], told: object, kind: type[Found], *, timeout_s: int, what: str, code: str) -> Found:
    """What the module's `main` found, of type `kind`. `told` is its input. Raises ImportRefused: "`what`: the reason"."""
    # -P: a file called onnx.py in the current folder must not be what gets imported.
    command = [sys.executable, "-P", "-m", module, *arguments, str(timeout_s)]
    try:
        ran = subprocess.run(command, input=msgspec.json.encode(told), capture_output=True, timeout=timeout_s + 10, check=False)
        if ran.returncode == 0:
            return msgspec.json.decode(ran.stdout, type=kind)
        said = wording.sentence(ran.stdout[:4096].decode("utf-8", "replace")) or "its process died"
    except subprocess.TimeoutExpired:
        said = f"it took longer than {timeout_s} seconds"
    except msgspec.DecodeError:
        said = "its process said what is no answer"
    raise ImportRefused(f"{what}: {said.rstrip('.')}.", code=code)


def tell(graph: Path, look: Callable[[], Any]) -> int:
    """In that process, once its limits are set: print what `look` finds. Returns the exit status."""
    try:
        found = look()
    except Exception as error:
        # The outermost frame of the process: every way in which it can fail becomes one line.
        sys.stdout.write(wording.sentence(f"{type(error).__name__}: {error}", hidden=(str(graph.parent),)))
        return 1
    sys.stdout.buffer.write(msgspec.json.encode(found))
    return 0
