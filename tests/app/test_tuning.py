"""Tuning measures a version in every way worth trying; what is surely better is recorded, and what was stopped says so."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

import towline
from towline.app.serving.desired import desired_models
from towline.app.tuning.pressing import Model, Press
from towline.app.tuning.tune import Aim, Tuned, tune
from towline.core.config import Settings
from towline.core.deployment import Deployment
from towline.core.errors import NotFound, Unavailable, UsageError
from towline.core.refs import parse_ref
from towline.core.runtime import TUNED, Runtime, this_machine
from towline.optimize.runtime import Setting
from towline.serve.staffing import Staffing
from towline.store.sqlite import open_store
from towline.testing import tiny_models

OWN = Setting()
# What waits and holds no core answers twice as much in twice as many workers, on whatever machine and however busy it is.
WAITS = """
import time

class Waits:
    inputs = {"x": "float32[N,2]"}
    outputs = {"y": "float32[N,2]"}

    def predict(self, x):
        time.sleep(0.02)
        return {"y": x}
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tuning")
    towline.import_model(tiny_models.write(folder, tiny_models.mlp(), "mlp.onnx"), home=folder / "home")
    return folder / "home"


def recorded(home: Path, found: Tuned) -> None:
    """What was found is an event, and what the front will be told."""
    name = found.version.name
    with open_store(home) as store:
        event = store.events(kind=TUNED)[-1]
        [model] = desired_models(store, [], {name: Deployment(name)})
    assert event.digest == found.version.digest
    assert event.data == {"number": 1, **found.as_json()}
    assert event.data["machine"] == this_machine()
    assert Runtime.from_data(model["versions"][0]["runtime"]) == found.use


@pytest.mark.services
def test_a_budget_too_small_for_more_keeps_the_servers_own_way(home: Path) -> None:
    found = tune("mlp", aim=Aim(clients=(2,), budget_s=0.1), home=home)

    assert [(one.setting, one.clients) for one in found.readings] == [(OWN, 1), (OWN, 2)]
    assert (found.use, found.stopped) == (Runtime(), "The time was up before all was tried.")
    assert all(one.rows_per_s > 0 and one.p50_ms <= one.p99_ms and one.memory_bytes > 1 << 20 for one in found.readings)
    recorded(home, found)


def test_a_version_that_nobody_has_is_not_found(home: Path) -> None:
    with pytest.raises(NotFound):
        tune("nobody", home=home)


def test_data_that_does_not_fit_is_refused_before_anything_starts(home: Path, tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("a,b\n1,2\n")

    with pytest.raises(UsageError):
        tune("mlp", data=tmp_path / "d.csv", home=home)


@pytest.mark.services
def test_the_best_measured_is_taken_if_it_is_surely_better(home: Path) -> None:
    # A busy machine may need longer to load all that is tried.
    for budget_s in (5.0, 30.0, 120.0):
        found = tune("mlp", aim=Aim(clients=(4,), budget_s=budget_s), home=home)
        if closely := [one for one in found.readings if len(one.turns_rows_per_s) > 1]:
            break
    settings = {one.setting for one in closely}
    assert OWN in settings
    assert len({len(one.turns_rows_per_s) for one in closely}) == 1, "side by side: each as often as the others"
    assert {one.clients for one in found.readings} == {1, 4}
    best = max(closely, key=lambda one: one.rows_per_s)
    assert found.throughput.setting in (best.setting, OWN)
    assert found.throughput.setting == OWN or found.throughput.gain > 1
    assert found.latency.setting in (min((one for one in closely if one.clients == 1), key=lambda one: one.p50_ms).setting, OWN)
    recorded(home, found)


@pytest.mark.services
def test_a_handler_that_waits_is_given_more_workers(tmp_path: Path) -> None:
    (tmp_path / "waits.py").write_text(WAITS)
    home = tmp_path / "home"
    towline.import_model(f"{tmp_path / 'waits.py'}:Waits", home=home)

    for budget_s in (6.0, 30.0, 120.0):
        found = tune("Waits", aim=Aim(clients=(16,), budget_s=budget_s), home=home)
        if not found.stopped:
            break

    assert found.use.instances > 1
    assert found.throughput.gain > 1.5
    recorded(home, found)


@pytest.mark.services
def test_a_way_without_room_for_its_workers_is_refused_at_once(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_store(home) as store:
        version = store.version(parse_ref("mlp"))
    # The first worker of a version finds room, no further one does.
    monkeypatch.setattr(Staffing, "_open_lane", _first_only(Staffing._open_lane))

    async def load() -> None:
        press = Press({"": Model(version.path, version.digest, ())}, Settings())
        try:
            await press.load([Setting(Runtime(instances=2))])
        finally:
            await press.close()

    with pytest.raises(Unavailable, match="no room for 2 workers"):
        # Far below what a worker may take to load.
        asyncio.run(asyncio.wait_for(load(), 60))


def _first_only(open_lane: Callable[[Staffing], Awaitable[bool]]) -> Callable[[Staffing], Awaitable[bool]]:
    async def opened(staff: Staffing) -> bool:
        return True if staff.crew else await open_lane(staff)

    return opened


@pytest.mark.services
def test_ctrl_c_keeps_what_was_found_so_far(home: Path) -> None:
    heard: list[str] = []

    def say(sentence: str) -> None:
        heard.append(sentence)
        if len(heard) == 2:
            signal.raise_signal(signal.SIGINT)

    found = tune("mlp", aim=Aim(clients=(2,), budget_s=30.0), home=home, say=say)

    assert found.stopped == "It was interrupted."
    assert {one.setting for one in found.readings} == {OWN}
    assert len(heard) == 2
    recorded(home, found)
