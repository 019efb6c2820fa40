"""`--watch DIR`: numbered folders are served as they appear, whole and readable, and never at the cost of what answers."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from known_models import predictions, session_of
from load import Ask, Load

from towline.app.listing import events
from towline.testing import tiny_models
from towline.testing.server import RunningServer

# A folder is looked at every few moments, and a test waits for several: in the tier that has the time.
pytestmark = pytest.mark.services

MODELS = {number: tiny_models.mlp(seed=number) for number in range(1, 8)}
ROW = [[0.25] * 10]
# Folders are read once a second, and nothing tells of a look that found nothing new.
SCAN_S = 1.1


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    watched = tmp_path_factory.mktemp("watched") / "digits"
    put(watched, 1, MODELS[1])
    return watched


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[RunningServer]:
    with RunningServer(flags=("--watch", str(folder)), settings={"keep_versions_s": 0}, await_ready=False) as running:
        running.wait_until(lambda: served(running) == [1])
        yield running


def put(folder: Path, number: int, model: bytes) -> None:
    """As a careful publisher does: beside, then renamed."""
    temporary = folder / f"tmp-{number}"
    temporary.mkdir(parents=True)
    (temporary / "model.onnx").write_bytes(model)
    temporary.rename(folder / str(number))


def served(server: RunningServer) -> list[int]:
    status, body = server.get("/v1/models/digits")
    listed = json.loads(body).get("model_version_status", []) if status == 200 else []
    return [int(entry["version"]) for entry in listed if entry["state"] == "AVAILABLE"]


def problem(server: RunningServer, number: int) -> str:
    expected = np.asarray(session_of(MODELS[number]).run(["y"], {"x": np.asarray(ROW, np.float32)})[0])
    return predictions(expected)(*server.post("/v1/models/digits:predict", json.dumps({"instances": ROW}).encode()))


def test_a_folder_is_served_under_its_own_name_and_number(server: RunningServer) -> None:
    assert problem(server, 1) == ""


def test_a_higher_number_takes_over_without_a_failed_request(server: RunningServer, folder: Path) -> None:
    ask = Ask(
        "/v1/models/digits:predict", json.dumps({"instances": ROW}).encode(), lambda status, body: "" if status == 200 else str(status)
    )
    with Load(server.host, server.port, [ask], clients=16) as load:
        put(folder, 3, MODELS[3])
        server.wait_until(lambda: served(server) == [3])
        load.await_answers(32)

    assert load.failures == []
    assert problem(server, 3) == ""


def test_a_folder_that_is_still_being_copied_is_not_loaded(server: RunningServer, folder: Path) -> None:
    (folder / "4").mkdir()
    whole, longest_s = MODELS[4], 0.0
    with (folder / "4" / "model.onnx").open("wb") as file:
        for _ in range(5):
            written_s = time.monotonic()
            file.write(whole[: len(whole) // 6])
            whole = whole[len(whole) // 6 :]
            file.flush()
            # Less than a scan is apart from the next: no two of them may see the same.
            time.sleep(0.4)
            longest_s = max(longest_s, time.monotonic() - written_s)
        assert served(server) == [3]
        file.write(whole)
    (folder / "4" / "model.onnx").write_bytes(MODELS[4])
    server.wait_until(lambda: served(server) == [4])

    assert problem(server, 4) == ""
    # Unless this machine held the copy up for so long that it looked finished.
    assert longest_s > 0.9 or "4 was not imported" not in server.log()


def test_a_broken_version_leaves_the_old_one_serving_until_it_is_mended(server: RunningServer, folder: Path) -> None:
    put(folder, 5, MODELS[5][: len(MODELS[5]) // 2])
    server.wait_until(lambda: "digits:5 was not imported" in server.log())
    assert served(server) == [4]
    assert problem(server, 4) == ""

    (folder / "5" / "model.onnx").write_bytes(MODELS[5])
    server.wait_until(lambda: served(server) == [5])
    assert problem(server, 5) == ""
    told = [(event.name, event.data["number"], event.data["code"]) for event in events(kind="version.refused", home=server.home)]
    assert ("digits", 5, "TORN_FILE") in told


def test_a_number_whose_content_changes_is_refused_and_the_old_content_goes_on(server: RunningServer, folder: Path) -> None:
    (folder / "5" / "model.onnx").write_bytes(MODELS[6])
    server.wait_until(lambda: "digits:5 exists with another content" in server.log())

    assert problem(server, 5) == ""


def test_the_next_lower_number_takes_over_when_a_folder_goes_and_the_last_one_stays(server: RunningServer, folder: Path) -> None:
    (folder / "5").rename(folder.parent / "gone-5")
    server.wait_until(lambda: served(server) == [4])
    assert problem(server, 4) == ""

    for number in (1, 3, 4):
        (folder / str(number)).rename(folder.parent / f"gone-{number}")
    time.sleep(2 * SCAN_S)
    assert problem(server, 4) == ""


def test_no_worker_is_kept_for_versions_that_are_not_served(tmp_path: Path) -> None:
    folder = tmp_path / "many"
    for number in (1, 2, 3):
        put(folder, number, MODELS[number])
    with RunningServer(flags=("--watch", str(folder)), await_ready=False) as server:
        server.wait_until(lambda: b'"3"' in server.get("/v1/models/many")[1] and b"AVAILABLE" in server.get("/v1/models/many")[1])
        # One serves, one is spare.
        server.wait_until(lambda: len(server.pids()["worker"]) <= 2)


def test_a_watched_folder_is_served_again_after_a_restart(tmp_path: Path) -> None:
    folder = tmp_path / "digits"
    put(folder, 1, MODELS[1])
    for _ in range(2):
        with RunningServer(home=tmp_path / "home", flags=("--watch", str(folder)), await_ready=False) as server:
            server.wait_until(lambda: served(server) == [1])
            assert problem(server, 1) == ""
