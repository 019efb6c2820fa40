"""A metric of the user's own: FILE.py:FUNCTION, run in a process of its own on the answers and the truths."""

from __future__ import annotations

import json
import math
import re
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from towline.app.sources import check_file
from towline.core.digest import file_digest
from towline.core.errors import UsageError
from towline.core.frames import encode_frame
from towline.core.interpreter import command
from towline.verify.metrics.named import Metric

METRIC_FAILED = "METRIC_FAILED"
TIMEOUT_S = 600.0
MAX_SAID_BYTES = 1 << 20
# For the interval, beside the two figures themselves.
DRAWING_S = 5.0
_OWN = re.compile(r"(?P<file>.+\.py):(?P<function>[^:]+)(?::(?P<better>higher|lower))?")


def is_own(word: str) -> bool:
    """Whether a word means a function in a file, or was meant to, and not the name of a figure."""
    return any(sign in word for sign in ":/.")


def check_own(word: str) -> None:
    """Raises UsageError for a word that is no function of a file, before rows are answered for it."""
    _parts(word)


def own_figures(word: str, answers: np.ndarray, truth: np.ndarray | None) -> dict[str, float]:
    """Figures by name: what `FUNCTION(answers, truth)` returns, a number (named like the function) or a dict of them.

    `answers` and `truth` are arrays with a row per row of the data. Raises UsageError with the last line of what went wrong.
    """
    source, _ = _parts(word)
    if truth is None:
        raise UsageError("The data has no labels, so there is nothing to measure.", field="metric")
    figures = _asked(source, {"answers": answers, "truth": truth})
    return {str(name): _number(value) for name, value in figures.items()}


def own_metric(word: str) -> Metric:
    """The metric that FILE.py:FUNCTION[:higher|:lower] is. Raises UsageError where nobody says which way is better."""
    source, better = _parts(word)
    file, function = source.rsplit(":", 1)
    declared = better or _asked(source)["better"]
    if declared not in ("higher", "lower"):
        raise UsageError(
            f"{source} judges, and nobody says whether higher or lower is better.",
            field="metric",
            hint=f"Write --metric {source}:higher (or :lower), or say it in the file: {function}.better = 'higher'",
        )
    return Metric(function, "higher" if declared == "higher" else "lower", source=source, digest=file_digest(Path(file).resolve()))


def own_beside(metric: Metric, first: np.ndarray, second: np.ndarray, truth: np.ndarray, *, seed: int) -> tuple[float, float, float, float]:
    """The figure of both answers, and the bounds of second minus first (NaN where too few draws could be counted).

    Raises UsageError: of code METRIC_FAILED where the function fails, METRIC_CHANGED where its file is another by now."""
    if file_digest(Path(metric.source.rsplit(":", 1)[0]).resolve()) != metric.digest:
        what = f"{metric.source} was changed while it judged; figures from before and after do not go together."
        raise UsageError(what, code="METRIC_CHANGED", field="metric", hint="Give the command again.")
    told = _asked(metric.source, {"answers": first, "second": second, "truth": truth}, str(seed), str(DRAWING_S))
    return _number(told["first"]), _number(told["second"]), _number(told["low"]), _number(told["high"])


def _parts(word: str) -> tuple[str, str]:
    """FILE.py:FUNCTION, and which way is better where the word says so."""
    found = _OWN.fullmatch(word)
    if found is None or not found["function"].isidentifier():
        raise UsageError(f"--metric {word[:128]} is not FILE.py:FUNCTION.", field="metric", hint="Write metrics.py:word_error_rate.")
    check_file(Path(found["file"]), "the Python file of the metric")
    return f"{found['file']}:{found['function']}", found["better"] or ""


def _asked(source: str, arrays: Mapping[str, np.ndarray] | None = None, *rest: str) -> dict[str, Any]:
    """What the process says (verify/metrics/own.py), of these arrays or of the function itself."""
    file, function = source.rsplit(":", 1)
    with tempfile.TemporaryDirectory(prefix="towline-metric-") as folder:
        words = command("towline.verify.metrics.own", str(Path(file).absolute()), function)
        if arrays is not None:
            frame = Path(folder, "answers.bin")
            frame.write_bytes(encode_frame(dict(arrays)))
            words += [str(frame), *rest]
        try:
            ran = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT_S, check=False)
        except subprocess.TimeoutExpired:
            raise UsageError(f"{source} took longer than {TIMEOUT_S:g} seconds.", code=METRIC_FAILED, field="metric") from None
    if ran.returncode != 0:
        said = ran.stderr[-2000:].decode("utf-8", "replace").strip().rpartition("\n")[2]
        killed = f"its process was killed by signal {-ran.returncode}" if ran.returncode < 0 else ""
        raise UsageError(f"{source} failed: {killed or said[:300] or 'its process ended'}", code=METRIC_FAILED, field="metric")
    told: dict[str, Any] = json.loads(ran.stdout[-MAX_SAID_BYTES:].rpartition(b"\n")[2])
    return told


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
