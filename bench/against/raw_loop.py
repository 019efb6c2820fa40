"""The floor below every server: `session.run` in a loop, batch 1, on one thread or several.

python raw_loop.py MODEL.onnx SECONDS [THREADS]

Prints JSON: processor microseconds per run, and runs per second.
"""

from __future__ import annotations

import json
import sys
import threading
import time

import numpy as np
import onnxruntime

CHUNK_S = 0.02


def main(model: str, seconds: float, threads: int) -> None:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    # A thread that spins while it waits would be counted as work.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(model, options)
    row = np.ones((1, *session.get_inputs()[0].shape[1:]), np.float32)
    chunk = runs_per_chunk(session, row)
    runs, started, until_s = [0] * threads, threading.Barrier(threads), time.perf_counter() + seconds

    def work(number: int) -> None:
        started.wait()
        while time.perf_counter() < until_s:
            for _ in range(chunk):
                session.run(None, {"x": row})
            runs[number] += chunk

    begun_s, cpu_s = time.perf_counter(), time.process_time()
    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    took_s, used_s = time.perf_counter() - begun_s, time.process_time() - cpu_s
    print(json.dumps({"cpu_us": used_s / sum(runs) * 1e6, "runs_per_s": sum(runs) / took_s}))


def runs_per_chunk(session: onnxruntime.InferenceSession, row: np.ndarray) -> int:
    """Warm up, and so many runs that reading the clock between them costs nothing."""
    runs, begun_s = 0, time.perf_counter()
    while time.perf_counter() - begun_s < CHUNK_S or runs < 3:
        session.run(None, {"x": row})
        runs += 1
    return max(int(runs * CHUNK_S / (time.perf_counter() - begun_s)), 1)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 1)
