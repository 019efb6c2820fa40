"""Ten times the load a model can bear: every request gets one answer, those refused at once, and afterwards all is as before."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "serve" / "reliability"))

from load import Ask, Load

from towline.testing import tiny_models
from towline.testing.arrivals import Arrivals
from towline.testing.server import RunningServer

MIB = 1 << 20
SECONDS = 6
PATH, BODY = "/v1/models/slow:predict", b'{"inputs": [1]}'

pytestmark = pytest.mark.services


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """Serves `slow`: about a hundredth of a second a run, and no two requests share one."""
    model = tiny_models.write(tmp_path_factory.mktemp("models"), tiny_models.counted_loop(5_000), "slow.onnx")
    with RunningServer(model) as running:
        yield running


@pytest.fixture(scope="module")
def capacity_per_s(server: RunningServer) -> float:
    def check(status: int, body: bytes) -> str:
        return "" if status == 200 else f"{status} {body[:80]!r}"

    with Load(server.host, server.port, [Ask(PATH, BODY, check)], clients=8, pause_s=0.0) as load:
        load.await_answers(30)
        began, before = time.monotonic(), load.answered
        load.await_answers(200)
        found = (load.answered - before) / (time.monotonic() - began)
    assert load.failures == []
    return found


@pytest.mark.parametrize("patience_ms", [0, 1000], ids=["patient", "a second each"])
def test_ten_times_the_load_is_shed_and_forgotten(server: RunningServer, capacity_per_s: float, patience_ms: int) -> None:
    before = server.rss_bytes(server.front_pid)
    patience = (f"X-Request-Timeout-Ms: {patience_ms}",) if patience_ms else ()
    raw = Ask(PATH, BODY, lambda status, body: "", patience).raw
    load = Arrivals(server.host, server.port, raw, 10 * capacity_per_s, SECONDS).run()

    print(f"{capacity_per_s:.0f}/s: {dict(load.statuses)}, good {load.good_per_s(1, SECONDS):.0f}/s")
    assert (load.lost, len(load.outcomes)) == (0, load.sent)
    assert set(load.statuses) <= {200, 429, 504}
    assert all(one.has_retry_after for one in load.refused)
    assert len(load.refused) > load.sent / 2
    # How near it comes to the capacity is for `make bench`: here whoever asks wants the same two cores. A queue that answers everybody too
    # late comes to a twentieth.
    assert load.good_per_s(1, SECONDS) > capacity_per_s / 4
    assert load.statuses[504] < load.sent / 20
    assert server.rss_bytes(server.front_pid) - before < 64 * MIB
    # Nothing of it is left: the next one does not wait behind it.
    server.wait_until(lambda: set(re.findall(r"^towline_inflight_requests{.*} (.*)$", server.get("/metrics")[1].decode(), re.M)) == {"0"})
    assert server.post(PATH, BODY)[0] == 200
