"""`towline.asgi_app` with real models in real workers, in the event loop of the program around it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from asgi_caller import Call, ask

import towline
from towline.app.serving.mounted import MountedModels
from towline.core.errors import TowlineError, UsageError
from towline.secure.keys import FILE_NAME, KeyRing, change_ring
from towline.testing import tiny_models
from towline.testing.processes import roles_of

GOOD = b'{"instances": [[1, 2]]}'


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with `m`, which passes x [N, 2] on, `slow`, and `loop`, which runs for as long as it is told to."""
    folder = tmp_path_factory.mktemp("home")
    slow = tiny_models.slow(rounds=20_000, width=8)
    for name, model in (("m", tiny_models.identity()), ("slow", slow), ("loop", tiny_models.counted_loop())):
        towline.import_model(tiny_models.write(folder, model, f"{name}.onnx"), home=folder)
    return folder


def workers_here() -> list[int]:
    return roles_of(os.getpid())["worker"]


@pytest.fixture
def workers_left() -> Callable[[], list[int]]:
    """Those that were not there before the test, once they had the time to end; tests that ran before may have some of their own."""
    before = workers_here()

    def left() -> list[int]:
        until_s = time.monotonic() + 60
        while (found := [pid for pid in workers_here() if pid not in before]) and time.monotonic() < until_s:
            time.sleep(0.01)
        return found

    return left


def run(work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    return asyncio.run(asyncio.wait_for(work(), 180))


def test_it_answers_by_the_routes_of_a_server_and_leaves_no_process_behind(home: Path, workers_left: Callable[[], list[int]]) -> None:
    async def work() -> list[Any]:
        async with towline.asgi_app("m", home=home) as app:
            answers = [
                await ask(app, "POST", "/v1/models/m:predict", GOOD),
                await ask(app, "POST", "/predict", b'{"input": [1, 2]}'),
                await ask(app, "GET", "/v2/models/m"),
                await ask(app, "GET", "/readyz"),
                await ask(app, "GET", "/metrics"),
            ]
            workers = workers_here()
        return [answers, workers]

    answers, workers = run(work)

    assert [answer.status for answer in answers] == [200] * 5
    assert answers[0].body == b'{"predictions":[[1.0,2.0]]}'
    assert json.loads(answers[1].body) == {"output": [1, 2]}
    assert b'towline_requests_total{model="m",version="1",track="",protocol="predict",code="OK"} 1' in answers[4].body
    assert workers
    assert not workers_left()


def test_the_first_request_starts_what_nobody_started(home: Path, workers_left: Callable[[], list[int]]) -> None:
    async def work() -> list[int]:
        app = towline.asgi_app("m", home=home)
        try:
            both = await asyncio.gather(*(ask(app, "POST", "/v1/models/m:predict", GOOD) for _ in range(2)))
            return [answer.status for answer in both]
        finally:
            await app.stop()

    assert run(work) == [200, 200]
    assert not workers_left(), "it was started twice"


def test_a_worker_that_is_killed_is_replaced_and_its_request_answered(home: Path) -> None:
    async def work() -> int:
        before = workers_here()
        async with towline.asgi_app("m", home=home) as app:
            for pid in set(workers_here()) - set(before):
                os.kill(pid, signal.SIGKILL)
            return (await ask(app, "POST", "/v1/models/m:predict", GOOD)).status

    assert run(work) == 200


def test_a_client_that_leaves_ends_its_run(home: Path) -> None:
    endless = json.dumps({"inputs": [tiny_models.INT64_MAX]}).encode()

    async def work() -> int:
        async with towline.asgi_app("loop", home=home) as app:
            call = Call(app, "POST", "/v1/models/loop:predict").arrives(endless)
            running = asyncio.ensure_future(call.run())
            while not leases(app):
                assert not running.done(), call.answer.body
                await asyncio.sleep(0.005)
            call.leave()
            await running
            return leases(app)

    def leases(app: MountedModels) -> int:
        assert app._embedded is not None
        return app._embedded.plane.leases()

    assert run(work) == 0


def test_your_own_code_predicts_without_http(home: Path) -> None:
    async def work() -> list[Any]:
        async with towline.asgi_app("m", home=home, max_batch=4) as app:
            found = [await app.predict([[1, 2], [3, 4]]), await app.predict({"x": np.ones((1, 2), np.float32)}, model="m")]
            for inputs, more in (([[1, 2, 3]], {}), ([[1, 2]] * 5, {}), ([[1, 2]], {"model": "nobody"})):
                with pytest.raises(TowlineError) as raised:
                    await app.predict(inputs, **more)
                found.append(raised.value.code)
            return found

    batch, named, *codes = run(work)

    assert batch.tolist() == [[1, 2], [3, 4]]
    assert named["y"].tolist() == [[1, 1]]
    assert codes == ["SHAPE_MISMATCH", "BATCH_TOO_LARGE", "MODEL_NOT_FOUND"]


def test_a_prediction_that_is_cancelled_or_late_is_given_up(home: Path) -> None:
    async def work() -> tuple[int, str]:
        async with towline.asgi_app("slow", home=home) as app:
            assert app._embedded is not None
            running = asyncio.ensure_future(app.predict(np.full((1, 8), 0.1)))
            await asyncio.sleep(0)
            running.cancel()
            await asyncio.wait({running})
            left = app._embedded.plane.leases()
            with pytest.raises(TowlineError) as raised:
                await app.predict(np.full((1, 8), 0.1), timeout_s=0.001)
            return left, raised.value.code

    assert run(work) == (0, "DEADLINE_EXCEEDED")


def test_a_lifespan_tells_why_a_model_cannot_be_served(home: Path) -> None:
    async def work() -> list[dict[str, Any]]:
        incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        incoming.put_nowait({"type": "lifespan.startup"})
        said: list[dict[str, Any]] = []

        async def send(message: dict[str, Any]) -> None:
            said.append(message)

        await towline.asgi_app("nobody", home=home)({"type": "lifespan"}, incoming.get, send)
        return said

    (said,) = run(work)
    assert said["type"] == "lifespan.startup.failed"
    assert "nobody" in said["message"]


def test_a_request_for_what_cannot_be_started_is_told_so(home: Path) -> None:
    answer = run(lambda: ask(towline.asgi_app("nobody", home=home), "POST", "/predict"))

    assert (answer.status, json.loads(answer.body)["error"]["code"]) == (503, "NOT_STARTED")


def test_in_process_on_demand(home: Path) -> None:
    async def work() -> tuple[int, list[int]]:
        before = workers_here()
        async with towline.asgi_app("m", home=home, isolation="none") as app:
            return (await ask(app, "POST", "/v1/models/m:predict", GOOD)).status, [pid for pid in workers_here() if pid not in before]

    assert run(work) == (200, [])


def test_nothing_to_serve_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(UsageError, match="at least one"):
        towline.asgi_app()


def test_stopping_answers_what_is_in_flight_and_ends_a_worker_that_hangs(home: Path, workers_left: Callable[[], list[int]]) -> None:
    async def work() -> Any:
        before = workers_here()
        app = towline.asgi_app("slow", home=home)
        await app.start()
        running = asyncio.ensure_future(app.predict(np.full((1, 8), 0.1)))
        await asyncio.sleep(0)
        await app.stop()
        answer = await running
        await app.start()
        for pid in set(workers_here()) - set(before):
            os.kill(pid, signal.SIGSTOP)
        await app.stop()
        return answer

    assert run(work).shape == (1, 8)
    assert not workers_left()


def test_a_key_made_later_is_asked_for(tmp_path: Path) -> None:
    model = tiny_models.write(tmp_path, tiny_models.identity(), "m.onnx")

    async def work() -> list[int]:
        async with towline.asgi_app(model, home=tmp_path) as app, towline.asgi_app("m", home=tmp_path, auth="off") as open_app:
            before = await ask(app, "POST", "/v1/models/m:predict", GOOD)
            change_ring(tmp_path / FILE_NAME, lambda ring: KeyRing())
            after = before
            while after.status == 200:
                await asyncio.sleep(0.05)
                after = await ask(app, "POST", "/v1/models/m:predict", GOOD)
            return [before.status, after.status, (await ask(open_app, "POST", "/v1/models/m:predict", GOOD)).status]

    assert run(work) == [200, 401, 200]
