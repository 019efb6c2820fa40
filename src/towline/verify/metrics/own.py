"""The main of a process that runs a user's own metric: `own FILE FUNCTION FRAME`, which prints its figures as one line of JSON."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import math
import numbers
import sys
from pathlib import Path
from typing import Any

from towline.core.frames import decode_frame


def figures_of(name: str, told: Any) -> dict[str, float | None]:
    """A number, or a dict of them, as JSON can hold it. Raises TypeError for anything else. Pure."""
    named = told if isinstance(told, dict) else {name: told}
    for key, value in named.items():
        if not isinstance(key, str) or isinstance(value, bool) or not isinstance(value, numbers.Real):
            raise TypeError(f"{name} returned {type(value).__name__} for {key!r}; a metric is a number, or a dict of numbers by name")
    return {key: float(value) if math.isfinite(value) else None for key, value in named.items()}


def main(arguments: list[str]) -> int:
    file, function, frame = arguments
    arrays = decode_frame(Path(frame).read_bytes())
    # What the user's code prints is talk, not figures.
    with contextlib.redirect_stdout(sys.stderr):
        spec = importlib.util.spec_from_file_location("metric", file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.path.insert(0, str(Path(file).parent))
        spec.loader.exec_module(module)
        told = getattr(module, function)(arrays["answers"], arrays["truth"])
    sys.stdout.write("\n" + json.dumps(figures_of(function, told)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
