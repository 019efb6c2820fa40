"""The floor below every server: `session.run` in a loop, batch 1. Prints processor microseconds per run.

python raw_loop.py MODEL.onnx SECONDS
"""

from __future__ import annotations

import sys
import time

import numpy as np
import onnxruntime


def main(model: str, seconds: float) -> None:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options)
    row = np.ones((1, 10), np.float32)
    for _ in range(100):
        session.run(None, {"x": row})
    runs, cpu_s, until_s = 0, time.process_time(), time.perf_counter() + seconds
    while time.perf_counter() < until_s:
        for _ in range(100):
            session.run(None, {"x": row})
        runs += 100
    print((time.process_time() - cpu_s) / runs * 1e6)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
