"""Two thousand clients that stall, each in its own way, are let go of, and whoever behaves notices nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "serve" / "reliability"))

from known_models import mlp_asks
from load import Load
from stalling_crowd import FEW, MANY

from towline.testing import tiny_models
from towline.testing.server import RunningServer

MIB = 1 << 20
CROWD = Path(__file__).with_name("stalling_crowd.py")

pytestmark = pytest.mark.services


def test_two_thousand_that_stall_are_let_go_of_while_good_clients_are_served(tmp_path: Path) -> None:
    model = tiny_models.mlp()
    settings = {"header_timeout_s": 3, "write_timeout_s": 3, "max_connections": 4096}
    with RunningServer(tiny_models.write(tmp_path, model, "m.onnx"), settings=settings) as server:
        before = server.rss_bytes(server.front_pid)
        with Load(server.host, server.port, mlp_asks("m", model), clients=8) as load:
            load.await_answers(50)
            with subprocess.Popen([sys.executable, CROWD, server.host, str(server.port)], stdout=subprocess.PIPE, text=True) as crowd:
                assert crowd.stdout is not None
                assert crowd.stdout.readline() == "there\n"
                load.await_answers(50)
                peak = server.rss_bytes(server.front_pid)
                ends = json.loads(crowd.stdout.readline())
            load.await_answers(50)
        print(ends, f"front: {(peak - before) / MIB:.0f} MiB more, then {(server.rss_bytes(server.front_pid) - before) / MIB:.0f}")

    assert ends == {"head 408": MANY, "body 408": MANY, "idle 0": MANY, "reader 0": FEW}
    assert load.failures == []
    # About 64 KiB each, most of it what the readers asked for and do not take.
    assert peak - before < 256 * MIB
