"""A metric of the user's own: FILE.py:FUNCTION, run in a process of its own on the answers and the truths."""

from __future__ import annotations

import json
import math
import subprocess
import tempfile
from pathlib import Path

from towline.app.sources import check_file
from towline.core.errors import UsageError
from towline.core.frames import encode_frame
from towline.core.interpreter import command
from towline.verify.accuracy import Answered
from towline.verify.data.dataset import DataSet

TIMEOUT_S = 600.0
MAX_SAID_BYTES = 1 << 20


def own_metric(source: str, answered: Answered, data: DataSet) -> dict[str, float]:
    """Figures by name: what `FUNCTION(answers, truth)` returns, a number (named like the function) or a dict of them.

    `answers` and `truth` are arrays with a row per row of the data. Raises UsageError with the last line of what went wrong.
    """
    file, _, function = source.rpartition(":")
    if not file.endswith(".py") or not function.isidentifier():
        raise UsageError(f"--metric {source[:128]} is not FILE.py:FUNCTION.", field="metric", hint="Write metrics.py:word_error_rate.")
    check_file(Path(file), "the Python file of the metric")
    if data.truth is None:
        raise UsageError("The data has no labels, so there is nothing to measure.", field="metric")
    with tempfile.TemporaryDirectory(prefix="towline-metric-") as folder:
        frame = Path(folder, "answers.bin")
        frame.write_bytes(encode_frame({"answers": answered.answers, "truth": data.truth}))
        words = command("towline.verify.metrics.own", str(Path(file).absolute()), function, str(frame))
        try:
            ran = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT_S, check=False)
        except subprocess.TimeoutExpired:
            raise UsageError(f"{source} took longer than {TIMEOUT_S:g} seconds.", code="METRIC_FAILED", field="metric") from None
    if ran.returncode != 0:
        said = ran.stderr[-2000:].decode("utf-8", "replace").strip().rpartition("\n")[2]
        raise UsageError(f"{source} failed: {said[:300]}", code="METRIC_FAILED", field="metric")
    figures = json.loads(ran.stdout[-MAX_SAID_BYTES:].rpartition(b"\n")[2])
    return {str(name): float(value) if value is not None else math.nan for name, value in figures.items()}
