"""`instances` on a real server: so many processes run the model, and one that is killed is missed by nobody."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from towline.testing import tiny_models
from towline.testing.server import RunningServer

BODY = b'{"instances": [[1, 2]]}'


def test_a_model_runs_in_as_many_processes_as_asked_and_loses_no_request_with_one_of_them(tmp_path: Path) -> None:
    # One spare beside those in use.
    with RunningServer(tiny_models.write(tmp_path, tiny_models.identity(), "m.onnx"), settings={"instances": 2}) as server:
        server.wait_until(lambda: len(server.pids()["worker"]) == 3)
        with ThreadPoolExecutor(4) as clients:
            answers = [clients.submit(server.post, "/v1/models/m:predict", BODY) for _ in range(200)]
            os.kill(server.worker_pid("m"), signal.SIGKILL)
            assert {answer.result()[0] for answer in answers} == {200}
        server.wait_until(lambda: len(server.pids()["worker"]) == 3)
        assert server.is_ready()
