"""Import TensorFlow Lite files, which LiteRT then serves as they are. Runs in the environment `litert`."""

from __future__ import annotations

import importlib.metadata
import mmap
from pathlib import Path
from typing import Any

from towline.convert.base import Task
from towline.convert.tflite.flatbuffer import damaged
from towline.convert.tflite.model import TfliteModel, read_model
from towline.convert.tflite.source import TfliteSource, served_as_it_is
from towline.convert.tflite.structure import check_structure
from towline.core.errors import ImportRefused

MAX_FILE_BYTES = 2 << 30
# An identifier, and the smallest tables.
_MIN_FILE_BYTES = 16


class TfliteImporter:
    name = "tflite"
    environment = "litert"

    def load(self, task: Task) -> TfliteSource:
        """Read by ourselves first: LiteRT only sees what lies within its limits and its file."""
        model = checked(task)
        tools = {"ai-edge-litert": importlib.metadata.version("ai-edge-litert")}
        return TfliteSource(task.source, model, interpret=_interpreter, ways={"litert": served_as_it_is}, tools=tools)


def checked(task: Task) -> TfliteModel:
    """What the file of a task holds, found fit to be run. Raises ImportRefused."""
    if task.options:
        raise ImportRefused(
            f"Option '{sorted(task.options)[0][:64]!a}' is not known for TensorFlow Lite files: they say all of themselves.",
            code="UNKNOWN_OPTION",
            hint="Leave it out.",
        )
    size = task.source.stat().st_size
    if size > MAX_FILE_BYTES:
        raise ImportRefused(f"The TensorFlow Lite file has {size} bytes; at most {MAX_FILE_BYTES} are taken.", code="TOO_LARGE")
    if size < _MIN_FILE_BYTES:
        raise damaged(f"it has {size} bytes")
    with task.source.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as raw, memoryview(raw) as view:
        model = read_model(view)
    check_structure(model)
    return model


def _interpreter(path: Path) -> Any:
    # Late: a file that is refused has no business with the library.
    from ai_edge_litert.interpreter import Interpreter

    return Interpreter(model_path=str(path), num_threads=1)
