"""The main of a process that runs a user's own metric, and prints what it said as one line of JSON.

`own FILE FUNCTION` says which way is better, where the function declares it; `own FILE FUNCTION FRAME` gives its figures;
`own FILE FUNCTION FRAME SEED SECONDS`, of the answers of two versions, the figure of both and the interval of their difference.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import math
import numbers
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from towline.core.frames import decode_frame
from towline.verify.metrics.difference import recounted

Function = Callable[[np.ndarray, np.ndarray], Any]


def figures_of(name: str, told: Any) -> dict[str, float | None]:
    """A number, or a dict of them, as JSON can hold it. Raises TypeError for anything else. Pure."""
    named = told if isinstance(told, dict) else {name: told}
    for key, value in named.items():
        if not isinstance(key, str) or isinstance(value, bool) or not isinstance(value, numbers.Real):
            raise TypeError(f"{name} returned {type(value).__name__} for {key!r}; a metric is a number, or a dict of numbers by name")
    return {key: _json(float(value)) for key, value in named.items()}


def beside(
    function: Function, answers: tuple[np.ndarray, np.ndarray], truth: np.ndarray, *, seed: int, most_s: float
) -> dict[str, float | None]:
    """`first` and `second` of two answers to the same rows, and `low` and `high` of their difference. Raises TypeError for no number."""
    first, second = (_number(function(one, truth)) for one in answers)
    counts = [lambda places, one=one: _drawn(function, one[places], truth[places]) for one in answers]
    found = recounted(counts[0], counts[1], len(truth), seed=seed, most_s=most_s)
    return {name: _json(value) for name, value in (("first", first), ("second", second), ("low", found.low), ("high", found.high))}


def main(arguments: list[str]) -> int:
    file, name, *rest = arguments
    # What the user's code prints is talk, not figures.
    with contextlib.redirect_stdout(sys.stderr):
        function = _loaded(file, name)
        told: object = {"better": getattr(function, "better", None)}
        if rest:
            arrays = decode_frame(Path(rest[0]).read_bytes())
            told = _told(function, name, arrays, [float(word) for word in rest[1:]])
    sys.stdout.write("\n" + json.dumps(told))
    return 0


def _told(function: Function, name: str, arrays: dict[str, np.ndarray], draws: list[float]) -> dict[str, float | None]:
    if "second" not in arrays:
        return figures_of(name, function(arrays["answers"], arrays["truth"]))
    seed, most_s = draws
    return beside(function, (arrays["answers"], arrays["second"]), arrays["truth"], seed=int(seed), most_s=most_s)


def _loaded(file: str, name: str) -> Function:
    spec = importlib.util.spec_from_file_location("metric", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(Path(file).parent))
    spec.loader.exec_module(module)
    function: Function = getattr(module, name)
    return function


def _number(told: Any) -> float:
    if isinstance(told, bool) or not isinstance(told, numbers.Real):
        what = f"a dict of {len(told)}" if isinstance(told, dict) else type(told).__name__
        raise TypeError(f"it returned {what}; what judges versions is one number")
    return float(told)


def _drawn(function: Function, answers: np.ndarray, truth: np.ndarray) -> float:
    """NaN where it has no figure of these rows, such as where all drawn are of one class."""
    try:
        return _number(function(answers, truth))
    except (ValueError, ArithmeticError):
        return math.nan


def _json(value: float) -> float | None:
    return value if math.isfinite(value) else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
