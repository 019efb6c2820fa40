"""Versions change under load: no request fails, and each answer is wholly one version's."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from known_models import session_of
from load import Ask, Check, Load

from towline.app.changing import remove, set_alias
from towline.app.importing.model import import_model
from towline.core.deployment import Deployment, Policy
from towline.core.errors import Conflict
from towline.store.sqlite import open_store
from towline.testing import tiny_models
from towline.testing.server import RunningServer

ONE, TWO, THREE = (tiny_models.mlp(seed=seed) for seed in (1, 2, 3))
ROW = np.linspace(-1, 1, 10, dtype=np.float32).round(2)[None]


def answer_of(model: bytes) -> np.ndarray:
    return np.asarray(session_of(model).run(["y"], {"x": ROW})[0])


ANSWERS = {str(number): answer_of(model) for number, model in ((1, ONE), (2, TWO), (3, THREE))}


def of_the_version_it_names(seen: list[str], only: str = "") -> Check:
    """The answer must be that of the version named beside it; which one that was is added to `seen`."""

    def check(status: int, body: bytes) -> str:
        if status != 200:
            return f"expected 200, got {status} {body[:200]!r}"
        answer = json.loads(body)
        number = answer["model_version"]
        seen.append(number)
        got = np.asarray(answer["outputs"][0]["data"]).reshape(1, 10)
        if not np.allclose(got, ANSWERS[number], atol=1e-5):
            return f"this is not the answer of version {number}: {got.tolist()}"
        return "" if only in ("", number) else f"asked for {only}, answered by {number}"

    return check


def ask(seen: list[str], *, version: str = "", only: str = "") -> Ask:
    body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 10], "data": [round(float(value), 2) for value in ROW[0]]}]}
    place = f"/versions/{version}" if version else ""
    return Ask(f"/v2/models/mlp{place}/infer", json.dumps(body).encode(), of_the_version_it_names(seen, only))


@pytest.fixture
def home(imported: Callable[..., Path]) -> Path:
    folder = imported(mlp=(ONE, TWO))
    set_alias("mlp:1", "live", home=folder)
    return folder


@pytest.mark.parametrize("keep_s", [0, 30])
def test_an_alias_moved_twenty_times_fails_no_request_and_mixes_no_answer(home: Path, keep_s: int) -> None:
    seen: list[str] = []
    settings = {"keep_versions_s": keep_s}
    with RunningServer("mlp@live", home=home, settings=settings) as server, Load(server.host, server.port, [ask(seen)], clients=32) as load:
        load.await_answers(32)
        for turn in range(20):
            number = 2 - turn % 2
            set_alias(f"mlp:{number}", "live", home=home)
            at = len(seen)
            server.wait_until(lambda at=at, number=number: str(number) in seen[at:])
        load.await_answers(32)
        log = server.log()

    assert load.failures == []
    assert {"1", "2"} == set(seen)
    assert "Traceback" not in log


def test_going_back_to_a_version_that_is_kept_starts_no_worker(home: Path) -> None:
    with RunningServer("mlp@live", home=home, settings={"keep_versions_s": 60}) as server:
        set_alias("mlp:2", "live", home=home)
        server.wait_until(lambda: states(server) == {1: "draining", 2: "ready"})
        pids = {model["version"]: model["pid"] for model in server.state()["models"]}
        set_alias("mlp:1", "live", home=home)
        server.wait_until(lambda: states(server) == {1: "ready", 2: "draining"})

        assert {model["version"]: model["pid"] for model in server.state()["models"]} == pids


def test_a_new_version_of_what_is_served_as_latest_takes_over_without_a_failed_request(home: Path, tmp_path: Path) -> None:
    seen: list[str] = []
    settings = {"keep_versions_s": 0}
    with RunningServer("mlp", home=home, settings=settings) as server, Load(server.host, server.port, [ask(seen)], clients=32) as load:
        load.await_answers(32)
        import_model(tiny_models.write(tmp_path, THREE, "3.onnx"), name="mlp", home=home)
        server.wait_until(lambda: "3" in seen)
        load.await_answers(64)

    assert load.failures == []
    assert set(seen) == {"2", "3"}
    # Each client had one question under way at most.
    assert seen[seen.index("3") :].count("2") < 32


def test_numbers_and_labels_route_to_what_they_name_while_the_alias_moves(home: Path) -> None:
    with open_store(home) as store:
        store.put_deployment(Deployment("mlp", Policy("all"), labels={"stable": 1, "canary": 2}), actor="tester")
    numbers, seen = ask([], version="1", only="1"), ask([], version="2", only="2")
    body = json.dumps({"instances": ROW.tolist()}).encode()
    with RunningServer(home=home) as server:
        # Ready is who has one version; this asks for both.
        server.wait_until(lambda: all(server.post(f"/v1/models/mlp/versions/{number}:predict", body)[0] == 200 for number in (1, 2)))
        with Load(server.host, server.port, [numbers, seen], clients=8) as load:
            load.await_answers(64)
        got = {
            label: np.asarray(json.loads(server.post(f"/v1/models/mlp/labels/{label}:predict", body)[1])["predictions"])
            for label in ("stable", "canary")
        }
        status, refusal = server.post("/v1/models/mlp/labels/nobody:predict", body)

    assert load.failures == []
    assert np.allclose(got["stable"], ANSWERS["1"], atol=1e-5)
    assert np.allclose(got["canary"], ANSWERS["2"], atol=1e-5)
    assert (status, "nobody" in refusal.decode()) == (400, True)


def test_a_version_is_not_removed_while_it_is_deployed(home: Path) -> None:
    seen: list[str] = []
    with RunningServer("mlp@live", home=home) as server, Load(server.host, server.port, [ask(seen)], clients=4) as load:
        load.await_answers(8)
        with pytest.raises(Conflict):
            remove("mlp:1", home=home)
        load.await_answers(8)

    assert load.failures == []


def test_aliases_moved_while_there_is_no_controller_are_seen_by_the_next_one(home: Path) -> None:
    seen: list[str] = []
    with RunningServer("mlp@live", home=home) as server, Load(server.host, server.port, [ask(seen)], clients=8) as load:
        load.await_answers(16)
        os.kill(server.controller_pid, signal.SIGKILL)
        set_alias("mlp:2", "live", home=home)
        server.wait_until(lambda: "2" in seen)

    assert load.failures == []


def states(server: RunningServer) -> dict[int, str]:
    return {model["version"]: model["state"] for model in server.state()["models"]}


def test_a_server_is_ready_when_all_it_was_given_is_served_the_second_time_too(tmp_path: Path) -> None:
    files = [tiny_models.write(tmp_path, tiny_models.identity(dtype), f"{dtype}.onnx") for dtype in ("int8", "int16", "int32")]
    for _ in range(2):
        with RunningServer(*files, home=tmp_path / "home") as server:
            assert [server.get(f"/v2/models/{file.stem}/ready")[0] for file in files] == [200, 200, 200]
            # Said at the first moment when /readyz would have said so.
            assert all(f"{file.stem}:1" in line for line in server.log().splitlines() if line.startswith("Serving ") for file in files)
