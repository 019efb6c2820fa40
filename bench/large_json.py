"""A model that answers while a client posts 56 MiB of wrong JSON, again and again: how long it waits."""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from pathlib import Path

from bystander import asked_while
from towline.testing import tiny_models
from towline.testing.server import RunningServer

# 5.4 million numbers in 256 rows: near all the limits of one body.
ROWS, WIDTH = 256, 21_000
POSTS = 4


def measure() -> dict[str, float]:
    """The bystander's p99 and longest wait in milliseconds, over all such bodies, and the median time of one of them (seconds)."""
    with tempfile.TemporaryDirectory(prefix="towline-bench-") as scratch:
        folder = Path(scratch)
        small = tiny_models.write(folder, tiny_models.identity(), "bystander.onnx")
        wide = tiny_models.write(folder, tiny_models.identity("float32", ("N", WIDTH)), "wide.onnx")
        with RunningServer(small, wide) as server:
            return _measured(server)


def _measured(server: RunningServer) -> dict[str, float]:
    bodies = _bodies()
    took_s: list[float] = []

    def post_all() -> None:
        for path, body in bodies:
            for _ in range(POSTS):
                began_s = time.monotonic()
                status, answer = server.ask("POST", path, body, timeout_s=60)
                took_s.append(time.monotonic() - began_s)
                if status not in (400, 413):
                    raise RuntimeError(f"{path} was answered {status} {answer[:200]!r}")

    # The first starts the process that reads them.
    server.ask("POST", *bodies[0], timeout_s=60)
    waited_ms = asked_while(server, post_all)
    return {
        "large_json_p99_ms": statistics.quantiles(waited_ms, n=100)[98],
        "large_json_longest_ms": max(waited_ms),
        "large_json_s": statistics.median(took_s),
    }


def _bodies() -> list[tuple[str, bytes]]:
    """Paths and bodies whose last element is wrong: all of it is read before they are refused."""
    row = [0.12345678] * WIDTH
    rows = json.dumps([row] * (ROWS - 1) + [[*row[:-1], "x"]], separators=(",", ":"))
    v2 = f'{{"inputs":[{{"name":"x","datatype":"FP32","shape":[{ROWS},{WIDTH}],"data":{rows}}}]}}'
    return [
        ("/v1/models/wide:predict", f'{{"instances":{rows}}}'.encode()),
        ("/models/wide/predict", f'{{"x":{rows}}}'.encode()),
        ("/v2/models/wide/infer", v2.encode()),
    ]
