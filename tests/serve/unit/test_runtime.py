"""What was found best for a version on a machine is what it is run with there, unless its owner says otherwise."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from towline.app.importing.model import import_model
from towline.app.serving.desired import desired_models
from towline.core.config import Settings
from towline.core.deployment import Deployment
from towline.core.event import Event
from towline.core.runtime import TUNED, UNTUNED, Runtime, this_machine
from towline.core.version import Version
from towline.monitor.metrics import ServingMetrics
from towline.serve.embedded import Embedded, Lent
from towline.serve.router import WantedModel, WantedVersion, wanted_from
from towline.serve.slots import Slot
from towline.store.sqlite import open_store
from towline.testing import tiny_models
from towline.testing.server import RunningServer

FOUND = Runtime(threads=2, runs=2, instances=2, max_batch=8)


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> Version:
    folder = tmp_path_factory.mktemp("tuned")
    return import_model(tiny_models.write(folder, tiny_models.mlp(), "mlp.onnx"), home=folder / "home").version


Told = dict[str, tuple[int, int, int, int]]


def opened(
    version: Version,
    runtimes: dict[str, Runtime],
    limits: dict[str, Any],
    until: Callable[[Told], bool] = lambda found: True,
    **settings: Any,
) -> Told:
    """Of each: its workers, runs at a time in all, rows that may share a run, threads of a worker of it.

    until: looked at again for up to half a minute, since a thread that loaded a model may still be about to end.
    """

    async def work() -> Told:
        embedded = Embedded(Settings(**settings), Lent(ServingMetrics(), lambda slots: b""))
        wanted = [
            WantedModel(name, (WantedVersion(name, 1, version.digest, str(version.path), found),), 1, limits=limits)
            for name, found in runtimes.items()
        ]
        try:
            await embedded.start(wanted)
            await embedded.settle()
            for _ in range(600):
                found = {slot.name: told(slot) for slot in embedded.plane.slots()}
                if until(found):
                    break
                await asyncio.sleep(0.05)
            return found
        finally:
            await embedded.stop()

    return asyncio.run(asyncio.wait_for(work(), 180))


def told(slot: Slot) -> tuple[int, int, int, int]:
    return len(slot.pids), slot.runs_at_once, slot.max_batch, len(list(Path(f"/proc/{slot.pid}/task").iterdir()))


def test_a_version_runs_as_was_found_best_and_another_as_the_server_decides(version: Version) -> None:
    # One inference thread more, and one of ONNX Runtime's own that helps a run.
    found = opened(version, {"tuned": FOUND, "plain": UNTUNED}, {}, until=lambda found: found["tuned"][3] == found["plain"][3] + 2)

    (workers, runs, rows, tuned_threads), (plain_workers, plain_runs, plain_rows, plain_threads) = found["tuned"], found["plain"]
    assert (workers, runs, rows) == (2, 4, 8)
    assert (plain_workers, plain_runs, plain_rows) == (1, 1, Settings().max_batch)
    assert tuned_threads == plain_threads + 2


def test_what_the_owner_says_goes_before_what_was_found(version: Version) -> None:
    found = opened(version, {"m": replace(FOUND, instances=1)}, {"max_batch": 4}, runs=1)

    assert found["m"][:3] == (1, 1, 4)


@pytest.mark.parametrize(
    "told",
    [
        None,
        "fast",
        [2],
        {"threads": "2"},
        {"threads": True},
        {"threads": 0},
        {"runs": -1},
        {"instances": 65},
        {"max_batch": 1e3},
        {"cores": 2},
    ],
)
def test_what_is_no_number_within_bounds_counts_as_not_said(told: Any) -> None:
    assert Runtime.from_data(told) == UNTUNED


def test_what_is_said_goes_before_what_was_found() -> None:
    assert Runtime(threads=4).over(FOUND) == replace(FOUND, threads=4)


def test_only_the_last_finding_of_this_digest_on_this_kind_of_machine_is_sent_to_the_front(tmp_path: Path) -> None:
    with open_store(tmp_path / "home") as store:
        version = import_model(tiny_models.write(tmp_path, tiny_models.identity(), "same.onnx"), home=tmp_path / "home").version
        store.put_deployment(Deployment(version.name), actor="tester", why="")
        here, runtimes = this_machine(), []
        for digest, machine, use in (
            (version.digest, here, {"threads": 3}),
            (version.digest, here, {"threads": 2, "runs": 1}),
            (version.digest, {**here, "cores": 4096}, {"threads": 4}),
            ("sha256:another", here, {"threads": 5}),
        ):
            store.append(Event(TUNED, "tester", 1.0, name=version.name, digest=digest, data={"machine": machine, "use": use}))
            [model] = desired_models(store, None)
            runtimes.append(wanted_from(model, follows_tuning=True).versions[0].runtime)

    assert runtimes == [Runtime(threads=3), *[Runtime(threads=2, runs=1)] * 3]
    assert wanted_from(model, follows_tuning=False).versions[0].runtime == UNTUNED


@pytest.mark.services
def test_a_server_loads_what_was_tuned_with_its_threads_and_a_file_it_just_imported_too(tmp_path: Path) -> None:
    """The worker that proved a file at import has one thread: with others it is not the one that answers."""
    home = tmp_path / "home"
    files = [tiny_models.write(tmp_path, tiny_models.mlp(seed=seed), f"{name}.onnx") for seed, name in enumerate(("a", "b"))]
    with open_store(home) as store:
        found = import_model(files[0], home=home).version
        data = {"machine": this_machine(), "use": {"threads": 2}}
        store.append(Event(TUNED, "tester", 1.0, name="a", digest=found.digest, data=data))

    with RunningServer("a", str(files[1]), home=home) as server:
        # Those that loaded them may still be about to end.
        server.wait_until(lambda: threads(server, "a") == threads(server, "b") + 1)
        plain = threads(server, "b")
    with RunningServer(str(files[1]), home=tmp_path / "other", settings={"threads": 3}) as server:
        server.wait_until(lambda: threads(server, "b") == plain + 2)


def threads(server: RunningServer, name: str) -> int:
    return len(list(Path(f"/proc/{server.worker_pid(name)}/task").iterdir()))
