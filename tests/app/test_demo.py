"""The demo tells the truth: about its model, about every request, and in its exit code."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from towline.app.demo import demo
from towline.app.demo.clients import Tally, ask_each, ask_while, question
from towline.app.demo.digits import ASCII_INK, DRAWN, DRAWN_LABEL, chosen, picture, read_digits
from towline.app.demo.server import START_SERVER, kill_worker, served
from towline.core.errors import Unavailable

DATA = files("towline.app") / "demo" / "data"
DIGITS = read_digits((DATA / "digits_200.json").read_bytes())


def scores_for(images: list) -> np.ndarray:
    session = onnxruntime.InferenceSession((DATA / "digits.onnx").read_bytes())
    return session.run(["scores"], {"image": np.array(images, np.float32)})[0]


def one_hot(digit: int) -> bytes:
    return json.dumps({"predictions": [[float(place == digit) for place in range(10)]]}).encode()


@contextmanager
def answering(answer):
    """A real HTTP server; `answer(number of the request)` gives (status, body), or None to hang up."""
    count, lock = iter(range(10**9)), threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            with lock:
                number = next(count)
            found = answer(number)
            if found is None:
                self.close_connection = True
                return
            status, body = found
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_the_model_that_ships_is_small_and_reads_at_least_97_percent_of_what_it_has_never_seen():
    read = scores_for([digit.instance() for digit in DIGITS]).argmax(1)

    assert (DATA / "digits.onnx").stat().st_size < 300_000
    assert len(DIGITS) == 200
    assert np.mean(read == [digit.label for digit in DIGITS]) >= 0.97


def test_the_digits_that_ship_are_twenty_of_each_and_say_whose_they_are():
    about = json.loads((DATA / "digits_200.json").read_text())

    assert sorted(digit.label for digit in DIGITS) == sorted(list(range(10)) * 20)
    assert {pixel for digit in DIGITS for pixel in digit.pixels} == set(range(17))
    assert "UCI" in about["source"]
    assert "CC BY 4.0" in about["license"]


def test_the_digit_in_the_printed_curl_is_read_as_what_the_text_says():
    assert scores_for([[DRAWN]]).argmax(1).tolist() == [DRAWN_LABEL]


def test_the_printed_curl_holds_the_request_that_was_tried():
    printed = "\n".join(demo.next_steps("http://127.0.0.1:8000", Path("/tmp/home")))

    body = printed.partition("-d '")[2].partition("'")[0]

    assert json.loads(body) == {"instances": [[[list(row) for row in DRAWN]]]}


def test_a_misread_digit_is_shown_first_and_called_one():
    answers = [digit.label for digit in DIGITS]
    answers[123] = (answers[123] + 1) % 10

    assert chosen(DIGITS, answers)[0] == 123
    assert f"a {DIGITS[123].label} read as {answers[123]}" in picture(DIGITS, answers, ASCII_INK)[-1]


def test_a_right_answer_counts_as_right_and_a_wrong_one_does_not():
    asked = [question("http://127.0.0.1:1", "digits", [0], right) for right in (3, 4)]
    with answering(lambda number: (200, one_hot(3))) as url:
        answers, tally = ask_each(url, asked)

    assert answers == [3, 3]
    assert (tally.asked, tally.right, tally.failed) == (2, 1, 0)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ((500, b'{"error": "no"}'), "500"),
        ((503, one_hot(3)), "503"),
        ((200, b"not json"), "200"),
        ((200, b'{"predictions": []}'), "200"),
        ((200, b'{"predictions": [[]]}'), "200"),
        (None, "ConnectionError"),
    ],
)
def test_one_failed_request_among_many_is_counted_and_shown_and_the_next_one_is_sent(bad, reason):
    asked = [question("http://127.0.0.1:1", "digits", [0], 3)] * 5
    with answering(lambda number: bad if number == 2 else (200, one_hot(3))) as url:
        _, tally = ask_each(url, asked)

    assert (tally.asked, tally.right, tally.failed) == (5, 4, 1)
    assert reason in tally.reasons[0]


def test_nobody_listening_is_a_failure_and_not_a_crash():
    _, tally = ask_each("http://127.0.0.1:9", [question("http://127.0.0.1:9", "digits", [0], 3)])

    assert (tally.asked, tally.failed) == (1, 1)


def test_a_crowd_tallies_every_request_that_reached_the_server():
    seen, enough = [], threading.Event()

    def answer(number):
        seen.append(number)
        if len(seen) == 20:
            enough.set()
        return 200, one_hot(3)

    with answering(answer) as url:
        tally = ask_while(url, [question(url, "digits", [0], 3)], 4, lambda: enough.wait(60))

    assert tally.asked == len(seen) >= 20
    assert (tally.right, tally.failed) == (tally.asked, 0)
    assert tally.elapsed_s > 0


def test_a_percentile_is_one_of_the_latencies():
    tally = Tally(latencies_s=[float(number) for number in range(100, 0, -1)])

    assert [tally.percentile_s(percent) for percent in (0, 50, 99, 100)] == [1.0, 51.0, 100.0, 100.0]
    assert Tally().percentile_s(99) == 0.0


@pytest.mark.parametrize(
    ("right", "failed", "asked", "is_good"),
    [(100, 0, 100, True), (99, 0, 100, False), (99, 1, 100, False), (0, 0, 0, False)],
)
def test_survival_is_claimed_only_when_every_answer_came_and_was_the_same(right, failed, asked, is_good, capsys):
    told = demo.say_survival(Tally(latencies_s=[0.001] * asked, right=right, failed=failed))

    assert told is is_good
    assert ("✓" in capsys.readouterr().out) is is_good


@pytest.mark.parametrize(("right", "is_good"), [(199, True), (194, True), (193, False)])
def test_accuracy_below_97_percent_is_not_good(right, is_good, capsys):
    assert demo.say_accuracy(Tally(latencies_s=[0.001] * 200, right=right)) is is_good


def test_a_server_that_ends_at_once_is_reported_with_its_last_words(tmp_path):
    model = tmp_path / "digits.onnx"
    model.write_bytes(b"<html>not a model</html>")

    with (
        pytest.raises(Unavailable, match="ended with exit code") as refused,
        served(model, tmp_path / "home", 0, tmp_path / "server.log"),
    ):
        pass

    assert "Its last words:" in refused.value.hint


def test_killing_a_worker_that_is_not_there_says_so(tmp_path):
    with pytest.raises(Unavailable, match="no worker process that runs digits"):
        kill_worker(1, tmp_path, "digits")


def environment(folder: Path) -> dict[str, str]:
    """This process's, with every place for files of its own inside `folder`, and no wish about telemetry."""
    mine = {
        name: value for name, value in os.environ.items() if name not in ("XDG_CACHE_HOME", "XDG_DATA_HOME", "ORT_DISABLE_TELEMETRY", "CI")
    }
    return {**mine, "HOME": str(folder), "TMPDIR": str(folder), "PYTHONUTF8": "1"}


@contextmanager
def demo_running(folder: Path, *flags: str, start: str = START_SERVER):
    """`towline demo` as a user starts it, with `folder` as its place for temporary files."""
    process = subprocess.Popen(
        [sys.executable, "-c", start, "demo", *flags],
        cwd=folder,
        env=environment(folder),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        # A demo that is told to end stops its server first.
        process.terminate()
        process.communicate(timeout=180)


def processes_left(text: str) -> list[str]:
    """Command lines that mention `text`, of processes that do not end."""
    until_s = time.monotonic() + 60
    while (found := processes_about(text)) and time.monotonic() < until_s:
        time.sleep(0.01)
    return found


def processes_about(text: str) -> list[str]:
    """Command lines of live processes that mention `text`."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if text in line:
            found.append(line)
    return found


def test_the_demo_shows_what_it_claims_and_leaves_nothing_behind(tmp_path):
    with demo_running(tmp_path, "--once") as process:
        said, _ = process.communicate(timeout=300)

    assert process.returncode == 0, said
    assert re.search(r"✓ accuracy +199 of 200 ", said), said
    assert re.search(r"✓ latency +p50 [\d.]+ ms, p99 [\d.]+ ms ", said), said
    assert re.search(r"✓ throughput +[\d,]+ requests/s ", said), said
    assert re.search(r"✓ kill -9 +worker killed 3 times under load: [\d,]+ requests, 0 failed;", said), said
    assert "✗" not in said
    assert list(tmp_path.glob("towline-*")) == []
    assert processes_left(str(tmp_path)) == []


def test_after_the_show_it_serves_on_until_ctrl_c_and_what_it_says_to_try_works(tmp_path):
    with demo_running(tmp_path, start=f"from towline.app.demo import demo; demo.LOAD_S = 0.4; {START_SERVER}") as process:
        said = []
        for line in process.stdout:
            said.append(line)
            if "Ctrl-C" in line:
                break
        text = "".join(said)
        url, body = re.search(r"curl (\S+:predict) -d '(.*?)'", text, re.DOTALL).groups()
        with urllib.request.urlopen(url, body.encode()) as response:
            (scores,) = json.loads(response.read())["predictions"]
        with urllib.request.urlopen(re.search(r"curl (\S+/metrics)", text)[1]) as response:
            restarts = re.search(r"^towline_worker_restarts_total.* (\d+)$", response.read().decode(), re.MULTILINE)

        process.send_signal(signal.SIGINT)
        process.communicate(timeout=180)

    assert np.argmax(scores) == DRAWN_LABEL
    assert int(restarts[1]) == demo.KILLS
    assert process.returncode == 0
    assert processes_left(str(tmp_path)) == []


def test_a_demo_that_is_terminated_stops_its_server_and_leaves_no_telemetry_behind(tmp_path):
    with demo_running(tmp_path) as process:
        next(line for line in process.stdout if "ready" in line)

    assert process.returncode == 143
    assert processes_left(str(tmp_path)) == []
    assert list(tmp_path.glob("towline-*")) == []
    # A session id in the temporary folder, a device id and a queue of events in the cache: what the runtime writes by default.
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == []
