"""Which rows the matrix has, which runs are kept, and what a failed installation or start is said to be."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest


def test_a_peer_that_batches_has_a_row_without_and_a_row_with(bench):
    matrix, catalogue = bench("matrix"), bench("against.catalogue")
    names = [row.name for row in matrix.rows(catalogue.PEERS, ["mlp"], ["HTTP"])]

    assert names[:3] == ["bare server", "Towline", "Flask + gunicorn"]
    assert {"mosec", "mosec, batching", "Triton (Python backend)", "Triton (Python backend), batching", "KServe"} <= set(names)
    assert len(names) == len(set(names))


def test_grpc_is_measured_of_those_who_speak_it_and_with_the_small_model_only(bench):
    matrix, catalogue = bench("matrix"), bench("against.catalogue")
    rows = matrix.rows(catalogue.PEERS, ["mlp", "cnn"], ["gRPC"])

    assert {row.model for row in rows} == {"mlp"}
    assert [row.peer.name for row in rows][:3] == ["grpc.aio, plain handler", "Towline", "Towline, --grpc native"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], True),
        (["--rounds", "3"], True),
        (["--clients", "1", "8", "32", "64", "128"], True),
        (["--rounds", "1"], False),
        (["--seconds", "1"], False),
        (["--clients", "1", "8"], False),
        (["--peers", "towline", "bare"], False),
        (["--models", "mlp"], False),
        (["--protocols", "http"], False),
    ],
)
def test_only_a_whole_run_is_shown(bench, arguments, expected):
    peers = bench("peers")

    assert peers.is_whole(peers.parse(arguments)) is expected


def test_a_failed_installation_is_told_by_pips_first_error(bench):
    printed = "  Downloading …\nERROR: Could not find a version that satisfies ray==9\nERROR: No matching distribution found for ray==9\n"

    assert bench("environments").install_error(printed) == "Could not find a version that satisfies ray==9"


def test_an_environment_is_made_again_when_its_pins_change_or_when_this_checkout_asks_for_more(bench, tmp_path):
    digest, project = bench("environments").wanted_digest, tmp_path / "pyproject.toml"
    pinned, ours = tmp_path / "pinned.txt", tmp_path / "ours.txt"
    pinned.write_text("mosec==0.9.8")
    ours.write_text("--editable .")
    project.write_text("one")
    before = digest(pinned, project), digest(ours, project)
    project.write_text("two")

    assert digest(pinned, project) == before[0]
    assert digest(ours, project) != before[1]
    pinned.write_text("mosec==0.9.9")
    assert digest(pinned, project) != before[0]


def test_a_server_that_ends_is_told_by_its_last_error(bench):
    reason = bench("contender").reason

    assert reason("starting\nValueError: no model\nbye\n") == "ValueError: no model"
    assert reason("starting\nbye\n") == "bye"
    assert reason("") == "it said nothing"


class Talker:
    """A peer whose command is a few lines of Python."""

    def __init__(self, bench, code: str) -> None:
        against, models, bodies = bench("against.peer"), bench("models"), bench("bodies")
        self.peer = against.Peer(
            *("talker", "talker", ()),
            start=lambda setting: against.Start([sys.executable, "-c", code, str(setting.port)]),
            requests={models.MLP: against.Request("/", bodies.instances)},
        )


ANSWERS = """
import http.server, json, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
print(child.pid, flush=True)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        body = json.dumps(%s).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def test_a_server_is_stopped_with_the_children_that_left_its_session(bench, tmp_path):
    contender, model = bench("contender"), bench("models").write_mlp(tmp_path)
    peer = Talker(bench, ANSWERS % model.right.astype(float).tolist()).peer
    with contender.started(peer, model, Path(sys.executable), tmp_path / "run", cores=bench("processes").every_core()) as one:
        child = int((tmp_path / "run" / "log").read_text().split()[0])
        assert {one.server.pid, child} <= set(bench("processes").members(one.server))
        assert bench("processes").memory(one.server).processes == 2
        assert one.start_s > 0

    assert not is_running(one.server.pid)
    assert not is_running(child)


def test_a_server_that_ends_at_once_is_not_measured_and_says_why(bench, tmp_path):
    contender, model = bench("contender"), bench("models").write_mlp(tmp_path)
    peer = Talker(bench, "raise SystemExit('Error: no such model')").peer

    with (
        pytest.raises(contender.NotMeasured, match="exit code 1: Error: no such model"),
        contender.started(peer, model, Path(sys.executable), tmp_path / "run", cores=bench("processes").every_core()),
    ):
        pass


def test_a_server_that_answers_wrongly_is_not_measured(bench, tmp_path, monkeypatch):
    contender, model = bench("contender"), bench("models").write_mlp(tmp_path)
    monkeypatch.setattr(contender, "WRONG_TIMEOUT_S", 0.2)
    # What is late is no wrong answer.
    monkeypatch.setattr(contender, "EARLY_TIMEOUT_S", 120.0)
    peer = Talker(bench, ANSWERS % ([0.5] * 10)).peer

    with (
        pytest.raises(contender.NotMeasured, match=r"no right answer after \d+ s: it answered \[0\.5"),
        contender.started(peer, model, Path(sys.executable), tmp_path / "run", cores=bench("processes").every_core()),
    ):
        pass


def is_running(pid: int) -> bool:
    """Whether it lives; an ended one that waits for its parent does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
