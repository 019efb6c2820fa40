"""`towline bench` against a real server and small ones: every protocol and form, and every way it says no."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from command_line import TOWLINE, Ran, Run

import towline as package
from towline.testing import tiny_models
from towline.testing.server import RunningServer

WINDOWS = ("--max-windows", "3", "--warmup", "0.05", "--window")
QUICK = (*WINDOWS, "0.1")
# `towline bench` that says on a line of its own when a window with answers in it has ended.
SAYS_WHEN_ANSWERED = """
import sys
from towline.cli import bench
from towline.cli.main import main

show = bench.Teller.show

def showing(self, progress):
    show(self, progress)
    if progress.requests_per_s:
        print("answered", file=sys.stderr, flush=True)

bench.Teller.show = showing
sys.exit(main())
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    package.import_model(tiny_models.write(folder, tiny_models.mlp(), "mlp.onnx"), home=folder / "store")
    package.import_model(tiny_models.write(folder, tiny_models.add_two(), "add.onnx"), home=folder / "store")
    package.import_model(tiny_models.write(folder, tiny_models.embedding(rows=2), "embedding.onnx"), home=folder / "store")
    return folder / "store"


@pytest.fixture(scope="module")
def server(store: Path) -> Iterator[RunningServer]:
    with RunningServer("mlp", "add", "embedding", home=store) as running:
        yield running


def measured(towline: Run, *words: object) -> Ran:
    """In windows as long as this machine needs, to answer more than a few requests and to use a tick of the clock that counts them."""
    for window_s in ("0.1", "1", "10"):
        ran = towline("bench", *words, *WINDOWS, window_s, "--json")
        if ran.code != 0 or all(
            level["answered"] > 10 and (level["server"] is None or level["server"]["cpu_us"]) for level in ran.json()["levels"]
        ):
            break
    return ran


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/v2/models/mlp", ()),
        ("/v2/models/mlp/versions/1/infer", ("--binary", "--batch", "3")),
        ("", ("--model", "mlp")),
        ("/v1/models/mlp:predict", ()),
        ("/models/mlp/predict", ()),
        # Two inputs, and one whose bold values the engine refuses: milder ones are tried.
        ("/v2/models/add", ()),
        ("/v1/models/add", ()),
        ("/v2/models/embedding", ()),
    ],
)
def test_every_http_protocol_is_measured(towline: Run, server: RunningServer, path: str, words: tuple[str, ...]) -> None:
    ran = measured(towline, server.url + path, "-c", "2", *words)
    found = ran.json()
    (level,) = found["levels"]

    assert ran.code == 0, ran.err
    assert level["answered"] > 10
    assert level["failed"] == 0
    assert 0 < level["latency_ms"]["p50"] <= level["latency_ms"]["p99"] <= level["latency_ms"]["max"]
    assert level["server_time"]["compute_ms"] > 0
    assert level["server"]["processes"] >= 5
    assert level["server"]["cpu_us"] > 0
    assert level["client"]["cpu_us"] > 0
    assert found["loop"] == "closed"


def test_grpc_is_measured_with_what_the_server_tells_over_http(towline: Run, server: RunningServer, store: Path) -> None:
    ran = measured(towline, f"grpc://{server.grpc_address}/mlp", "-c", "2")
    open_loop = measured(towline, f"grpc://{server.grpc_address}/mlp", "-r", "50")

    assert ran.code == 0, ran.err
    assert ran.json()["levels"][0]["answered"] > 10
    assert ran.json()["protocol"] == "v2-grpc"
    assert [(level["load"], level["failed"]) for level in open_loop.json()["levels"]] == [(50, 0)]
    assert towline("bench", f"grpc://{server.grpc_address}/nope", *QUICK).code == 4


def test_the_generated_batch_is_seen_by_the_server(towline: Run, server: RunningServer) -> None:
    found = measured(towline, f"{server.url}/v2/models/mlp", "-c", "1", "--batch", "5").json()

    assert found["levels"][0]["server_time"]["batch"] == pytest.approx(5.0)
    assert found["levels"][0]["inferences_per_s"] == pytest.approx(5 * found["levels"][0]["requests_per_s"])


def test_people_see_a_table_and_a_line_per_load(towline: Run, server: RunningServer) -> None:
    ran = towline("bench", f"{server.url}/v2/models/mlp", "-c", "1:2", *QUICK)

    head, *rows = ran.out.splitlines()
    assert head.split()[:4] == ["CLIENTS", "REQ/S", "P50", "P90"]
    assert len(rows) == 2
    assert "1 client: " in ran.err
    assert "2 clients: " in ran.err
    assert "Knee: " in ran.err
    assert "\r" not in ran.err


def test_an_open_loop_says_so(towline: Run, server: RunningServer) -> None:
    """That it keeps its rate is seen where a window is late, too: tests/verify/test_load_http.py."""
    found = measured(towline, f"{server.url}/v2/models/mlp", "-r", "100,200", "--arrivals", "poisson").json()

    assert (found["loop"], found["arrivals"]) == ("open", "poisson")
    assert [(level["load"], level["failed"]) for level in found["levels"]] == [(100, 0), (200, 0)]
    assert any("from when its request was due" in note for note in found["notes"])


def test_perf_analyzers_csv_is_read_back(towline: Run, server: RunningServer) -> None:
    ran = towline("bench", f"{server.url}/v2/models/mlp", "-c", "1,2", *WINDOWS, "0.3", "--format", "perf-analyzer")
    rows = list(csv.DictReader(io.StringIO(ran.out)))

    assert sorted(row["Concurrency"] for row in rows) == ["1", "2"]
    assert float(rows[0]["Inferences/Second"]) <= float(rows[1]["Inferences/Second"])
    assert all(int(row["p50 latency"]) > 0 and int(row["Server Compute Infer"]) > 0 for row in rows)


def test_csv_and_the_page_are_of_the_same_measurement(towline: Run, server: RunningServer, tmp_path: Path) -> None:
    ran = towline("bench", f"{server.url}/v2/models/mlp", "-c", "2", *WINDOWS, "0.3", "--format", "csv", "--html", tmp_path / "r.html")
    (row,) = csv.DictReader(io.StringIO(ran.out))
    page = (tmp_path / "r.html").read_text()

    assert row["load"] == "2"
    assert f"<td>{float(row['requests_per_s']):,.1f}</td>" in page or row["answered"]
    assert page.count("<svg") == 2
    assert f"Written to {tmp_path / 'r.html'}" in ran.err


def test_a_request_of_ones_own_is_sent_as_it_is(towline: Run, server: RunningServer, tmp_path: Path) -> None:
    (tmp_path / "good.json").write_text(json.dumps({"instances": [[0.5] * 10]}))
    (tmp_path / "bad.json").write_text(json.dumps({"instances": [[0.5] * 9]}))
    np.savez(tmp_path / "x.npz", x=np.zeros((2, 10), np.float32))
    url = f"{server.url}/v1/models/mlp:predict"

    good, bad = (measured(towline, url, "-c", "1", "--data", tmp_path / name) for name in ("good.json", "bad.json"))
    arrays = measured(towline, f"{server.url}/v2/models/mlp", "-c", "1", "--data", tmp_path / "x.npz")

    assert good.code == 0
    assert bad.code == 1
    assert "10" in bad.err
    assert arrays.json()["levels"][0]["server_time"]["batch"] == pytest.approx(2.0)
    assert towline("bench", f"grpc://{server.grpc_address}/mlp", "--data", tmp_path / "good.json").code == 2


def test_an_objective_that_no_load_keeps_is_a_gate(towline: Run, server: RunningServer) -> None:
    url = f"{server.url}/v2/models/mlp"

    assert measured(towline, url, "-c", "1", "--slo-ms", "0.001").code == 3
    assert measured(towline, url, "-c", "1", "--slo-ms", "1000000").code == 0


def test_a_version_is_served_for_the_time_and_the_store_is_left_as_it_was(
    towline: Run, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOWLINE_HOME", str(store))
    before = towline("events", "--json").out

    ran = measured(towline, "mlp:1", "-c", "2")

    assert ran.code == 0, ran.err
    assert (ran.json()["model"], ran.json()["target"]) == ("mlp", "mlp:1")
    assert ran.json()["levels"][0]["server"]["processes"] >= 5
    assert towline("events", "--json").out == before
    assert towline("bench", "nope").code == 4


def test_ctrl_c_gives_what_was_measured_and_stops_the_server(store: Path, tmp_path: Path) -> None:
    words = ["bench", "mlp", "--home", str(store), "-c", "1,2", "--warmup", "0.05", "--window", "0.1", "--max-windows", "1000"]
    # Three windows that agree to a tenth of a percent do not come.
    command = [sys.executable, "-c", SAYS_WHEN_ANSWERED, *words, "--stability", "0.1", "--json", "--html", str(tmp_path / "r.html")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stderr
    while process.stderr.readline() != "answered\n":
        assert process.poll() is None, "it ended before anything was measured"
    children = [int(word) for word in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]

    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=180)

    assert process.returncode == 130, err
    found = json.loads(out)
    assert found["interrupted"]
    assert found["levels"][0]["answered"] > 0
    assert "Traceback" not in err
    assert (tmp_path / "r.html").exists()
    assert children
    assert not any(os.path.exists(f"/proc/{pid}") for pid in children)


class Foreign(BaseHTTPRequestHandler):
    """A server that is not ours: it has `/predict`, answers 503 to every second request, and has no statistics."""

    protocol_version = "HTTP/1.1"
    seen = 0

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        Foreign.seen += 1
        self._answer(200 if Foreign.seen % 2 else 503)

    def do_GET(self) -> None:
        self._answer(404)

    def _answer(self, status: int) -> None:
        self.send_response(status)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *words: object) -> None:
        """The test's output is its own."""


@pytest.fixture
def foreign() -> Iterator[str]:
    Foreign.seen = 0
    server = ThreadingHTTPServer(("127.0.0.1", 0), Foreign)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_another_server_is_measured_and_what_it_does_not_tell_is_said(towline: Run, foreign: str, tmp_path: Path) -> None:
    (tmp_path / "body.json").write_text('{"input": [[1, 2]]}')

    ran = measured(towline, f"{foreign}/predict", "-c", "1", "--data", tmp_path / "body.json")
    (level,) = ran.json()["levels"]

    assert level["server_time"] is None
    assert level["errors"]["HTTP 503"] == pytest.approx(level["answered"], abs=2)
    assert any("tells no queue and compute times" in note for note in ran.json()["notes"])
    untold = towline("bench", f"{foreign}/predict", *QUICK)
    assert (untold.code, "Give a request: --data" in untold.err) == (1, True)
    unknown = towline("bench", foreign, *QUICK)
    assert (unknown.code, "which protocol it speaks" in unknown.err) == (2, True)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("http://127.0.0.1:9/v2/models/m",), 7, "Nobody answers"),
        (("grpc://127.0.0.1:9/m",), 7, "Nobody answers gRPC"),
        (("http://192.0.2.1/v2/models/m",), 2, "not this machine"),
        (("https://example.org/predict",), 2, "--allow-remote"),
        (("grpc://127.example.org:1/m",), 2, "not this machine"),
        (("http://me:secret@127.0.0.1:9/predict",), 2, "read by every process"),
        (("http://127.0.0.1:9/v2/models/m?x=1",), 2, "no address to measure"),
        (("http://127.0.0.1:99999/predict",), 2, "no address to measure"),
        (("http://127.0.0.1:9/v2/models/m", "--protocol", "tfserving"), 2, "does not go with the path"),
        (("grpc://127.0.0.1:9/m", "--protocol", "v2"), 2, "does not go with grpc"),
        (("grpc://127.0.0.1:9",), 2, "Which model?"),
        (("http://127.0.0.1:9/v1/models/m", "--binary", "--protocol", "tfserving"), 2, "--binary goes with v2"),
        (("m", "-c", "1", "-r", "1"), 2, "exclude each other"),
        (("m", "-c", "0"), 2, "above 0"),
        (("m", "-c", "1.5"), 2, "expected numbers"),
        (("m", "-c", "1:100000"), 2, "expected numbers"),
        (("m", "-c", "8:1"), 2, "expected numbers"),
        (("m", "-r", "nan"), 2, "above 0"),
        (("m", "--json", "--format", "csv"), 2, "exclude each other"),
        (("m", "--html", "/nowhere/r.html"), 2, "no folder"),
        (("/nowhere/model.onnx",), 2, "No such file"),
    ],
)
def test_what_cannot_be_measured_is_refused_and_named(towline: Run, words: tuple[str, ...], code: int, said: str) -> None:
    ran = towline("bench", *words)

    assert (ran.code, said in ran.err) == (code, True), ran.err
    assert ran.out == ""


def test_a_model_that_is_not_served_is_not_found(towline: Run, server: RunningServer) -> None:
    assert towline("bench", f"{server.url}/v2/models/nope").code == 4
    assert towline("bench", f"{server.url}/v1/models/nope:predict").code == 4
    assert "say which" in towline("bench", server.url).err


def test_a_silent_server_is_a_timeout(towline: Run) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/v2/models/m"

        assert towline("bench", url, "--timeout", "0.2").code == 8


def test_a_terminal_gets_a_bar_and_a_pipe_gets_none(server: RunningServer) -> None:
    """stderr is a terminal, stdout is not: the bar is drawn, and the data is data."""
    import pty

    ours, theirs = pty.openpty()
    command = [*TOWLINE, "bench", f"{server.url}/v2/models/mlp", "-c", "1", *QUICK, "--format", "csv"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs)
    os.close(theirs)
    drawn = b""
    # Linux ends a terminal that nobody holds with an error.
    with contextlib.suppress(OSError):
        while more := os.read(ours, 65536):
            drawn += more
    os.close(ours)
    out, _ = process.communicate(timeout=180)

    assert process.returncode == 0
    assert b"100%" in drawn
    assert b"1 client: " in drawn
    assert out.startswith(b"loop,load,")
